"""Put the results of diffsound.sh side by side: Markdown on stdout.

python recipes/sweeps/diffsound_table.py OUT
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SECONDS = 5.0  # of a sound whose time is told
COLUMNS = ("decoder", "passes", "steps", "loss", "class hits", "FAD", "KL", "s a sound, alone", "8 at once")


def main() -> None:
    """Print the table."""
    out = Path(sys.argv[1])
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + " --- |" * len(COLUMNS))
    for row in rows(out):
        print("| " + " | ".join(row) + " |")


def rows(out: Path) -> Iterator[tuple[str, ...]]:
    """Yield a row for each evaluation: the autoregressive decoder's, then each schedule's by passes."""
    for folder in sorted(out.iterdir(), key=lambda path: order(path.name)):
        if not (folder / "eval" / "results.json").is_file():
            continue
        name, _, passes = folder.name.partition("-")
        losses = [line for line in read_lines(out / name / "lm" / "metrics.jsonl") if line["kind"] == "val"]
        metrics = read(folder / "eval" / "results.json")["metrics"]
        hits, fad, kl = (first(metrics, key) for key in ("class_hits_top5", "fad_", "kl_"))
        speeds = [read(folder / f"speed-{n}.json") for n in (1, 8)]
        times = [SECONDS * speed["real_time_factor"] for speed in speeds]
        steps, loss = losses[-1]["step"], losses[-1]["loss"]
        shown = "–" if hits is None else f"{hits:.0%}"
        yield (
            name.replace("_", " + "),
            passes or "–",
            f"{steps:,}",
            f"{loss:.2f}",
            shown,
            *("–" if value is None else f"{value:.2f}" for value in (fad, kl, *times)),
        )


def order(name: str) -> tuple[bool, str, int]:
    """Return what a folder is sorted by."""
    kind, _, passes = name.partition("-")
    return kind != "autoregressive", kind, int(passes or 0)


def first(metrics: dict[str, float], prefix: str) -> float | None:
    """Return the first metric whose name begins with `prefix`."""
    return next((value for name, value in metrics.items() if name.startswith(prefix)), None)


def read(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    result: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return result


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the JSON object of each line."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


if __name__ == "__main__":
    main()
