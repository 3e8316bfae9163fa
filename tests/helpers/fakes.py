"""Test doubles of the evaluation's tests: synthetic clips, a generator without a model, a network without weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audiogen_cli.data.audio import write_audio
from audiogen_cli.evaluation.networks.base import AudioNetwork, NetworkOutput, WeightSource
from audiogen_cli.lm.config import Sampling
from helpers.zoo import chirp


def write_clips(folder: Path, seeds: dict[str, int], duration: float = 1.0, sample_rate: int = 16_000) -> Path:
    """Write a file of every name, its sound given by its seed."""
    for name, seed in seeds.items():
        write_audio(folder / f"{name}.wav", chirp(seed, duration, sample_rate), sample_rate)
    return folder


class FakeGenerator:
    """Answers as `lm.generation.generator.Generator` does; the sound depends on prompt, seed and guidance alone."""

    sample_rate = 16_000
    sampling = Sampling()
    licence = "for tests"
    fingerprint = "f" * 64
    max_duration = None
    folder = Path("fake")
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


class FakeNetwork(AudioNetwork):
    """A classifier without weights: windows of 0.25 s, band levels as embeddings, a fixed mixture of them as logits."""

    name, dim, sample_rate, min_duration, license = "fake", 60, 16_000, 0.1, "for tests"
    classes = ("Dog", "Alarm", "Rain", "Silence")
    batch_size = 3
    WINDOW = 4000

    def load(self, source: WeightSource) -> None:
        self.path, self.sha256 = Path("fake"), "0" * 64
        self.batches: list[tuple[int, ...]] = []

    def classify(self, wav: np.ndarray) -> NetworkOutput:
        self.batches.append(wav.shape)
        n_windows = max(1, wav.shape[1] // self.WINDOW)
        wav = np.pad(wav, ((0, 0), (0, max(0, self.WINDOW - wav.shape[1]))))[:, : n_windows * self.WINDOW]
        power = np.abs(np.fft.rfft(wav.reshape(len(wav), n_windows, self.WINDOW)))[..., :1200] ** 2
        levels = np.log(power.reshape(len(wav), n_windows, self.dim, -1).mean(3) + 1e-3).astype(np.float32)
        mixture = np.random.default_rng(0).normal(size=(self.dim, len(self.classes))).astype(np.float32)
        return NetworkOutput(levels @ mixture, levels)
