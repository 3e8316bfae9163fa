"""The parts of a report: sections with tables, figures and sounds; inputs and left-out clips as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from audiogen_cli.evaluation.tables import Table

FINDINGS = frozenset(
    ["metrics", "baselines", "intervals", "details", "warnings", "skipped", "published", "n", "n_available", "partial"]
) | {"run", "reused"}  # how a run went; older files have the latter beside their inputs
ABBREVIATIONS = frozenset(["fad", "fd", "kl", "is", "clap", "si", "snr", "ovl", "rel", "src", "rnd"])


@dataclass(frozen=True)
class Figure:
    """A picture inside the page. alt: what it shows, for those who do not see it."""

    uri: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Player:
    """A sound. uri: None where it was left out, `note` says why. picture: its mel spectrogram, if it has one."""

    label: str
    uri: str | None
    note: str = ""
    picture: str | None = None


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


def dependence_table(results: Mapping[str, Any]) -> Table:
    """Return everything the numbers depend on, as results.json has it."""
    facts = {name: value for name, value in results.items() if name not in FINDINGS}
    return Table("Inputs and settings", ["", "value"], [[name, plain(value)] for name, value in flatten(facts)])


def skipped_tables(results: Mapping[str, Any], most: int = 200) -> list[Table]:
    """Return the clips that are in no number, with their reasons."""
    skipped = results["skipped"]
    if not skipped:
        return []
    left = f", the first {most}" if len(skipped) > most else ""
    rows = [[item["id"], item["reason"]] for item in skipped[:most]]
    return [Table(f"{len(skipped)} clips left out{left}", ["clip", "reason"], rows, folded=len(rows) > 10)]


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested dicts as (dotted name, value); a list is a leaf."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flatten(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def plain(value: Any) -> str:
    """Write a setting for a table."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        shown = ", ".join(map(plain, value[:20]))
        return shown + (f", … ({len(value)} in all)" if len(value) > 20 else "")
    return str(value)


def readable(name: str) -> str:
    """Write a metric's name as a person does: `kl_yamnet` → `KL yamnet`."""
    return " ".join(word.upper() if word in ABBREVIATIONS else word for word in name.replace("_", " ").split())
