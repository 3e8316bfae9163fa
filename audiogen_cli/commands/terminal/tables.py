"""Tables and lists on the terminal; a pipe gets one line a row, whatever its length."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import astuple

import typer

from audiogen_cli.errors import printable

SHOWN = 10  # lines of a list


def print_table(rows: Iterable[Sequence[str]], head: Sequence[str] = (), title: str = "", err: bool = False) -> None:
    """Print rows in columns, below their names and a title if there are any. err: on stderr."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(*(Column(Text(name)) for name in head), box=None, padding=(0, 2, 0, 0), show_header=bool(head))
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console = Console(stderr=err)
    if title:
        typer.echo(title, err=err)
    if console.is_terminal:
        console.print(table)
        return
    console.width = sys.maxsize
    with console.capture() as captured:
        console.print(table)
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()), err=err)


def shorten(lines: Sequence[str]) -> list[str]:
    """Keep the first lines of a list, and say how many are left out."""
    return [*lines] if len(lines) <= SHOWN else [*lines[:SHOWN], f"… and {len(lines) - SHOWN} more"]


def print_settings(config_class: type, recipe: str) -> None:
    """Print every setting that a recipe, or `--set`, may change."""
    from audiogen_cli.training.settings import list_settings

    head = ("setting", "type", "default", "what it is", "source")
    print_table((astuple(each) for each in list_settings(config_class, recipe)), head)
