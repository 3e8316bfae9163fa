"""Test doubles of the evaluation's tests: synthetic clips, a generator without a model, a network without weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from audiogen_cli.data.audio import write_audio
from audiogen_cli.evaluation.networks.base import AudioNetwork, NetworkOutput, WeightSource
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


class FakeGenerator:
    """Answers as `lm.generation.generator.Generator` does, in the reverse order; may fail before its n-th answer."""

    sample_rate = 16_000
    license = "\nCC BY 4.0, by the testers\nlong text"
    fingerprint = "f" * 64
    folder = Path("models/tiny")
    device, dtype = "cpu", "float32"
    probe, adapters = None, ()
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
        on_candidates: Callable[..., object] = lambda *_: None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        self.requests += [each.request for each in prepared]
        for done, index in enumerate(reversed(range(len(prepared)))):
            if self.error and done == self.fail_at:
                raise self.error
            progress(done + 0.5)
            yield index, self.sound(prepared[index].request)


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
