"""The model's side of an evaluation: sounds kept on disk, so that a second run makes only what is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiogen_cli.evaluation.config import EvalConfig, Progress, Skipped
from audiogen_cli.evaluation.references import MAX_DURATION, Reference
from audiogen_cli.lm.generation.requests import Job
from audiogen_cli.model_folder import find_model

if TYPE_CHECKING:
    from audiogen_cli.lm.generation.generator import Generator


@dataclass(frozen=True)
class Produced:
    """Generated files with their references, what they depend on, and what failed."""

    files: list[tuple[Reference, Path]]
    failed: list[Skipped]
    settings: dict[str, Any]  # model_fingerprint, sampling
    reused: int  # files that an earlier run had finished


def produce(references: Sequence[Reference], config: EvalConfig, progress: Progress) -> Produced:
    """Generate a sound for each reference: its first text, its length, a seed of its own.

    In an accelerate launch the processes share the work, and each returns all of it.
    Raises InputError if the model is unusable.
    """
    generator = load(config)
    jobs = [_job(reference, generator, config) for reference in references]
    made = make(jobs, generator, config, progress)
    files = [(references[index], job.output) for index, job in enumerate(jobs) if index not in made.failed]
    failed = [Skipped(references[index].id, reason) for index, reason in made.failed.items()]
    return Produced(files, failed, settings_of(generator, config), made.reused)


@dataclass(frozen=True)
class Made:
    """What became of a list of jobs. failed: index → reason."""

    failed: dict[int, str]
    reused: int


def load(config: EvalConfig) -> Generator:
    """The model to be scored. Raises InputError if it is unusable."""
    from audiogen_cli.lm.generation.writer import load_generator

    return load_generator(find_model(config.model), config.device, config.dtype)


def make(jobs: Sequence[Job], generator: Generator, config: EvalConfig, progress: Progress) -> Made:
    """Generate the jobs whose files are not there yet, in all processes of an accelerate launch.

    A file is kept if its sidecar (`<name>.json`) agrees with what is asked for now.
    """
    from audiogen_cli.lm.generation.writer import agree, find_finished, render_shared

    finished = find_finished(jobs, generator.sampling, generator.fingerprint, generator.sample_rate)
    # Agreed on: another process may already see a file that the first has written.
    todo = agree([index for index in range(len(jobs)) if index not in finished])
    failed: dict[int, str] = {}
    outcomes = render_shared(generator, [jobs[index] for index in todo], config.batch_size, sidecars=True)
    for done, outcome in enumerate(outcomes, 1):
        progress(done, len(todo))
        if outcome.failure is not None:
            failed[todo[outcome.index]] = outcome.failure
    return Made(failed, len(jobs) - len(todo))


def settings_of(generator: Generator, config: EvalConfig) -> dict[str, Any]:
    """What generated sounds depend on."""
    sampling = asdict(config.settings.over(generator.sampling))
    return {"model_fingerprint": generator.fingerprint, "sampling": sampling}


def seed_of(clip_id: str, seed: int) -> int:
    """A clip's own seed: it depends on the clip and the run's seed alone, so neither order nor --limit moves it."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{clip_id}".encode()).digest()[:4], "big") >> 1


def _job(reference: Reference, generator: Generator, config: EvalConfig) -> Job:
    limits = (reference.recording.duration, MAX_DURATION, generator.max_duration)
    return Job(
        output=config.out / "generated" / f"{reference.name}.wav",
        text=reference.text,
        seed=seed_of(reference.id, config.seed),
        duration=min(limit for limit in limits if limit is not None),
        settings=config.settings,
    )
