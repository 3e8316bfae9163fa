"""Runs jobs through a generator: writes sounds and sidecars, survives failures, shares work between processes."""

from __future__ import annotations

import json
import math
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from audiogen_cli.data.audio import probe, write_audio
from audiogen_cli.data.loudness import gain_to, loudness, measure
from audiogen_cli.data.wav_stream import Sink
from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.files import write_text
from audiogen_cli.lm.config import Sampling
from audiogen_cli.lm.generation.requests import Job
from audiogen_cli.model_folder import license_line
from audiogen_cli.oom import is_out_of_memory

if TYPE_CHECKING:
    from accelerate import PartialState

    from audiogen_cli.lm.generation.generator import Generator, Request

NORMAL_LUFS = -23.0  # where `normalize` brings a sound: EBU R 128's loudness …
NORMAL_PEAK = 10 ** (-1 / 20)  # … but no further than until its peak reaches -1 dBFS

Progress = Callable[[int, int], None]  # (seconds of sound done, of how many)
Value = TypeVar("Value")


@dataclass(frozen=True)
class Outcome:
    """What became of a job. index: its place in the list; record: its sidecar's content; failure: why there is none."""

    index: int
    record: dict[str, Any] | None = None
    failure: str | None = None


def render(
    generator: Generator,
    jobs: Sequence[Job],
    batch_size: int | None = None,
    sidecars: bool = False,
    normalize: bool = False,
    progress: Progress | None = None,
) -> Iterator[Outcome]:
    """Generate and write every job; yields outcomes in the order of `jobs`, each as soon as it can.

    Files are written when their sound is ready, which may be out of order. One that cannot be written, or jobs left
    over when the device runs out of memory, become failures. InputError from the generator is passed on.
    normalize: bring every sound to NORMAL_LUFS (see `normalise`).
    """
    waiting: dict[int, Outcome] = {}
    following = 0
    for outcome in _outcomes(generator, jobs, batch_size, sidecars, normalize, progress):
        waiting[outcome.index] = outcome
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def render_shared(
    generator: Generator,
    jobs: Sequence[Job],
    batch_size: int | None = None,
    sidecars: bool = False,
    normalize: bool = False,
    progress: Progress | None = None,
) -> Iterator[Outcome]:
    """`render`, dealing the jobs out among the processes of an accelerate launch; each yields every outcome, in order.

    With one process an outcome comes as soon as it can; with several, all come at the end.
    """
    if _n_processes() == 1:
        yield from render(generator, jobs, batch_size, sidecars, normalize, progress)
        return
    from accelerate.utils import gather_object

    own = range(_processes().process_index, len(jobs), _n_processes())
    outcomes = render(generator, [jobs[index] for index in own], batch_size, sidecars, normalize, progress)
    gathered = gather_object([replace(outcome, index=own[outcome.index]) for outcome in outcomes])
    yield from sorted(gathered, key=lambda outcome: outcome.index)


def render_stream(generator: Generator, job: Job, sink: Sink) -> dict[str, Any]:
    """Generate one job into `sink`, block by block as it is made; returns its record.

    The record also has `first_sound`, the seconds from here until the first samples were handed on.
    """
    begun, first, blocks = time.monotonic(), 0.0, []
    try:
        for wav in generator.stream(request_of(job, generator)):
            sink.write(wav)
            first = first or time.monotonic() - begun
            blocks.append(wav)
    except (MemoryError, RuntimeError) as error:
        raise AudiogenError(f"{job.output}: {_reason(error)}") if is_out_of_memory(error) else error from None
    return {**_record(generator, job, np.concatenate(blocks), 1.0), "first_sound": first}


def load_generator(folder: Path, device: str, dtype: str) -> Generator:
    """`Generator.load`; in an accelerate launch `auto` is this process's own device."""
    from audiogen_cli.lm.generation.generator import Generator

    if _n_processes() > 1 and (processes := _processes()) and device == "auto":
        device = str(processes.device)
    return Generator.load(folder, device=device, dtype=dtype)


def choose_seed() -> int:
    """A random seed, the same in every process of an accelerate launch."""
    return agree(secrets.randbelow(2**31))


def agree(value: Value) -> Value:
    """The main process's value, in every process of an accelerate launch: nobody goes on before it has come here."""
    if _n_processes() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    _processes()
    shared = [value]
    broadcast_object_list(shared)
    return shared[0]


def find_finished(
    jobs: Sequence[Job], own: Sampling, fingerprint: str, sample_rate: int, normalize: bool = False
) -> dict[int, dict[str, Any]]:
    """Index → record of the jobs that an earlier run has finished: sound and sidecar are there and agree with the job.

    own: the model's settings. A job whose seed was drawn takes any: it would be as good as the new one.
    """
    finished = {}
    for index, job in enumerate(jobs):
        wanted = {
            **job.extra,
            "prompt": job.text,
            "duration": round(job.duration * sample_rate) / sample_rate,
            **asdict(job.settings.over(own)),
            "model_fingerprint": fingerprint,
            "normalized": normalize,
        }
        if not job.seed_drawn:
            wanted["seed"] = job.seed
        record = _read_sidecar(job.output)
        if all(record.get(key) == value for key, value in wanted.items() if key != "path") and _is_sound(job.output):
            finished[index] = {**record, "path": str(job.output)}
    return finished


