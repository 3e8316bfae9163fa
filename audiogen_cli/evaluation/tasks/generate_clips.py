"""The model's part of an evaluation: sounds are kept on disk, so a second run generates only what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiogen_cli.evaluation.audio_sources import MAX_DURATION
from audiogen_cli.evaluation.config import EvalConfig
from audiogen_cli.evaluation.references import Reference
from audiogen_cli.evaluation.results import Progress, Skipped
from audiogen_cli.evaluation.shuffling import clip_seed
from audiogen_cli.lm.generation.requests import Job
from audiogen_cli.model_folder import find_model

if TYPE_CHECKING:
    from audiogen_cli.lm.generation.generator import Generator


@dataclass(frozen=True)
class GeneratedClips:
    """Generated files with their references."""

    files: list[tuple[Reference, Path]]
    failed: list[Skipped]
    inputs: dict[str, Any]  # what the sounds depend on, for results.json
    reused: int  # files that an earlier run had finished


def generate_clips(references: Sequence[Reference], config: EvalConfig, progress: Progress) -> GeneratedClips:
    """Generate a sound for each reference: its first text, its length, a seed of its own.

    In an accelerate launch the processes share the work, and each returns all of it.
    Raises InputError if the model is unusable.
    """
    generator = load_model(config)
    jobs = [_job(reference, generator, config) for reference in references]
    failed, reused = write_missing(jobs, generator, config, progress)
    return GeneratedClips(
        files=[(references[index], job.output) for index, job in enumerate(jobs) if index not in failed],
        failed=[Skipped(references[index].id, reason) for index, reason in failed.items()],
        inputs=describe_model(generator, config),
        reused=reused,
    )


def load_model(config: EvalConfig) -> Generator:
    """Load the model to score. Raises InputError if it is unusable."""
    from audiogen_cli.lm.generation.writer import load_generator

    return load_generator(find_model(config.model), config.device, config.dtype)


def write_missing(
    jobs: Sequence[Job], generator: Generator, config: EvalConfig, progress: Progress
) -> tuple[dict[int, str], int]:
    """Generate the jobs whose files are not there yet; return index → reason of the failed ones, and how many were.

    A file is kept if its sidecar (`<name>.json`) agrees with the job. All processes of an accelerate launch take part.
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
    return failed, len(jobs) - len(todo)


def describe_model(generator: Generator, config: EvalConfig) -> dict[str, Any]:
    """Describe what generated sounds depend on, for results.json."""
    sampling = asdict(config.settings.over(generator.sampling))
    return {"model_fingerprint": generator.fingerprint, "sampling": sampling}


def _job(reference: Reference, generator: Generator, config: EvalConfig) -> Job:
    limits = (reference.recording.duration, MAX_DURATION, generator.max_duration)
    return Job(
        output=config.out / "generated" / f"{reference.name}.wav",
        text=reference.text,
        seed=clip_seed(reference.id, config.seed),
        duration=min(limit for limit in limits if limit is not None),
        settings=config.settings,
    )
