"""`audiogen info`: describes a manifest, shard folder, model, checkpoint, run or audio file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from audiogen_cli.commands.terminal.options import JsonOption
from audiogen_cli.commands.terminal.tables import print_table
from audiogen_cli.errors import printable


def info(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="A file or folder that audiogen reads or writes; `embedded` is the package's model. Without it, the"
            " models that can be used are listed."
        ),
    ] = None,
    reproduce: Annotated[
        bool, typer.Option("--reproduce", help="Print the command that made a sound instead.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Write a page to listen to a folder of sounds, and print its path instead.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Example: audiogen info data/manifests/esc50.parquet

    Tells what PATH is: a manifest or a folder of them, token shards, a model, a checkpoint, a training run, a sound or
    a folder of sounds.

    \b
    audiogen info out/rain.wav --reproduce
    audiogen info out --report
    audiogen info
    """
    from audiogen_cli.commands.terminal.rendering import to_json
    from audiogen_cli.errors import InputError
    from audiogen_cli.interop.describe import describe

    if path is None:
        if reproduce or report:
            raise InputError("say which: audiogen info FILE --reproduce, or audiogen info FOLDER --report")
        _print_models(json_)
        return
    if reproduce:
        from audiogen_cli.interop.reproduce import find_command

        command, doubts = find_command(path)
        typer.echo(to_json({"command": command, "doubts": doubts}) if json_ else printable(command))
        for doubt in doubts:
            typer.echo(printable(f"note: {doubt}"), err=True)
        return
    if report:
        from audiogen_cli.evaluation.report.audition import write_audition

        typer.echo(write_audition(path))
        return
    facts = describe(path)
    if json_:
        typer.echo(to_json(facts, indent=2))
    else:
        print_table(_rows(facts))


def _print_models(as_json: bool) -> None:
    from audiogen_cli.commands.terminal.rendering import to_json
    from audiogen_cli.interop.models import list_models

    models = list_models(Path())
    if as_json:
        typer.echo(to_json({"type": "models", "models": models}, indent=2))
        return
    head = ("model", "parameters", "size", "memory", "speed", "license")
    print_table(([model[name] for name in head] for model in models), head)
    typer.echo(
        "audiogen generate … --model MODEL; your own: runs and models here, any folder, owner/name on the hub", err=True
    )


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
            yield label, _word(value, key)


def _word(value: Any, name: str = "") -> str:
    if name == "seed":  # to be typed again, so without commas
        return str(value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_word(part, key)}" for key, part in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_word, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return "–" if value is None else f"{value:,}" if isinstance(value, int) and value > 9999 else str(value)
