"""Test doubles of the evaluation's tests: synthetic clips, and a generator that only pretends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audiogen_cli.data.audio import write_audio
from audiogen_cli.lm.config import Sampling
from helpers.zoo import chirp


def write_clips(folder: Path, seeds: dict[str, int], duration: float = 1.0, sample_rate: int = 16_000) -> Path:
    """Write a file of every name, its sound given by its seed."""
    for name, seed in seeds.items():
        write_audio(folder / f"{name}.wav", chirp(seed, duration, sample_rate), sample_rate)
    return folder


class PretendGenerator:
    """Answers as `lm.generator.Generator` does; the sound depends on prompt, seed and guidance alone."""

    sample_rate = 16_000
    sampling = Sampling()
    licence = "for tests"
    fingerprint = "f" * 64
    max_duration = None
    folder = Path("pretended")
    device = "cpu"
    dtype = "torch.float32"

    def __init__(self) -> None:
        self.requests: list[Any] = []

    def read(self, request: Any) -> list[str]:
        return [] if request.prompt is None else [request.prompt]

    def generate(self, requests: Sequence[Any], batch_size: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        self.requests += requests
        for index in reversed(range(len(requests))):  # finished in any order
            request = requests[index]
            seed = request.seed + len(request.prompt or "") + round(100 * request.sampling.guidance)
            yield index, chirp(seed, request.duration)
