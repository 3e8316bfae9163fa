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
from audiogen_cli.errors import InputError
from audiogen_cli.training.launch import ignore_signals
from audiogen_cli.training.schedule import SampleOrder

SILENT_PEAK = 1e-4
REDRAWS = 4


class CropDataset(Dataset[Tensor]):
    """Sample number i → a crop [1, N], a pure function of (seed, i), so that any process can make any sample."""

    def __init__(
        self, clips: Sequence[Clip], seconds: float, sample_rate: int, seed: int, filled: bool = False
    ) -> None:
        if not clips:
            raise InputError("no clips to train on: the manifests hold none of the split asked for")
        self.clips, self.seconds, self.sample_rate, self.seed = clips, seconds, sample_rate, seed
        self.filled = filled  # see `data/filling.py`; whole clips are read then
        self.order = SampleOrder(len(clips), seed)
        self.n_samples = round(seconds * sample_rate)

    def clip(self, i: int) -> Clip:
        """The clip that sample i is cut from."""
        return self.clips[self.order[i]]

    def __getitem__(self, i: int) -> Tensor:
        clip = self.clip(i)
        generator = np.random.default_rng([self.seed, i])
        # ours: digital silence, with which many short recordings are padded, teaches nothing; draw again.
        for _ in range(1 + REDRAWS):
            wav = self._crop(clip, generator.random())
            if np.abs(wav).max() > SILENT_PEAK:
                break
        return torch.from_numpy(wav)[None]

    def _crop(self, clip: Clip, position: float) -> np.ndarray:
        start = clip.start + position * max(0.0, clip.duration - self.seconds)
        duration = min(self.seconds, clip.duration)
        if self.filled:
            whole = read_audio(clip.audio_path, self.sample_rate, clip.start, clip.duration)
            begin = round((start - clip.start) * self.sample_rate)
            pauses = np.random.default_rng(zlib.crc32(clip.id.encode()))
            wav = fill(whole, self.sample_rate, pauses)[begin : begin + self.n_samples]
        else:
            wav = read_audio(clip.audio_path, self.sample_rate, start, duration)[: self.n_samples]
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
