"""Random crops of a manifest's clips, as the codec trains on them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from audiogen_cli.data.audio import read_audio
from audiogen_cli.data.filling import fill
from audiogen_cli.data.manifest import Clip
from audiogen_cli.data.mixing import SNR_RANGE, MixDraw, mix
from audiogen_cli.errors import InputError
from audiogen_cli.training.launch import ignore_signals
from audiogen_cli.training.schedule import SampleOrder

SILENT_PEAK = 1e-4
REDRAWS = 4


class CropDataset(Dataset[Tensor]):
    """Sample number i → a crop [1, N], a pure function of (seed, i), so that any process can make any sample.

    filled: see `data/filling.py`; whole clips are read then. mixed: share of the samples that are two crops mixed.
    vary: samples are at most so much (a share) slower or faster.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        seconds: float,
        sample_rate: int,
        seed: int,
        filled: bool = False,
        mixed: float = 0.0,
        vary: float = 0.0,
    ) -> None:
        if not clips:
            raise InputError("no clips to train on: the manifests hold none of the split asked for")
        self.clips, self.seconds, self.sample_rate, self.seed = clips, seconds, sample_rate, seed
        self.filled, self.mixed, self.vary = filled, mixed, vary
        self.order = SampleOrder(len(clips), seed)
        self.n_samples = round(seconds * sample_rate)

    def clip(self, i: int) -> Clip:
        """The clip that sample i is cut from."""
        return self.clips[self.order[i]]

    def __getitem__(self, i: int) -> Tensor:
        generator = np.random.default_rng([self.seed, i])
        wav = self._audible(self.clip(i), generator)
        if self.mixed and generator.random() < self.mixed:
            other = self._audible(self.clips[int(generator.integers(len(self.clips)))], generator)
            draw = MixDraw(*(self.n_samples,) * 3, offset=0, snr=generator.uniform(*SNR_RANGE))
            return mix(wav[None], other[None], [draw]).wav[0]
        return wav

    def _audible(self, clip: Clip, generator: np.random.Generator) -> Tensor:
        # ours: digital silence, with which many short recordings are padded, teaches nothing; draw again.
        for _ in range(1 + REDRAWS):
            wav = self._crop(clip, generator)
            if np.abs(wav).max() > SILENT_PEAK:
                break
        return torch.from_numpy(wav)[None]

    def _crop(self, clip: Clip, generator: np.random.Generator) -> np.ndarray:
        position = generator.random()
        speed = 1 + self.vary * generator.uniform(-1, 1) if self.vary else 1.0
        rate = round(self.sample_rate / speed)  # taken for sample_rate, what is read at it plays faster or slower
        seconds = self.n_samples / rate
        start = clip.start + position * max(0.0, clip.duration - seconds)
        if self.filled:
            whole = read_audio(clip.audio_path, rate, clip.start, clip.duration)
            begin = round((start - clip.start) * rate)
            pauses = np.random.default_rng(zlib.crc32(clip.id.encode()))
            wav = fill(whole, self.sample_rate, pauses)[begin : begin + self.n_samples]
        else:
            wav = read_audio(clip.audio_path, rate, start, min(seconds, clip.duration))[: self.n_samples]
        return np.pad(wav, (0, self.n_samples - len(wav)))


class RankSampler:
    """Sample numbers of one process from `start_step` to `max_steps`: rank r takes the r-th part of every batch."""

    def __init__(self, batch_size: int, rank: int, processes: int, start_step: int, max_steps: int) -> None:
        self.batch_size, self.share = batch_size, batch_size // processes
        self.first, self.steps = rank * self.share, range(start_step, max_steps)

    def __iter__(self) -> Iterator[int]:
        for step in self.steps:
            first = step * self.batch_size + self.first
            yield from range(first, first + self.share)

    def __len__(self) -> int:
        return len(self.steps) * self.share


def crop_batches(dataset: CropDataset, sampler: RankSampler, workers: int) -> Iterator[Tensor]:
    """Batches [B, 1, N], one a step."""
    yield from DataLoader(
        dataset, sampler.share, sampler=sampler, num_workers=workers, worker_init_fn=ignore_signals if workers else None
    )
