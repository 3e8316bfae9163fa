"""Tables of results, for the report and the terminal alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOTHING = 1e-9  # what is below is a rounding error
TEXTS = {"src": "own text (SRC)", "none": "no text", "rnd": "another clip's text (RND)"}
CELL_FACTS = ("prompt_seconds", "text", "scored", "intervals")
Results = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows of cells, the first of each its name. folded: shown only when asked for."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False


def metric_table(results: Results) -> Table:
    """Return one row per set of clips, the scored one first, with its intervals."""
    columns = list(results["metrics"])
    first = "codec" if results["task"] == "codec" else "generated"
    rows = [[first, *(cell(results["metrics"][name], results["intervals"].get(name)) for name in columns)]]
    sets = {**results["baselines"], **results.get("published", {})}
    rows += [[name, *(cell(values.get(column)) for column in columns)] for name, values in sets.items()]
    return Table("Metrics, with 95% intervals over clips", ["", *columns], rows)


def grid_columns(results: Results) -> list[str]:
    """List the metrics of a continuation."""
    return [name for name in results["details"]["cells"][0] if name not in CELL_FACTS]


def grid_tables(results: Results) -> list[Table]:
    """Return Table 4's cells, the published ones last, and the baselines of a continuation."""
    cells, published = results["details"]["cells"], results["details"].get("published") or []
    columns = grid_columns(results)
    rows = [
        [TEXTS.get(row["text"], row["text"]), f"{row['prompt_seconds']:g} s", row["scored"],
         *(cell(row.get(name), row["intervals"].get(name)) for name in columns)]
        for row in [*cells, *({"scored": "published", "intervals": {}} | row for row in published)]
    ]  # fmt: skip
    baselines = [[name, *(cell(row.get(column)) for column in columns)] for name, row in results["baselines"].items()]
    return [
        Table("The grid, with 95% intervals over clips", ["text", "prompt", "scored", *columns], rows),
        *([Table("What the numbers would be without a model", ["", *columns], baselines)] if baselines else []),
    ]


def rating_tables(detail: Mapping[str, Any]) -> list[Table]:
    """Return a listening question's scores and differences: papers print the plain interval, CrowdMOS its own."""
    rows = [
        [name, cell(row["mean"]), fixed(row["ci95"]), fixed(row["crowdmos_ci95"]), cell(row["mean_before"]),
         *(str(row[key]) for key in ("ratings", "raters", "items"))]
        for name, row in detail["systems"].items()
    ]  # fmt: skip
    head = ["", "mean", "± 95% CI", "± CrowdMOS", "mean of all raters", "ratings", "raters", "items"]
    published = [[name, cell(mean), fixed(ci)] for name, (mean, ci) in detail.get("published", {}).items()]
    pairs = [[pair, cell(found["mean"], found["ci95"])] for pair, found in detail["differences"].items()]
    caption = "Paired differences, with 95% bootstrap intervals"
    return [
        Table("Scores from 1 to 100", head, rows),
        *([Table("The paper's, by other raters", head[:3], published)] if published else []),
        *([Table(caption, ["systems", "difference"], pairs)] if pairs else []),
    ]


def cell(value: float | None, interval: Sequence[float] | None = None) -> str:
    """Write a number and its interval with three digits; a whole number above 100 with all of them."""
    if value is None or not math.isfinite(value):
        return "–"
    return _digits(value) + (f" [{_digits(interval[0])}, {_digits(interval[1])}]" if interval else "")


def _digits(value: float) -> str:
    return "0" if abs(value) < NOTHING else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def fixed(value: float | None) -> str:
    """Write a number with two decimals."""
    return "–" if value is None else f"{value:.2f}"
