"""The parts of a report: sections with tables, figures and sounds; and the tables that every task shares."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FINDINGS = frozenset(
    ["metrics", "baselines", "intervals", "details", "warnings", "skipped", "published", "n", "n_available", "partial"]
)
ABBREVIATIONS = frozenset(["fad", "fd", "kl", "is", "clap", "si", "snr", "ovl", "rel", "src", "rnd"])
NOTHING = 1e-9  # what is below is a rounding error


@dataclass(frozen=True)
class Table:
    """Rows of cells, the first of each its name. folded: shown only when asked for."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False


@dataclass(frozen=True)
class Figure:
    """A picture inside the page. alt: what it shows, for those who do not see it."""

    uri: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Player:
    """A sound. uri: None where it was left out, `note` says why."""

    label: str
    uri: str | None
    note: str = ""


@dataclass(frozen=True)
class Sample:
    """A text with its sounds beside it."""

    text: str
    note: str
    players: Sequence[Player]
    figure: Figure | None = None


@dataclass(frozen=True)
class Section:
    """A part of the page. text: paragraphs."""

    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    samples: Sequence[Sample] = field(default=())


def metric_table(results: Mapping[str, Any]) -> Table:
    """One row per set of clips, the scored one first, with its intervals."""
    columns = list(results["metrics"])
    intervals = results["intervals"]
    first = {"codec": "codec"}.get(results["task"], "generated")
    rows = [[first, *(cell(results["metrics"][name], intervals.get(name)) for name in columns)]]
    for row, values in {**results["baselines"], **results.get("published", {})}.items():
        rows.append([row, *(cell(values.get(name)) for name in columns)])
    return Table("Metrics, with 95% intervals over clips", ["", *map(readable, columns)], rows)


def dependence_table(results: Mapping[str, Any]) -> Table:
    """Everything the numbers depend on, as results.json has it."""
    facts = {name: value for name, value in results.items() if name not in FINDINGS}
    return Table("Inputs and settings", ["", "value"], [[name, plain(value)] for name, value in flatten(facts)])


def skipped_tables(results: Mapping[str, Any], most: int = 200) -> list[Table]:
    """Clips that are in no number, with their reasons."""
    skipped = results["skipped"]
    if not skipped:
        return []
    left = f", the first {most}" if len(skipped) > most else ""
    rows = [[item["id"], item["reason"]] for item in skipped[:most]]
    return [Table(f"{len(skipped)} clips left out{left}", ["clip", "reason"], rows, folded=len(rows) > 10)]


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested dicts as (dotted name, value); a list is a leaf."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flatten(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def cell(value: float | None, interval: Sequence[float] | None = None) -> str:
    """A number for a table."""
    if value is None or not math.isfinite(value):
        return "–"
    return ("0" if abs(value) < NOTHING else f"{value:.4g}") + (
        f" [{interval[0]:.3g}, {interval[1]:.3g}]" if interval else ""
    )


def plain(value: Any) -> str:
    """A setting for a table."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        shown = ", ".join(map(plain, value[:20]))
        return shown + (f", … ({len(value)} in all)" if len(value) > 20 else "")
    return str(value)


def readable(name: str) -> str:
    """A metric's name as a person writes it: `kl_yamnet` → `KL yamnet`."""
    return " ".join(word.upper() if word in ABBREVIATIONS else word for word in name.replace("_", " ").split())
