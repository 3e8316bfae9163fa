"""Put the results of diffsound.sh side by side: Markdown on stdout.

python recipes/sweeps/diffsound_table.py OUT
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from audiogen_cli.evaluation.published import find_metric

SECONDS = 5.0  # of a sound whose time is told
COLUMNS = ("decoder", "passes", "steps", "loss", "class hits", "FAD", "KL")


def main() -> None:
    """Print the table."""
    out = Path(sys.argv[1])
    batches = sorted({int(path.stem.partition("-")[2]) for path in out.glob("*/speed-*.json")})
    columns = (*COLUMNS, *("s a sound, alone" if n == 1 else f"{n} at once" for n in batches))
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns))
    for row in rows(out, batches):
        print("| " + " | ".join(row) + " |")


def rows(out: Path, batches: Sequence[int]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each evaluation: the autoregressive decoder's, then each schedule's by passes."""
    for folder in sorted(out.iterdir(), key=lambda path: order(path.name)):
        if not (folder / "eval" / "results.json").is_file():
            continue
        name, _, passes = folder.name.partition("-")
        losses = [line for line in read_lines(out / name / "lm" / "metrics.jsonl") if line["kind"] == "val"]
        metrics = read(folder / "eval" / "results.json")["metrics"]
        hits, fad, kl = (find_metric(metrics, name) for name in ("class_hits_top5", "fad", "kl"))
        speeds = [folder / f"speed-{n}.json" for n in batches]
        times = [SECONDS * read(path)["real_time_factor"] if path.is_file() else None for path in speeds]
        steps, loss = (losses[-1]["step"], losses[-1]["loss"]) if losses else (None, None)
        yield (
            name.replace("_", " + "),
            passes or "–",
            *map(show, (steps, loss, hits), (",", ".2f", ".0%")),
            *(show(value, ".2f") for value in (fad, kl, *times)),
        )


def show(value: float | None, form: str) -> str:
    """Show a number, or that there is none."""
    return "–" if value is None else format(value, form)


def order(name: str) -> tuple[bool, str, int]:
    """Return what a folder is sorted by."""
    kind, _, passes = name.partition("-")
    return kind != "autoregressive", kind, int(passes or 0)


def read(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    result: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return result


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the JSON object of each line."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


if __name__ == "__main__":
    main()
