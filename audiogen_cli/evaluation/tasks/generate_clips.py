"""The model's side of an evaluation: sounds kept on disk, so that a second run makes only what is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiogen_cli.evaluation.config import EvalConfig, Progress, Skipped
from audiogen_cli.evaluation.references import MAX_DURATION, Reference
from audiogen_cli.lm.generation.requests import GenerationRequest
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


def make(jobs: Sequence[GenerationRequest], generator: Generator, config: EvalConfig, progress: Progress) -> Made:
    """Generate the jobs whose files are not there yet, in all processes of an accelerate launch.

    A file is kept if its sidecar (`<name>.json`) agrees with what is asked for now.
    """
    from audiogen_cli.lm.generation.writer import RenderOptions, find_finished, write_sounds

    finished = find_finished(jobs, generator.fingerprint, generator.sample_rate)
    options, failed = RenderOptions(config.batch_size, sidecars=True), dict[int, str]()
    made = (rendered for rendered in write_sounds(generator, jobs, options, finished) if not rendered.kept)
    for done, rendered in enumerate(made, 1):
        progress(done, len(jobs) - len(finished))
        if rendered.failure is not None:
            failed[rendered.index] = rendered.failure
    return Made(failed, len(finished))


def settings_of(generator: Generator, config: EvalConfig) -> dict[str, Any]:
    """What generated sounds depend on."""
    sampling = generator.sampling.override(config.sampling).describe()
    return {"model_fingerprint": generator.fingerprint, "sampling": sampling}


def seed_of(clip_id: str, seed: int) -> int:
    """A clip's own seed: it depends on the clip and the run's seed alone, so neither order nor --limit moves it."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{clip_id}".encode()).digest()[:4], "big") >> 1


def _job(reference: Reference, generator: Generator, config: EvalConfig) -> GenerationRequest:
    return GenerationRequest(
        reference.text,
        seed_of(reference.id, config.seed),
        min(reference.recording.duration or MAX_DURATION, MAX_DURATION),
        generator.sampling.override(config.sampling),
        output=config.out / "generated" / f"{reference.name}.wav",
    )
