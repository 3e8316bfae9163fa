"""Put the results of run.sh beside the paper's, and say which of the paper's orderings hold: Markdown on stdout.

python recipes/paper/table.py OUT
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from audiogen_cli.evaluation.published import TABLE_4

CODECS = ("x32", "x64", "x128")
# The paper's Table 2, on AudioCaps: SI-SNR, ViSQOL, kbit/s (of 1024 bits), FAD, KL and speed-up of base.
TABLE_2 = {
    "x32": (5.1, 3.95, 5.37, 3.13, 2.09, 1.0),
    "x64": (4.5, 3.94, 4.88, 10.35, 2.17, 2.0),
    "x128": (4.2, 3.91, 4.39, 9.68, 2.36, 5.1),
}
TABLE_1 = {"0": (2.84, 2.14), "1": (3.13, 2.09)}  # mixed copies → FAD, KL of base


def main() -> None:
    """Print the tables."""
    out = Path(sys.argv[1])
    streams = {codec: read_streams(out / "streams" / codec) for codec in CODECS}
    guidance = {path.name.split("-")[1]: read_scores(path) for path in sorted((out / "guidance").glob("guidance-*"))}
    mixing = {n: {key: read_scores(out / "mixing" / f"mix-{n}" / key) for key in ("eval", "eval-pairs")} for n in "01"}
    cells = read(out / "continuation")["details"]["cells"]

    print("## Table 2: streams (paper / here)\n")
    names = ("SI-SNR, dB", "ViSQOL", "kbit/s ÷ 1.024", "FAD", "KL", "speed-up")
    base = streams["x32"][5]
    for codec, (*numbers, speed) in streams.items():
        streams[codec] = (*numbers, speed / base)
    print_table(["codec", *names], ([codec, *map(beside, TABLE_2[codec], streams[codec])] for codec in CODECS))
    print("\n## Figure 3: guidance (here)\n")
    print_table(["guidance", "FAD", "KL"], ([g, *map(show, scores)] for g, scores in guidance.items()))
    print("\n## Table 1: mixing (paper / here)\n")
    rows = ([n, *map(beside, TABLE_1[n], mixing[n]["eval"]), *map(show, mixing[n]["eval-pairs"])] for n in "01")
    print_table(["mixed copies", "FAD", "KL", "FAD of pairs", "KL of pairs"], rows)
    print("\n## Table 4: continuation, KL against the clip that is continued (paper / here)\n")
    print_table(["text", *(f"{s:g} s" for s in TABLE_4["src"])], continuation_rows(cells))
    print("\n## The paper's orderings\n")
    for ordering, holds in orderings(streams, guidance, mixing, cells):
        print(f"- {ordering}: {'not measured' if holds is None else 'holds' if holds else 'does not hold'}")


def read(folder: Path) -> dict[str, Any]:
    """Read an evaluation's results.json."""
    results: dict[str, Any] = json.loads((folder / "results.json").read_text("utf-8"))
    return results


def read_scores(folder: Path) -> tuple[float | None, float | None]:
    """Return FAD and KL, by whichever networks they were measured."""
    return tuple(first(read(folder)["metrics"], prefix) for prefix in ("fad_", "kl_"))  # type: ignore[return-value]


def first(metrics: dict[str, float | None], prefix: str) -> float | None:
    """Return the first metric whose name begins with `prefix`."""
    return next((value for name, value in metrics.items() if name.startswith(prefix)), None)


def read_streams(run: Path) -> tuple[float | None, ...]:
    """Return a row of Table 2; in place of the speed-up a speed: seconds of sound per second of computing."""
    codec = read(run / "codec-eval")["metrics"]
    speed = 1 / json.loads((run / "speed.json").read_text("utf-8"))["real_time_factor"]
    kbps = codec.get("kbps")
    paper_kbps = None if kbps is None else kbps / 1.024
    return (codec.get("si_snr"), codec.get("visqol"), paper_kbps, *read_scores(run / "lm-eval"), speed)


def continuation_rows(cells: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    """Yield a row of Table 4 for each kind of text."""
    for text, published in TABLE_4.items():
        yield [text, *(beside(published[s][1], kl_of(cells, text, s)) for s in published)]


def kl_of(cells: Sequence[dict[str, Any]], text: str, seconds: float) -> float | None:
    """Return the KL against the continued clip of one cell of Table 4."""
    cell = next((each for each in cells if each["text"] == text and each["prompt_seconds"] == seconds), {})
    return next((value for name, value in cell.items() if name.startswith("kl_") and name.endswith("_src")), None)


def orderings(streams: Any, guidance: Any, mixing: Any, cells: Any) -> Iterator[tuple[str, bool | None]]:
    """Yield each ordering that the paper reports, and whether it holds here; None: it was not measured."""
    yield "SI-SNR: x32 above x64 above x128", ordered([streams[codec][0] for codec in CODECS])
    yield "FAD of one stream is best", ordered([-streams["x32"][3], -min(streams["x64"][3], streams["x128"][3])])
    fads = {g: scores[0] for g, scores in guidance.items()}
    yield "guidance 3 is best in FAD", fads["3"] == min(fads.values()) if "3" in fads else None
    yield "mixing is better on two sounds, in KL", ordered([mixing[n]["eval-pairs"][1] for n in "01"])
    spread = {s: difference(kl_of(cells, "none", s), kl_of(cells, "src", s)) for s in (0.5, 4.0)}
    yield "the text matters less as the prompt grows, in KL", ordered([spread[0.5], spread[4.0]])


def ordered(values: Sequence[float | None]) -> bool | None:
    """Tell whether values fall; None if one is missing."""
    if any(value is None for value in values):
        return None
    return all(a > b for a, b in itertools.pairwise(values))  # type: ignore[operator]


def difference(a: float | None, b: float | None) -> float | None:
    """Subtract what is there."""
    return None if a is None or b is None else a - b


def beside(published: float | None, measured: float | None) -> str:
    """Show the paper's number and ours."""
    return f"{show(published)} / {show(measured)}"


def show(value: float | None) -> str:
    """Show a number, or that there is none."""
    return "–" if value is None else f"{value:.2f}"


def print_table(header: Sequence[str], rows: Iterator[list[str]] | Sequence[list[str]]) -> None:
    """Print a Markdown table."""
    print(f"| {' | '.join(header)} |\n| {' | '.join('---' for _ in header)} |")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
