"""The model's side of an evaluation: one sound per clip, kept on disk so that a second run makes what is missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiogen_cli.evaluation.clips import MAX_DURATION, Reference
from audiogen_cli.evaluation.config import EvalConfig, Progress, Skipped
from audiogen_cli.lm.jobs import Job

if TYPE_CHECKING:
    from audiogen_cli.lm.generator import Generator


@dataclass(frozen=True)
class Produced:
    """Generated files with their references, what they depend on, and what failed."""

    files: list[tuple[Reference, Path]]
    failed: list[Skipped]
    settings: dict[str, Any]  # model_fingerprint, sampling
    reused: int  # files that an earlier run had finished


def produce(references: Sequence[Reference], config: EvalConfig, progress: Progress) -> Produced:
    """Generate a sound for each reference: its first text, its length, a seed of its own.

    A file is kept if its sidecar (`<name>.json`) agrees with what is asked for now.
    Raises InputError if the model is unusable.
    """
    from audiogen_cli.lm.generator import Generator
    from audiogen_cli.lm.render import render, sidecar_path

    generator = Generator.load(config.model, device=config.device, dtype=config.dtype)
    sampling = asdict(config.settings.over(generator.sampling))
    jobs = [_job(reference, generator, config) for reference in references]
    todo = [index for index, job in enumerate(jobs) if not _finished(job, sampling, generator)]
    for index in todo:  # a sidecar vouches for its audio, so an older one must go before the audio changes
        sidecar_path(jobs[index].output).unlink(missing_ok=True)
    failed: dict[int, Skipped] = {}
    outcomes = render(generator, [jobs[index] for index in todo], config.batch_size, sidecars=True)
    for done, outcome in enumerate(outcomes, 1):
        progress(done, len(todo))
        if outcome.failure is not None:
            index = todo[outcome.index]
            failed[index] = Skipped(references[index].id, outcome.failure)
    files = [(references[index], job.output) for index, job in enumerate(jobs) if index not in failed]
    inputs = {"model_fingerprint": generator.fingerprint, "sampling": sampling}
    return Produced(files, list(failed.values()), inputs, len(references) - len(todo))


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


def _finished(job: Job, sampling: dict[str, Any], generator: Generator) -> bool:
    from audiogen_cli.lm.render import sidecar_path

    try:
        record = json.loads(sidecar_path(job.output).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    wanted = {
        "prompt": job.text,
        "seed": job.seed,
        "duration": round(job.duration * generator.sample_rate) / generator.sample_rate,
        **sampling,
        "model_fingerprint": generator.fingerprint,
    }
    return job.output.is_file() and wanted.items() <= record.items()
