"""`audiogen prep`: raw dataset folders → manifests."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiogen_cli.commands.terminal.options import JsonOption, split_names

if TYPE_CHECKING:
    from audiogen_cli.data.preparation.prep import PrepReport


class EngineName(str, Enum):
    """What runs prep's work in parallel."""

    processes = "processes"
    ray = "ray"


class Copies(str, Enum):
    """Formats that prep can convert a dataset to."""

    flac = "flac"


def prep(
    datasets: Annotated[
        str,
        typer.Option(metavar="A,B", help="Dataset keys; each is read from its folder <raw>/<key>.", show_default=False),
    ] = "",
    raw: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder that holds the dataset folders.")] = Path(
        "data/raw"
    ),
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the manifests.")] = Path("data/manifests"),
    folder: Annotated[Path | None, typer.Option(metavar="FOLDER", help="A folder of your own sounds.")] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What to call them. [default: the folder's name]")
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="CSV with header file,caption[,split] or tag,caption: texts to add."),
    ] = None,
    keep_speech: Annotated[
        bool, typer.Option("--keep-speech", help="Keep training clips whose text mentions speech.")
    ] = False,
    convert: Annotated[
        Copies | None,
        typer.Option(metavar="flac", help="Write 16 kHz mono FLAC to <out>/<key>.audio; manifests point there."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Processes. [default: all cores, or the cluster's CPUs]")
    ] = None,
    engine: Annotated[
        EngineName,
        typer.Option(metavar="NAME", help="processes (of this machine) or ray (cluster at RAY_ADDRESS, else local)."),
    ] = EngineName.processes,
    json_: JsonOption = False,
) -> None:
    """Example: audiogen prep --datasets audiocaps,bbc

    Reads datasets as they were published and writes manifests: what each clip is called, where it is, what it says.
    Run it again after a change or a stop: it opens only what is new.

    \b
    audiogen prep --folder my-sounds --captions my-sounds.csv --name mine
    audiogen prep --datasets sonniss --convert flac
    """
    import json

    from audiogen_cli.commands.terminal.progress import progress_bar
    from audiogen_cli.data.preparation.prep import prepare
    from audiogen_cli.errors import AudiogenError

    keys = split_names(datasets)
    with progress_bar("preparing") as progress:
        reports = prepare(
            *(keys, raw, out, folder, name, captions, keep_speech),
            copies=convert is not None,
            workers=workers,
            engine=engine.value,
            progress=progress,
        )
    for report in reports:
        for warning in report.warnings:
            typer.echo(f"warning: {warning}", err=True)
        if report.terms:
            typer.echo(f"licence of {report.dataset}: {report.terms}", err=True)
        if json_:
            typer.echo(json.dumps({**vars(report), "manifest": str(report.manifest)}))
        elif not report.failure:
            typer.echo(report.manifest)
    _print_table(reports)
    if failures := [report.failure for report in reports if report.failure]:
        raise AudiogenError("; ".join(failures))
    typer.echo(f"next: audiogen tokenize --manifests {out}, or audiogen train-codec --manifests {out}", err=True)


def _print_table(reports: list[PrepReport]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("dataset", "split", "clips", "hours", title="kept")
    lost = Table("dataset", "reason", "items", title="dropped")
    for report in reports:
        for split in filter(report.clips.get, report.clips):
            table.add_row(report.dataset, split, str(report.clips[split]), f"{report.hours[split]:.2f}")
        for reason, count in report.dropped.items():
            lost.add_row(report.dataset, reason, str(count))
    console = Console(stderr=True)
    console.print(table)
    if lost.row_count:
        console.print(lost)
