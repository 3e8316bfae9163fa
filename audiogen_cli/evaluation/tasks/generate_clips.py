"""The model's part of an evaluation: sounds are kept on disk, so a second run generates only what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiogen_cli.devices import is_main_process
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.audio_sources import MAX_DURATION
from audiogen_cli.evaluation.config import EvalConfig
from audiogen_cli.evaluation.references import Reference
from audiogen_cli.evaluation.results import Progress, Skipped
from audiogen_cli.evaluation.shuffling import clip_seed
from audiogen_cli.files import check_name, show_line
from audiogen_cli.lm.adapters import Adapter, adapted_fingerprint, find_adapters, read_licenses
from audiogen_cli.lm.generation.requests import GenerationRequest
from audiogen_cli.model_folder import find_codec, find_model, license_line, model_name

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
    """Generate a sound for each reference: its caption, its length, a seed of its own.

    In an accelerate launch the processes share the work, and each returns all of it.
    Raises InputError if the model is unusable.
    """
    generator = load_model(config)
    requests, fitting, unreadable = list[GenerationRequest](), list[Reference](), list[Skipped]()
    for reference in references:
        try:
            requests.append(_request(reference, generator, config))
            fitting.append(reference)
        except InputError as error:
            unreadable.append(Skipped(reference.id, str(error)))
    failed, reused = write_missing(requests, generator, config, progress)
    return GeneratedClips(
        files=[(fitting[index], request.output) for index, request in enumerate(requests) if index not in failed],
        failed=unreadable + [Skipped(fitting[index].id, reason) for index, reason in failed.items()],
        inputs=describe_model(generator, config),
        reused=reused,
    )


def load_model(config: EvalConfig) -> Generator:
    """Load the model to score. Raises InputError if it is unusable."""
    from audiogen_cli.lm.generation.writer import load_generator

    folder = find_model(config.model)
    return load_generator(folder, config.device, config.dtype, find_adapters(config.adapters, folder))


def write_missing(
    requests: Sequence[GenerationRequest], generator: Generator, config: EvalConfig, progress: Progress
) -> tuple[dict[int, str], int]:
    """Generate the requests whose files are not there yet; return index → reason of the failed ones, and how many were.

    A file is kept if its sidecar (`<name>.json`) agrees with the request, and with the number format and the kind of
    device. Each process of a launch takes part.
    """
    from audiogen_cli.lm.generation.resuming import Maker, find_finished
    from audiogen_cli.lm.generation.writer import RenderOptions, write_sounds

    for request in requests:
        check_name(request.output.with_suffix(".json"))
    maker = Maker(generator.fingerprint, generator.sample_rate, computing=_computing(generator))
    finished = find_finished(requests, maker)
    options, failed = RenderOptions(config.batch_size, sidecars=True, skip=True), dict[int, str]()
    every = write_sounds(generator, requests, options, finished, say=show_line if is_main_process() else str)
    new = (rendered for rendered in every if not rendered.kept)
    for done, rendered in enumerate(new, 1):
        progress(done, len(requests) - len(finished))
        if rendered.failure is not None:
            failed[rendered.index] = rendered.failure
    return failed, len(finished)


def find_scored(config: EvalConfig) -> tuple[Path, dict[str, Any]]:
    """Find the folder of the model, or for the task `codec` of the codec, and identify it as `describe_model` does.

    Raises InputError if it is none.
    """
    folder = find_codec(config.model) if config.task == "codec" else find_model(config.model)
    adapters = find_adapters(config.adapters, folder)
    return folder, _identity(folder, adapted_fingerprint(folder, adapters), read_licenses(folder, adapters), adapters)


def describe_model(generator: Generator, config: EvalConfig) -> dict[str, Any]:
    """Describe what generated sounds depend on, for results.json."""
    assert generator.folder is not None
    sampling = generator.sampling.override(config.sampling).describe()
    identity = _identity(generator.folder, generator.fingerprint, generator.license, generator.adapters)
    return {**identity, "sampling": sampling, **_computing(generator)}


def _computing(generator: Generator) -> dict[str, str]:
    return {"device": str(generator.device).partition(":")[0], "dtype": generator.dtype}


def _identity(folder: Path, fingerprint: str, license: str, adapters: Sequence[Adapter]) -> dict[str, Any]:
    return {
        "model": str(folder),
        "model_name": " + ".join([model_name(folder), *map(str, adapters)]),
        "model_fingerprint": fingerprint,
        "model_license": license_line(license),
    }


def _request(reference: Reference, generator: Generator, config: EvalConfig) -> GenerationRequest:
    recording = reference.recording  # from --reference: its file has to be opened for its length
    return GenerationRequest(
        reference.caption,  # a model reads it as it was trained: processed (sec. 4.1) or as it is
        clip_seed(reference.id, config.seed),
        min(recording.duration, MAX_DURATION) if recording.duration else recording.length,
        generator.sampling.override(config.sampling),
        output=config.out / "generated" / f"{reference.name}.wav",
    )
