"""Training samples from token shards: sample number i is a pure function of (seed, i), in any process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from audiogen_cli.training.launch import ignore_signals
from audiogen_cli.training.schedule import SampleOrder

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class Sample:
    """One crop and its text."""

    id: str
    codes: Tensor  # [K, T] int64
    text: str | None


@dataclass(frozen=True)
class Batch:
    """Samples of one micro-batch, padded on the right to the longest (or to a fixed length)."""

    ids: list[str]
    codes: Tensor  # [B, K, T] int64, 0 on padding
    frames_mask: Tensor  # [B, T] bool
    texts: list[str | None]


class TokenSamples(Dataset[Sample]):
    """The rows of a split as an endless sequence of samples: which row, which crop, which of its texts, or none.

    rows: shards with the columns of `design.md` sec. 2; crop_frames: the longest sample; text_dropout: share
    of samples without text (sec. 3.2: 10%).
    """

    def __init__(self, rows: datasets.Dataset, n_q: int, crop_frames: int, text_dropout: float, seed: int) -> None:
        self.rows = rows.select_columns(["id", "codes", "texts"]).with_format("numpy")
        self.lengths = np.asarray(rows["n_frames"][:], dtype=np.int64)
        self.n_q, self.crop_frames, self.text_dropout, self.seed = n_q, crop_frames, text_dropout, seed
        self.order = SampleOrder(len(rows), seed)

    def n_frames(self, i: int) -> int:
        """Frames of sample i, without reading its codes."""
        return int(min(self.crop_frames, self.lengths[self.order[i]]))

    def __getitem__(self, i: int) -> Sample:
        generator = np.random.default_rng([self.seed, 1, i])
        start, choice, dropped = generator.random(3)
        sample = self.row(self.order[i], start, choice)
        return Sample(sample.id, sample.codes, None if dropped < self.text_dropout else sample.text)

    def row(self, index: int, start: float = 0.0, choice: float = 0.0) -> Sample:
        """Row `index` itself; start and choice in [0, 1) say which crop and which text."""
        row = self.rows[index]
        codes = row["codes"].reshape(self.n_q, -1)
        first = int(start * (max(0, codes.shape[1] - self.crop_frames) + 1))
        codes = codes[:, first : first + self.crop_frames]
        text = str(row["texts"][int(choice * len(row["texts"]))])
        return Sample(str(row["id"]), torch.from_numpy(codes.astype(np.int64)), text)


@dataclass(frozen=True)
class StepSampler:
    """Which samples one process reads: every step's samples, sorted by length, dealt out to processes in turn.

    Sorting costs no randomness (the step's samples are one batch anyway) and saves padding.
    """

    samples: TokenSamples
    batch_size: int  # samples a step, over all processes
    micro_batch: int
    rank: int
    processes: int
    start_step: int
    max_steps: int

    def step(self, step: int) -> list[list[int]]:
        """This process's micro-batches of one step; every process gets at least one."""
        numbers = range(step * self.batch_size, (step + 1) * self.batch_size)
        own = sorted(numbers, key=lambda i: (self.samples.n_frames(i), i))[self.rank :: self.processes]
        return [own[start : start + self.micro_batch] for start in range(0, len(own), self.micro_batch)]

    def n_frames(self, step: int) -> int:
        """Frames of all samples of a step, in all processes: what its loss is averaged over."""
        return sum(self.samples.n_frames(i) for i in range(step * self.batch_size, (step + 1) * self.batch_size))

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start_step, self.max_steps):
            yield from self.step(step)


def step_batches(sampler: StepSampler, workers: int, fixed_length: bool) -> Iterator[list[Batch]]:
    """Per step, this process's micro-batches. fixed_length: pad all to the crop, for compiled models."""
    length = sampler.samples.crop_frames if fixed_length else None
    loader = DataLoader(
        sampler.samples,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=lambda samples: collate(samples, length),
        worker_init_fn=ignore_signals if workers else None,
    )
    batches = iter(loader)
    for step in range(sampler.start_step, sampler.max_steps):
        yield [next(batches) for _ in sampler.step(step)]


def collate(samples: Sequence[Sample], length: int | None = None) -> Batch:
    """Put samples side by side, padded to `length` frames (None: the longest of them)."""
    n_frames = torch.tensor([sample.codes.shape[1] for sample in samples])
    length = length or int(n_frames.max())
    codes = torch.zeros(len(samples), samples[0].codes.shape[0], length, dtype=torch.int64)
    for row, sample in zip(codes, samples, strict=True):
        row[:, : sample.codes.shape[1]] = sample.codes
    mask = torch.arange(length) < n_frames[:, None]
    return Batch([sample.id for sample in samples], codes, mask, [sample.text for sample in samples])
