"""`audiogen eval --task listening`: makes a test for human raters and scores their ratings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from audiogen_cli.commands.terminal.progress import progress_bar
from audiogen_cli.commands.terminal.tables import print_table, shorten
from audiogen_cli.errors import InputError, printable

if TYPE_CHECKING:
    from audiogen_cli.evaluation.config import EvalConfig

LISTENING = "listening"


def prepare_listening(config: EvalConfig, systems: Sequence[str], as_json: bool, report: bool = False) -> int:
    """Write a listening test and say what to do with it; return the exit code."""
    from audiogen_cli.evaluation.listening.stimuli import ListeningConfig, prepare
    from audiogen_cli.lock import hold_folder

    if report:
        raise InputError("--report shows ratings, and there are none yet: give it with --score")
    folders = _systems(systems)
    if config.generated is not None:
        folders["generated"] = config.generated
    listening = ListeningConfig(config, folders, with_model=config.model is not None or not folders)
    hold_folder(config.out)
    with progress_bar("preparing") as progress:
        prepared = prepare(listening, progress)
    print(json.dumps(asdict(prepared), indent=2, default=str) if as_json else prepared.page)
    for line in [
        *(f"warning: {warning}" for warning in shorten(prepared.warnings)),
        *shorten([f"skipped {item.id}: {item.reason}" for item in prepared.skipped]),
        f"{prepared.n} of {prepared.n_available} clips, {prepared.minutes:.0f} minutes of sound for each rater",
        f"send {prepared.page.parent} to raters; keep {prepared.plan}, the key to the blind names",
        f"next: audiogen eval --task listening --score FOLDER-OF-RATINGS --out {prepared.plan.parent}",
    ]:
        typer.echo(printable(line), err=True)
    return 1 if prepared.skipped else 0


def score_listening(files: Sequence[Path], rule: str, out: Path | None, seed: int, as_json: bool, report: bool) -> int:
    """Score rating files and print a row per system; return the exit code."""
    from audiogen_cli.evaluation.listening.rater_filters import ReferenceRule
    from audiogen_cli.evaluation.listening.scores import results_folder, score
    from audiogen_cli.lock import hold_folder

    folder = results_folder(files, out)
    if report and folder is None:
        raise InputError("--report needs --out FOLDER: there is no plan.json beside these ratings")
    if folder:
        hold_folder(folder)
    results = score(files, ReferenceRule.parse(rule), out, seed)
    if as_json:
        print(json.dumps(results, indent=2))
    else:
        _print_tables(results)
    for line in _notes(results):
        typer.echo(printable(line), err=True)
    if report and folder is not None:
        show_report(folder)
    return 1 if results["skipped"] else 0


def show_report(folder: Path) -> int:
    """Write a folder's report and say where it is; return the exit code."""
    from audiogen_cli.evaluation.report.page import write_report

    typer.echo(f"report: {write_report(folder)}", err=True)
    return 0


def _systems(options: Sequence[str]) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for option in options:
        name, separator, folder = option.partition("=")
        if not (name and separator and folder):
            raise InputError(f"--system {option}: write it as NAME=FOLDER, such as --system diffsound=out/diffsound")
        if name in folders:
            raise InputError(f"--system {name} is given twice")
        folders[name] = Path(folder)
    return folders


def _print_tables(results: dict[str, Any]) -> None:
    from audiogen_cli.evaluation.tables import rating_tables

    for question, detail in results["details"].items():
        before, after = detail["raters"]["before"], detail["raters"]["after"]
        typer.echo(f"{question.upper()}: {results['split'] or 'ratings'}, {after} of {before} raters")
        for table in rating_tables(detail):
            print_table(table.rows, table.head)


def _notes(results: dict[str, Any]) -> list[str]:
    notes = [f"warning: {warning}" for warning in results["warnings"]]
    for question, detail in results["details"].items():
        dropped = [
            f"{question}: dropped {item['rater']}{', ' + item['item'] if item['item'] else ''}"
            f" ({item['ratings']} ratings): {item['rule']}: {item['value']}"
            for item in detail["dropped"]
        ]
        notes += [*shorten(dropped), *shorten([f"{question}: {flag}" for flag in detail["flags"]])]
    return notes + shorten([f"skipped {item['id']}: {item['reason']}" for item in results["skipped"]])
