"""Runs jobs through a generator: writes sounds and sidecars, survives failures, shares work between processes."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiogen_cli.data.audio import measure, write_audio
from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.files import write_text
from audiogen_cli.interop.model_folder import licence_line
from audiogen_cli.lm.jobs import Job

if TYPE_CHECKING:
    from audiogen_cli.lm.generator import Generator


@dataclass(frozen=True)
class Outcome:
    """What became of a job. index: its place in the list; record: its sidecar's content; failure: why there is none."""

    index: int
    record: dict[str, Any] | None = None
    failure: str | None = None


def render(
    generator: Generator, jobs: Sequence[Job], batch_size: int | None = None, sidecars: bool = False
) -> Iterator[Outcome]:
    """Generate and write every job; yields outcomes in the order of `jobs`, each as soon as it can.

    Files are written when their sound is ready, which may be out of order. One that cannot be written, or jobs left
    over when the device runs out of memory, become failures. InputError from the generator is passed on.
    """
    waiting: dict[int, Outcome] = {}
    following = 0
    for outcome in _outcomes(generator, jobs, batch_size, sidecars):
        waiting[outcome.index] = outcome
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def render_shared(
    generator: Generator, jobs: Sequence[Job], batch_size: int | None = None, sidecars: bool = False
) -> Iterator[Outcome]:
    """`render`, dealing the jobs out among the processes of an accelerate launch; each yields every outcome, in order.

    With one process an outcome comes as soon as it can; with several, all come at the end.
    """
    if _n_processes() == 1:
        yield from render(generator, jobs, batch_size, sidecars)
        return
    from accelerate import PartialState
    from accelerate.utils import gather_object

    own = range(PartialState().process_index, len(jobs), _n_processes())
    outcomes = render(generator, [jobs[index] for index in own], batch_size, sidecars)
    gathered = gather_object([replace(outcome, index=own[outcome.index]) for outcome in outcomes])
    yield from sorted(gathered, key=lambda outcome: outcome.index)


def load_generator(folder: Path, device: str, dtype: str) -> Generator:
    """`Generator.load`; in an accelerate launch `auto` is this process's own device."""
    from audiogen_cli.lm.generator import Generator

    if device == "auto" and _n_processes() > 1:
        from accelerate import PartialState

        device = str(PartialState().device)
    return Generator.load(folder, device=device, dtype=dtype)


def choose_seed() -> int:
    """A random seed, the same in every process of an accelerate launch."""
    seed = [secrets.randbelow(2**31)]
    if _n_processes() > 1:
        from accelerate import PartialState
        from accelerate.utils import broadcast_object_list

        PartialState()  # connects the processes
        broadcast_object_list(seed)
    return seed[0]


def _n_processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _outcomes(generator: Generator, jobs: Sequence[Job], batch_size: int | None, sidecars: bool) -> Iterator[Outcome]:
    import torch

    from audiogen_cli.lm.generator import Request

    requests = [
        Request(job.text, job.seed, job.duration, job.settings.over(generator.sampling), job.prompt_audio)
        for job in jobs
    ]
    left = dict.fromkeys(range(len(jobs)))
    try:
        for index, wav in generator.generate(requests, batch_size):
            del left[index]
            yield _write(generator, jobs[index], index, wav, sidecars)
    except InputError:
        raise
    except (AudiogenError, torch.OutOfMemoryError) as error:
        reason = str(error) if isinstance(error, AudiogenError) else "out of memory: lower --batch-size or --duration"
        for index in left:
            yield Outcome(index, failure=f"{jobs[index].output}: {reason}")


def _write(generator: Generator, job: Job, index: int, wav: np.ndarray, sidecar: bool) -> Outcome:
    try:
        write_audio(job.output, wav, generator.sample_rate)
        record = _record(generator, job, wav)
        if sidecar:
            write_text(sidecar_path(job.output), json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    except (AudiogenError, OSError) as error:
        return Outcome(index, failure=str(error))
    return Outcome(index, record)


def sidecar_path(output: Path) -> Path:
    """Where the facts about an output file lie: the same name with `.json`."""
    return output.with_suffix(".json")


def _record(generator: Generator, job: Job, wav: np.ndarray) -> dict[str, Any]:
    """Everything that made this sound, and what it is like (`measure`); plain values."""
    text = None if job.text is None else generator.process(job.text)
    return {
        **job.extra,
        "path": str(job.output),
        "prompt": job.text,
        "text": text,
        "seed": job.seed,
        "duration": len(wav) / generator.sample_rate,
        "sample_rate": generator.sample_rate,
        **asdict(job.settings.over(generator.sampling)),
        "model": str(generator.folder),
        "model_fingerprint": generator.fingerprint,
        "licence": licence_line(generator.licence),
        "device": str(generator.device),
        "dtype": str(generator.dtype).removeprefix("torch."),
        "audiogen_version": version("audiogen-cli"),
        **asdict(measure(np.clip(wav, -1, 1))),  # as written
    }
