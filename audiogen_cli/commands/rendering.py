"""What `generate` and `continue` share: loading the model, showing progress, printing results and failures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from audiogen_cli.lm.jobs import Job
    from audiogen_cli.lm.render import Outcome


def run(
    jobs: Sequence[Job],
    folder: Path,
    device: str,
    dtype: str,
    batch_size: int | None,
    as_json: bool,
    sidecars: bool,
    drawn_seed: int | None,
) -> None:
    """Make every job's file and print the results in order. Raises AudiogenError if any of them failed.

    drawn_seed: the seed, if the user gave none, to be told.
    """
    from audiogen_cli.commands.progress import progress_bar
    from audiogen_cli.errors import AudiogenError
    from audiogen_cli.interop.model_folder import licence_line
    from audiogen_cli.lm.render import load_generator, render_shared
    from audiogen_cli.training.launch import is_main_process

    replaced = sum(job.output.exists() for job in jobs)
    generator = load_generator(folder, device, dtype)
    main = is_main_process()
    if main:
        if drawn_seed is not None:
            typer.echo(f"seed: {drawn_seed} (--seed {drawn_seed} makes the same again)", err=True)
        typer.echo(f"weights {folder.name}: {licence_line(generator.licence)}", err=True)
        if sidecars and replaced:
            typer.echo(f"replacing {replaced} files", err=True)
    failed = silent = 0
    with progress_bar("generating") as progress:
        for done, outcome in enumerate(render_shared(generator, jobs, batch_size, sidecars), 1):
            if main:
                progress(done, len(jobs))
                _print(outcome, as_json)
            failed += outcome.record is None
            silent += bool(outcome.record and outcome.record["near_silent"])
    if main and silent:
        typer.echo(f"note: {silent} of {len(jobs)} sounds are nearly silent; try another seed", err=True)
    if failed:
        raise AudiogenError(f"{failed} of {len(jobs)} sounds failed")


def _print(outcome: Outcome, as_json: bool) -> None:
    import json

    if outcome.record is None:
        typer.echo(f"failed: {outcome.failure}", err=True)
    else:
        typer.echo(json.dumps(outcome.record, ensure_ascii=False) if as_json else outcome.record["path"])
