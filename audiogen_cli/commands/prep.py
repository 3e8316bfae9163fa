"""`audiogen prep`: turns raw dataset folders into manifests."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiogen_cli.commands.terminal.options import MAX_PROCESSES, JsonOption, split_names
from audiogen_cli.commands.terminal.tables import print_table

if TYPE_CHECKING:
    from audiogen_cli.data.preparation.prep import PrepReport


FEW_HOURS = 1.0  # of training clips, below which the embedded codec and the tiny model are named first


class EngineName(str, Enum):
    """Engines that run prep's work in parallel."""

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
    license_: Annotated[
        str,
        typer.Option("--license", metavar="A,B", help="Keep only clips under these, such as cc0,cc-by. [default: all]"),
    ] = "",
    val: Annotated[
        float,
        typer.Option(metavar="SHARE", min=0, max=0.9, help="Share of --folder's files to validate on. [default: none]"),
    ] = 0.0,
    convert: Annotated[
        Copies | None,
        typer.Option(metavar="flac", help="Write 16 kHz mono FLAC to <out>/<key>.audio; manifests point there."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, max=MAX_PROCESSES, help="Processes. [default: all cores, or the cluster's CPUs]"
        ),
    ] = None,
    engine: Annotated[
        EngineName,
        typer.Option(metavar="NAME", help="processes (of this machine) or ray (cluster at RAY_ADDRESS, else local)."),
    ] = EngineName.processes,
    json_: JsonOption = False,
) -> None:
    """Example: audiogen prep --datasets audiocaps,bbc

    Reads datasets as they were published and writes manifests: name, file, texts and license of each clip.
    Run it again after a change or a stop: it opens only what is new.

    \b
    audiogen prep --folder my-sounds --captions my-sounds.csv --name mine --val 0.1
    audiogen prep --datasets fsd50k --license cc0,cc-by
    audiogen prep --datasets sonniss --convert flac
    """
    import json

    from audiogen_cli.commands.terminal.announce import announce, plan_prep
    from audiogen_cli.commands.terminal.progress import progress_bar
    from audiogen_cli.data.datasets.dataset_folder import DatasetNotFound
    from audiogen_cli.data.preparation.prep import prepare
    from audiogen_cli.errors import AudiogenError, printable
    from audiogen_cli.lock import hold_folder

    keys = split_names(datasets)
    hold_folder(out)
    sources = [*(str(raw / key) for key in keys), *([str(folder)] if folder else [])]
    plan = (sources, out, workers, engine.value, keep_speech, convert is not None)
    try:
        with progress_bar("preparing") as progress:
            reports = prepare(
                *(keys, raw, out, folder, name, captions, keep_speech),
                licenses=split_names(license_),
                val_share=val,
                copies=convert is not None,
                workers=workers,
                engine=engine.value,
                progress=progress,
                begin=lambda total: announce(plan_prep, total, *plan),
            )
    except DatasetNotFound as error:
        if "\n" not in str(error):
            raise
        typer.echo(f"error: {error}\nthen run again: audiogen prep --datasets {datasets}", err=True)
        raise typer.Exit(error.exit_code) from None
    for report in reports:
        for warning in report.warnings:
            typer.echo(printable(f"warning: {warning}"), err=True)
        if report.terms:
            typer.echo(f"license of {report.dataset}: {report.terms}", err=True)
        if json_:
            typer.echo(json.dumps({**vars(report), "manifest": str(report.manifest)}))
        elif not report.failure:
            typer.echo(report.manifest)
    _print_tables(reports)
    if failures := [report.failure for report in reports if report.failure]:
        raise AudiogenError("; ".join(failures))
    for line in _outlook(reports, out, folder is not None, val):
        typer.echo(line, err=True)


def _outlook(reports: list[PrepReport], out: Path, is_folder: bool, val: float) -> Iterator[str]:
    """Say what is in which split, and what follows: for few sounds first what takes minutes."""
    from audiogen_cli.errors import format_seconds

    for report in reports:
        counts = (
            f"{split} {n} clip{'s' * (n != 1)} ({format_seconds(3600 * report.hours[split])})"
            for split, n in report.clips.items()
            if n
        )
        by = ", chosen by file name, the same in every run" if val and report.clips["val"] else ""
        yield f"splits of {report.dataset}: {', '.join(counts)}{by}"
    if not any(report.clips["val"] for report in reports):
        hint = "; --val 0.1 moves a tenth of the files there" if is_folder else ""
        yield f"note: no clip is in val, so training cannot be validated{hint}"
    codec = f"audiogen train-codec --manifests {out} --out runs/codec"
    tokens = f"audiogen tokenize --manifests {out} --codec"
    if sum(report.hours["train"] for report in reports) < FEW_HOURS:
        yield f"next: {tokens} embedded, for a first model in minutes"
        yield f"or a codec of your own: {codec}, then {tokens} runs/codec"
    else:
        yield f"next: {codec}"
        yield f"then: {tokens} runs/codec (or --codec embedded)"


def _print_tables(reports: list[PrepReport]) -> None:
    from audiogen_cli.evaluation.published import TABLE_3

    hours = {key: f"of the paper's {paper:,g} before its filters (Table 3)" for key, paper in TABLE_3.items()}
    kept = [
        (report.dataset, split, str(n), f"{report.hours[split]:.2f}", hours.pop(report.dataset, ""))
        for report in reports
        for split, n in report.clips.items()
        if n
    ]
    lost = [(report.dataset, reason, str(n)) for report in reports for reason, n in report.dropped.items()]
    print_table(kept, ("dataset", "split", "clips", "hours", ""), "kept", err=True)
    if lost:
        print_table(lost, ("dataset", "reason", "items"), "dropped", err=True)
