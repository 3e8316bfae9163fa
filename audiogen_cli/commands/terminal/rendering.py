"""What `generate` and `continue` share: loading the model, showing progress, printing results and failures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from audiogen_cli.lm.config import LMConfig
    from audiogen_cli.lm.generation.generator import Generator
    from audiogen_cli.lm.generation.requests import Job
    from audiogen_cli.lm.generation.writer import Outcome

LONG_SECONDS = 120.0  # of sound drawn, candidates included, from which on the cost is worked out beforehand
LONG_WAIT = 10.0  # seconds of computing from which on it is told


@dataclass(frozen=True)
class How:
    """The flags that say how jobs are run. drawn_seed: the seed, if the user gave none, to be told."""

    device: str = "auto"
    dtype: str = "auto"
    batch_size: int | None = None
    as_json: bool = False
    sidecars: bool = False
    normalize: bool = False
    keep: bool = False  # what an earlier run has finished is not made again
    drawn_seed: int | None = None


def run(jobs: Sequence[Job], folder: Path, config: LMConfig, how: How) -> None:
    """Make every job's file and print the results in order. Raises AudiogenError if any of them failed."""
    import time
    from dataclasses import replace

    from audiogen_cli.commands.terminal.progress import progress_bar
    from audiogen_cli.errors import AudiogenError
    from audiogen_cli.lm.generation.writer import Outcome, load_generator, render_shared
    from audiogen_cli.training.launch import is_main_process

    kept = _find_kept(jobs, folder, config, how) if how.keep else {}
    todo = [job for index, job in enumerate(jobs) if index not in kept]
    replaced = sum(job.output.exists() for job in todo)
    main, outcomes, begun = is_main_process(), [], time.monotonic()
    if todo:
        generator = load_generator(folder, how.device, how.dtype)
        begun = time.monotonic()
        if main:
            _introduce(generator, how, len(kept), replaced)
            _tell_cost(generator, todo, how.batch_size)
    with progress_bar("generating (seconds of sound)") as progress:
        made = iter(
            render_shared(generator, todo, how.batch_size, how.sidecars, how.normalize, progress) if todo else ()
        )
        for index in range(len(jobs)):
            outcome = Outcome(index, kept[index]) if index in kept else replace(next(made), index=index)
            outcomes.append(outcome)
            if main:
                _print(outcome, how.as_json)
    failed = [outcome for outcome in outcomes if outcome.record is None]
    if main:
        new = [(outcome.record, jobs[outcome.index]) for outcome in outcomes if outcome.index not in kept]
        _summarise([(record, job) for record, job in new if record], config.sample_rate, time.monotonic() - begun)
    if failed:
        raise AudiogenError(f"{len(failed)} of {len(jobs)} sounds failed")


def run_stream(job: Job, folder: Path, config: LMConfig, how: How) -> None:
    """Make one job's sound into its growing file, or as raw samples on stdout if that is called `-`.

    The file has its final name and a right header from the first block on, for players that follow it; a run that
    fails or is interrupted removes it.
    """
    import sys
    import time
    from dataclasses import replace

    from audiogen_cli.data.wav_stream import MAX_SAMPLES, GrowingWav, RawPipe
    from audiogen_cli.errors import InputError
    from audiogen_cli.lm.generation.requests import STDOUT
    from audiogen_cli.lm.generation.writer import drop_sidecar, load_generator, render_stream, write_sidecar

    if str(job.output) != STDOUT and job.duration * config.sample_rate > MAX_SAMPLES:
        raise InputError(f"{job.output}: WAV holds at most {_time(MAX_SAMPLES / config.sample_rate)}; use -o -")
    generator = load_generator(folder, how.device, how.dtype)
    _introduce(generator, how, 0, 0)
    job = replace(job, settings=replace(job.settings, candidates=1, layers=1))  # whatever the model would do
    _tell_cost(generator, [job], None)
    begun = time.monotonic()
    if str(job.output) == STDOUT:
        typer.echo(f"sending 16-bit mono samples at {generator.sample_rate} Hz, no header", err=True)
        record = render_stream(generator, job, RawPipe(sys.stdout.buffer))
    else:
        drop_sidecar(job.output)
        with GrowingWav(job.output, generator.sample_rate) as file:
            record = render_stream(generator, job, file)
        if how.sidecars:
            write_sidecar(job.output, record)
        typer.echo(_json(record) if how.as_json else job.output)
    typer.echo(f"first sound after {record['first_sound']:.2f} s", err=True)
    _summarise([(record, job)], config.sample_rate, time.monotonic() - begun)


