"""Random crops of a manifest's clips, as the codec trains on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from audiogen_cli.codec.plan import whole_clip
from audiogen_cli.codec.tokenize import read_window
from audiogen_cli.data.loudness import EMPTY_CROP_PEAK
from audiogen_cli.data.manifest import Clip
from audiogen_cli.data.mixing import draw_mix, mix
from audiogen_cli.errors import InputError
from audiogen_cli.training.launch import ignore_signals
from audiogen_cli.training.schedule import SampleOrder

REDRAWS = 4


class CropDataset(Dataset[Tensor]):
    """Sample number i → a crop [1, N], a pure function of (seed, i), so that any process can make any sample.

    filled: share of the crops that are of filled clips, see `data/filling.py`; whole clips are read then. mixed: share
    of the samples that are two crops mixed. vary: samples are at most so much (a share) slower or faster.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        seconds: float,
        sample_rate: int,
        seed: int,
        filled: float = 0.0,
        mixed: float = 0.0,
        vary: float = 0.0,
    ) -> None:
        if not clips:
            raise InputError("no clips to train on: the manifests hold none of the split asked for")
        if mixed and len(clips) < 2:
            raise InputError("mix: at least two training clips are needed; set mix=0")
        self.clips, self.seconds, self.sample_rate, self.seed = clips, seconds, sample_rate, seed
        self.filled, self.mixed, self.vary = filled, mixed, vary
        self.order = SampleOrder(len(clips), seed)
        self.n_samples = round(seconds * sample_rate)

    def clip(self, i: int) -> Clip:
        """The clip that sample i is cut from."""
        return self.clips[self.order[i]]

    def __getitem__(self, i: int) -> Tensor:
        generator = np.random.default_rng([self.seed, i])
        clip = self.clip(i)
        wav = self._audible(clip, generator)
        if self.mixed and generator.random() < self.mixed:
            partner = clip
            while partner.id == clip.id:
                partner = self.clips[int(generator.integers(len(self.clips)))]
            drawn = torch.Generator().manual_seed(int(generator.integers(2**63)))
            draw = draw_mix(drawn, self.n_samples, self.n_samples, self.n_samples)
            return mix(wav[None], self._audible(partner, generator)[None], [draw]).wav[0]
        return wav

    def _audible(self, clip: Clip, generator: np.random.Generator) -> Tensor:
        # ours: digital silence, with which many short recordings are padded, teaches nothing; draw again.
        for _ in range(1 + REDRAWS):
            wav = self._crop(clip, generator)
            if wav.abs().max() > EMPTY_CROP_PEAK:
                break
        return wav[None]

    def _crop(self, clip: Clip, generator: np.random.Generator) -> Tensor:
        position = generator.random()
        speed = 1 + self.vary * generator.uniform(-1, 1) if self.vary else 1.0
        whole = whole_clip(clip, self.sample_rate, speed)
        first = round(position * max(0, whole.n_samples - self.n_samples))
        n_samples = min(self.n_samples, whole.n_samples)
        if self.filled and generator.random() < self.filled:
            wav = read_window(whole, self.sample_rate, True)[first : first + n_samples]
        else:
            start = clip.start + first * speed / self.sample_rate
            wav = read_window(replace(whole, start=start, n_samples=n_samples), self.sample_rate, False)[:n_samples]
        return F.pad(wav, (0, self.n_samples - len(wav)))


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
