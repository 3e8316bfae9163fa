"""Test doubles of the evaluation's tests: synthetic clips, and a generator that only pretends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from audiogen_cli.data.audio import write_audio
from audiogen_cli.lm.config import Sampling
from audiogen_cli.lm.generation.generator import Prepared
from audiogen_cli.lm.generation.requests import GenerationRequest
from helpers.zoo import chirp


def write_clips(folder: Path, seeds: dict[str, int], duration: float = 1.0, sample_rate: int = 16_000) -> Path:
    """Write a file of every name, its sound given by its seed."""
    for name, seed in seeds.items():
        write_audio(folder / f"{name}.wav", chirp(seed, duration, sample_rate), sample_rate)
    return folder


def chirp_of(request: GenerationRequest) -> np.ndarray:
    """A sound that depends on prompt, seed and guidance alone."""
    seed = request.seed + len(request.text or "") + round(100 * request.sampling.guidance)
    return chirp(seed, request.duration)


class PretendGenerator:
    """Answers as `lm.generation.generator.Generator` does, in the reverse order; may fail before its n-th answer."""

    sample_rate = 16_000
    license = "\nCC BY 4.0, by the testers\nlong text"
    fingerprint = "f" * 64
    folder = Path("models/tiny")
    device, dtype = "cpu", "float32"
    probe = None
    config = SimpleNamespace(max_frames=250, frame_rate=25.0)

    def __init__(
        self,
        sound: Callable[[GenerationRequest], np.ndarray] = chirp_of,
        error: Exception | None = None,
        fail_at: int = 0,
        sampling: Sampling | None = None,
    ) -> None:
        self.sound, self.error, self.fail_at, self.sampling = sound, error, fail_at, sampling or Sampling()
        self.requests: list[GenerationRequest] = []  # all that it was asked for

    def prepare(self, request: GenerationRequest) -> Prepared:
        texts = () if request.text is None else (request.text.upper(),)
        return Prepared(request, round(request.duration * self.sample_rate), texts)

    def generate(
        self,
        prepared: Sequence[Prepared],
        batch_size: int | None = None,
        progress: Callable[[float], object] = lambda seconds: None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        self.requests += [each.request for each in prepared]
        for done, index in enumerate(reversed(range(len(prepared)))):
            if self.error and done == self.fail_at:
                raise self.error
            progress(done + 0.5)
            yield index, self.sound(prepared[index].request)
