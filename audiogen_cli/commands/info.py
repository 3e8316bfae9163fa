"""`audiogen info`: describes a manifest, shard folder, model, checkpoint, run or audio file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from audiogen_cli.commands.terminal.options import JsonOption
from audiogen_cli.commands.terminal.tables import print_table


def info(
    path: Annotated[
        Path, typer.Argument(help="A file or folder that audiogen reads or writes; `embedded` is the package's model.")
    ],
    json_: JsonOption = False,
) -> None:
    """Example: audiogen info data/manifests/esc50.parquet

    Tells what PATH is: a manifest or a folder of them, token shards, a model, a checkpoint, a training run, or audio.
    """
    from audiogen_cli.commands.terminal.rendering import to_json
    from audiogen_cli.interop.describe import describe

    facts = describe(path)
    if json_:
        typer.echo(to_json(facts, indent=2))
    else:
        print_table(_rows(facts))


def _rows(facts: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield labels and values; a dict of dicts or a list of dicts takes a row for each."""
    for key, value in facts.items():
        label = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, dict) and any(isinstance(part, dict) for part in value.values()):
            yield from _rows(value, f"{label}: ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for number, part in enumerate(value, 1):
                yield from _rows({f"{key} {number}": part}, prefix)
        else:
            yield label, _word(value)


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_word(part)}" for key, part in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_word, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return "–" if value is None else f"{value:,}" if isinstance(value, int) and value > 9999 else str(value)
