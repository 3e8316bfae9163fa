"""The output of `audiogen eval`: plain text tables on stdout, notes on stderr."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Interval = Sequence[float]


def table(results: dict[str, Any]) -> str:
    """One row per set of clips, or per cell of the continuation grid; one column per metric, with intervals."""
    title = f"{results['split'] or results['reference']}, {results['n']} clips"
    lines = _grid(results) if results["task"] == "continuation" else _sets(results)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    body = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([title + (", partial" if results["partial"] else ""), *body])


def notes(results: dict[str, Any]) -> list[str]:
    """Warnings, what was skipped, and what the numbers compare with."""
    lines = [f"warning: {warning}" for warning in results["warnings"]]
    skipped = results["skipped"]
    lines += [f"skipped {item['id']}: {item['reason']}" for item in skipped[:10]]
    if len(skipped) > 10:
        lines.append(f"skipped {len(skipped) - 10} more, listed in results.json")
    names = {network["name"] for role in ("classifier", "embedding", "clap") if (network := results.get(role))}
    if names and not results["published"] and not results["details"].get("published"):
        lines.append(f"numbers by {', '.join(sorted(names))} rank runs of one protocol; no published row compares")
    return lines


def _sets(results: dict[str, Any]) -> list[list[str]]:
    intervals, columns = results["intervals"], list(results["metrics"])
    first = "generated" if results["task"] == "generation" else "codec"
    lines = [["", *columns], [first, *(_cell(results["metrics"][name], intervals.get(name)) for name in columns)]]
    for row, values in {**results["baselines"], **results["published"]}.items():
        lines.append([row, *(_cell(values.get(name)) for name in columns)])
    return lines


def _grid(results: dict[str, Any]) -> list[list[str]]:
    """Table 4's rows: text by prompt length; the columns twice, with the prompt in the scored audio and without."""
    cells = {(cell["text"], cell["prompt_seconds"], cell["scored"]): cell for cell in results["details"]["cells"]}
    published = {(cell["text"], cell["prompt_seconds"]): cell for cell in results["details"]["published"]}
    first = next(iter(cells.values()))
    columns = [name for name in first if name not in ("prompt_seconds", "text", "scored", "intervals")]
    groups = ["whole", "continuation", *(["published"] if published else [])]
    lines = [["text", "prompt", *(f"{name} {group}" for group in groups for name in columns)]]
    for text, seconds in dict.fromkeys((text, seconds) for text, seconds, _ in cells):
        rows = [cells[text, seconds, "whole"], cells[text, seconds, "continuation"]]
        if published:
            rows.append(published.get((text, seconds), {}))
        lines.append([text, f"{seconds:g} s", *(_cell(row.get(name)) for row in rows for name in columns)])
    for row, values in results["baselines"].items():
        filled = [_cell(values.get(name)) for name in columns]
        lines.append([row, "", *filled, *["–"] * (len(columns) * (len(groups) - 1))])
    return lines


def _cell(value: float | None, interval: Interval | None = None) -> str:
    if value is None:
        return "–"
    text = f"{value:.4g}"
    return f"{text} [{interval[0]:.3g}, {interval[1]:.3g}]" if interval else text