def normalise(wav: np.ndarray, sample_rate: int) -> tuple[np.ndarray, float]:
    """Bring samples [n] to NORMAL_LUFS, or as near as NORMAL_PEAK lets them; near-silence is left as it is.

    Returns the samples and the factor they were multiplied with.
    """
    stats = measure(wav)
    if stats.near_silent:
        return wav, 1.0
    gain = min(gain_to(NORMAL_LUFS, wav, sample_rate), NORMAL_PEAK / stats.peak)
    return wav * np.float32(gain), gain


def sidecar_path(output: Path) -> Path:
    """Where the facts about an output file lie: the same name with `.json`."""
    return output.with_suffix(".json")


def _n_processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _processes() -> PartialState:
    """The processes of an accelerate launch, connected: on CPUs, too, which accelerate does only when told."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available())


def request_of(job: Job, generator: Generator) -> Request:
    """What to ask the generator for."""
    from audiogen_cli.lm.generation.generator import Request

    return Request(job.text, job.seed, job.duration, job.settings.over(generator.sampling), job.prompt_audio)


def _outcomes(
    generator: Generator,
    jobs: Sequence[Job],
    batch_size: int | None,
    sidecars: bool,
    normalize: bool,
    progress: Progress | None,
) -> Iterator[Outcome]:
    requests = [request_of(job, generator) for job in jobs]
    total = sum(job.new_seconds(generator.sample_rate) for job in jobs)
    report = [lambda seconds: progress(int(seconds), math.ceil(total))] if progress else []
    left = dict.fromkeys(range(len(jobs)))
    try:
        for index, wav in generator.generate(requests, batch_size, *report):
            del left[index]
            yield _write(generator, jobs[index], index, wav, sidecars, normalize)
    except InputError:
        raise
    except (AudiogenError, MemoryError, RuntimeError) as error:
        if not isinstance(error, AudiogenError) and not is_out_of_memory(error):
            raise
        for index in left:
            yield Outcome(index, failure=f"{jobs[index].output}: {_reason(error)}")


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, AudiogenError) else "out of memory; lower --duration"


def _write(generator: Generator, job: Job, index: int, wav: np.ndarray, sidecar: bool, normalize: bool) -> Outcome:
    gain = 1.0
    if normalize:
        wav, gain = normalise(wav, generator.sample_rate)
    try:
        drop_sidecar(job.output)
        write_audio(job.output, wav, generator.sample_rate)
        record = {**_record(generator, job, wav, gain), "normalized": normalize}
        if sidecar:
            write_sidecar(job.output, record)
    except (AudiogenError, OSError) as error:
        return Outcome(index, failure=str(error))
    return Outcome(index, record)


def write_sidecar(output: Path, record: Mapping[str, Any]) -> None:
    """Write the facts about an output file beside it."""
    write_text(sidecar_path(output), json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def drop_sidecar(output: Path) -> None:
    """Remove the sidecar of an output file that is about to change: it vouches for the old sound."""
    if _read_sidecar(output):
        sidecar_path(output).unlink(missing_ok=True)


def _read_sidecar(output: Path) -> dict[str, Any]:
    """The sidecar of an output file; {} if there is none, or none of ours."""
    try:
        record = json.loads(sidecar_path(output).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and "model_fingerprint" in record else {}


def _is_sound(path: Path) -> bool:
    try:
        return probe(path).n_samples > 0
    except InputError:
        return False


def _record(generator: Generator, job: Job, wav: np.ndarray, gain: float) -> dict[str, Any]:
    """Everything that made this sound, and what it is like (`measure`); plain values.

    text: what the model read, with ` + ` between layers. loudness: LUFS (ITU-R BS.1770), None below its gate at -70.
    gain_db: what was done to the level afterwards.
    """
    request = request_of(job, generator)
    texts = generator.read(request)
    lufs = loudness(wav, generator.sample_rate)
    return {
        **job.extra,
        "path": str(job.output),
        "prompt": job.text,
        "text": " + ".join(texts) if texts else None,
        "seed": job.seed,
        "duration": len(wav) / generator.sample_rate,
        "sample_rate": generator.sample_rate,
        **asdict(request.sampling),
        "model": str(generator.folder),
        "model_fingerprint": generator.fingerprint,
        "licence": license_line(generator.licence),
        "device": str(generator.device),
        "dtype": generator.dtype,
        "audiogen_version": version("audiogen-cli"),
        **asdict(measure(np.clip(wav, -1, 1))),  # as written
        "loudness": lufs if math.isfinite(lufs) else None,
        "gain_db": 20 * math.log10(gain),
        "normalized": False,
    }