def _find_kept(jobs: Sequence[Job], folder: Path, config: LMConfig, how: How) -> dict[int, dict[str, Any]]:
    from audiogen_cli.lm.generation.writer import agree, find_finished
    from audiogen_cli.model_folder import fingerprint
    from audiogen_cli.training.launch import is_main_process

    kept = {}
    if is_main_process():
        kept = find_finished(jobs, config.sampling, fingerprint(folder), config.sample_rate, how.normalize)
        if kept:
            typer.echo(
                f"{len(kept)} of {len(jobs)} sounds are there already and kept; --overwrite makes them again", err=True
            )
    return agree(kept)


def _introduce(generator: Generator, how: How, n_kept: int, n_replaced: int) -> None:
    from audiogen_cli.model_folder import license_line

    if how.drawn_seed is not None:
        typer.echo(f"seed: {how.drawn_seed} (--seed {how.drawn_seed} makes the same again)", err=True)
    typer.echo(f"weights {generator.folder.name}: {license_line(generator.licence)}", err=True)
    if how.sidecars and n_replaced:
        typer.echo(f"replacing {_count(n_replaced, 'file')}", err=True)


def _tell_cost(generator: Generator, jobs: Sequence[Job], batch_size: int | None) -> None:
    """Before long work: how much it is, and what happens beyond the trained window."""
    from audiogen_cli.lm.generation.writer import request_of

    new = [job.new_seconds(generator.sample_rate) for job in jobs]
    longest, total = max(job.duration for job in jobs), sum(new)
    n_takes = [generator.count_takes(request_of(job, generator)) for job in jobs]
    drawn = [seconds for seconds, n in zip(new, n_takes, strict=True) for _ in range(n)]
    window = generator.config.max_frames / generator.config.frame_rate
    if longest > window + 0.5:
        typer.echo(
            f"note: trained on {window:g} s; beyond, the model hears its own last {window / 2:g} to {window:g} s",
            err=True,
        )
    if sum(drawn) >= LONG_SECONDS:
        seconds = generator.estimate(drawn, batch_size)
        if seconds >= LONG_WAIT:
            typer.echo(f"{_time(total)} of sound, about {_time(seconds)} of computing on {generator.device}", err=True)


def _print(outcome: Outcome, as_json: bool) -> None:
    if outcome.record is None:
        typer.echo(f"failed: {outcome.failure}", err=True)
    else:
        typer.echo(_json(outcome.record) if as_json else outcome.record["path"])


def _json(record: dict[str, Any]) -> str:
    import json

    return json.dumps(record, ensure_ascii=False)


def _summarise(made: Sequence[tuple[dict[str, Any], Job]], sample_rate: int, seconds: float) -> None:
    """One line for whoever waited: how long it took, how loud it is, what is wrong with it."""
    if not made:
        return
    records, total = [record for record, _ in made], sum(job.new_seconds(sample_rate) for _, job in made)
    what = "new sound" if made[0][1].prompt_audio is not None else "sound"
    speed = f"{_time(total)} of {what} in {_time(seconds)}, {total / max(seconds, 1e-9):.2g} times real time"
    silent, clipped = ([record for record in records if record[name]] for name in ("near_silent", "clipped_samples"))
    if len(records) == 1:
        facts = [speed, _level(records[0])]
        facts += ["nearly silent: try another seed or other words"] if silent else []
        facts += [f"{_count(records[0]['clipped_samples'], 'sample')} clipped"] if clipped else []
    else:
        facts = [f"{_count(len(records), 'sound')}, {speed}"]
        facts += [f"{len(silent)} of {len(records)} nearly silent: try other seeds or words"] if silent else []
        facts += [f"{len(clipped)} of {len(records)} clipped"] if clipped else []
    typer.echo("; ".join(facts), err=True)


def _level(record: dict[str, Any]) -> str:
    peak = f"peak {20 * math.log10(record['peak']):.1f} dBFS" if record["peak"] else "digital silence"
    return peak if record["loudness"] is None else f"{peak}, {record['loudness']:.1f} LUFS"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _time(seconds: float) -> str:
    """Seconds as a person says them: 0.8 s, 45 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
