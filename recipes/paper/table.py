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

from audiogen_cli.evaluation.published import TABLE_1, TABLE_2, TABLE_2_GENERATION, TABLE_4, find_metric

CODECS = {"x32": ("x32, 1 stream", 1), "x64": ("x64, 2 streams", 2), "x128": ("x128, 4 streams", 4)}
MIXING = {"0": "AudioGen-base, no mixing", "1": "AudioGen-base"}  # mixed copies → the paper's name


def main() -> None:
    """Print the tables."""
    out = Path(sys.argv[1])
    streams = {codec: read_streams(out / "streams" / codec) for codec in CODECS}
    guidance = {path.name.split("-")[1]: read_scores(path) for path in sorted((out / "guidance").glob("guidance-*"))}
    mixing = {
        n: {key: read_scores(out / "mixing" / f"mix-{n}" / key) for key in ("eval", "eval-pairs")} for n in MIXING
    }
    cells = read(out / "continuation")["details"]["cells"]

    print("## Table 2: streams (paper / here)\n")
    names = ("kbit/s ÷ 1.024", "SI-SNR, dB", "ViSQOL", "FAD", "KL", "speed-up")
    base = streams["x32"][5]
    for codec, (*numbers, speed) in streams.items():
        streams[codec] = (*numbers, speed / base)
    paper = {codec: (*TABLE_2[name], *TABLE_2_GENERATION["base", n]) for codec, (name, n) in CODECS.items()}
    print_table(["codec", *names], ([codec, *map(beside, paper[codec], streams[codec])] for codec in CODECS))
    print("\n## Figure 3: guidance (here)\n")
    print_table(["guidance", "FAD", "KL"], ([g, *map(show, scores)] for g, scores in guidance.items()))
    print("\n## Table 1: mixing (paper / here)\n")
    rows = (
        [n, *map(beside, TABLE_1[name][2:], mixing[n]["eval"]), *map(show, mixing[n]["eval-pairs"])]
        for n, name in MIXING.items()
    )
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
    return tuple(find_metric(read(folder)["metrics"], name) for name in ("fad", "kl"))  # type: ignore[return-value]


def read_streams(run: Path) -> tuple[Any, ...]:
    """Return a row of Table 2; in place of the speed-up a speed: seconds of sound per second of computing."""
    codec = read(run / "codec-eval")["metrics"]
    speed = 1 / json.loads((run / "speed.json").read_text("utf-8"))["real_time_factor"]
    return (*map(codec.get, ("paper_kbps", "si_snr", "visqol")), *read_scores(run / "lm-eval"), speed)


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
    yield "SI-SNR: x32 above x64 above x128", ordered([streams[codec][1] for codec in CODECS])
    yield "FAD of one stream is best", lowest({codec: streams[codec][3] for codec in CODECS}, "x32")
    yield "guidance 3 is best in FAD", lowest({g: scores[0] for g, scores in guidance.items()}, "3")
    yield "mixing is better on two sounds, in KL", ordered([mixing[n]["eval-pairs"][1] for n in MIXING])
    spread = {s: difference(kl_of(cells, "none", s), kl_of(cells, "src", s)) for s in (0.5, 4.0)}
    yield "the text matters less as the prompt grows, in KL", ordered([spread[0.5], spread[4.0]])


def ordered(values: Sequence[float | None]) -> bool | None:
    """Tell whether values fall; None if one is missing."""
    if any(value is None for value in values):
        return None
    return all(a > b for a, b in itertools.pairwise(values))  # type: ignore[operator]


def lowest(values: dict[str, float | None], name: str) -> bool | None:
    """Tell whether one of several values is below all others; None if it or they are missing."""
    others = [value for other, value in values.items() if other != name and value is not None]
    return ordered([min(others, default=None), values.get(name)])


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
