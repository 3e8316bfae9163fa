"""Training samples: number i is a pure function of (seed, i), in any process; and which process reads which when.

`TokenSamples` come from token shards; `lm.sounds` makes the same of recordings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

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
    failed: tuple[str, ...] = ()  # why samples could not be read; no frame of theirs is in the mask


class Samples(Protocol):
    """An endless sequence of samples: the i-th can be made anywhere, without those before it.

    `samples[i]` reads it (in a worker), `gather` makes a batch of what was read (in a worker) and `finish` what the
    model takes (in the training's process, ahead of it).
    """

    crop_frames: int

    def __len__(self) -> int:
        """How many there are before they come again (in another order, cut and mixed anew)."""
        ...

    def n_frames(self, i: int) -> int:
        """Frames of sample i, without reading it."""
        ...

    def __getitem__(self, i: int) -> Any: ...

    def gather(self, read: Sequence[Any]) -> Any:
        """Put what was read side by side; anything that can be sent between processes."""
        ...

    def finish(self, gathered: Any) -> Batch:
        """What the model takes."""
        ...

    def row(self, index: int) -> Sample:
        """Row `index` of the data itself, for validation: from its beginning, with its first text."""
        ...


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

    def __len__(self) -> int:
        return len(self.rows)

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

    def gather(self, read: Sequence[Sample]) -> Batch:
        """Side by side, padded to the longest."""
        return collate(read)

    def finish(self, gathered: Batch) -> Batch:
        """Nothing is left to do."""
        return gathered


class Deal:
    """Which samples each process reads at each step: all different, none twice, none left out.

    The samples of `bucket_steps` steps are sorted by length and cut into steps, which come in a random order, so that
    those of one step are about equally long; these are dealt out to the processes in turn, so that all have equally
    much to do. A pure function of (seed, step, number of processes); which samples make a step depends on the first
    two only.
    """

    def __init__(self, samples: Samples, batch_size: int, bucket_steps: int = 1, seed: int = 0) -> None:
        self.samples, self.batch_size, self.bucket_steps, self.seed = samples, batch_size, bucket_steps, seed
        self._bucket = lru_cache(maxsize=2)(self._sort_bucket)

    def step(self, step: int) -> list[int]:
        """The numbers of all samples of a step, in all processes, from short to long."""
        bucket, place = divmod(step, self.bucket_steps)
        return self._bucket(bucket)[place]

    def n_frames(self, step: int) -> int:
        """Frames of all samples of a step, in all processes: what its loss is averaged over."""
        return sum(self.samples.n_frames(i) for i in self.step(step))

    def share(self, step: int, rank: int, processes: int, micro_batch: int) -> list[list[int]]:
        """One process's micro-batches of a step; every process gets at least one if there are enough samples."""
        own = self.step(step)[rank::processes]
        return [own[start : start + micro_batch] for start in range(0, len(own), micro_batch)]

    def _sort_bucket(self, bucket: int) -> list[list[int]]:
        size = self.batch_size * self.bucket_steps
        numbers = sorted(range(bucket * size, (bucket + 1) * size), key=lambda i: (self.samples.n_frames(i), i))
        order = np.random.default_rng([self.seed, 3, bucket]).permutation(self.bucket_steps)
        return [numbers[place * self.batch_size : (place + 1) * self.batch_size] for place in order]


@dataclass(frozen=True)
class ShareSampler:
    """The micro-batches of one process, step after step: what its `DataLoader` reads."""

    deal: Deal
    micro_batch: int
    rank: int
    processes: int
    steps: range

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            yield from self.deal.share(step, self.rank, self.processes, self.micro_batch)


def step_batches(sampler: ShareSampler, workers: int) -> Iterator[list[Batch]]:
    """Per step, this process's micro-batches. The workers start at once, in the calling thread."""
    samples = sampler.deal.samples
    loader: DataLoader[Any] = DataLoader(
        samples,  # type: ignore[arg-type]  # a Dataset by its methods
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=samples.gather,
        worker_init_fn=ignore_signals if workers else None,
        generator=torch.Generator(),  # else it would draw from the one that dropout uses
    )
    gathered = iter(loader)

    def steps() -> Iterator[list[Batch]]:
        for step in sampler.steps:
            share = sampler.deal.share(step, sampler.rank, sampler.processes, sampler.micro_batch)
            yield [samples.finish(next(gathered)) for _ in share]

    return steps()


def collate(samples: Sequence[Sample]) -> Batch:
    """Put samples side by side, padded to the longest of them."""
    n_frames = torch.tensor([sample.codes.shape[1] for sample in samples])
    length = int(n_frames.max())
    codes = torch.zeros(len(samples), samples[0].codes.shape[0], length, dtype=torch.int64)
    for row, sample in zip(codes, samples, strict=True):
        row[:, : sample.codes.shape[1]] = sample.codes
    mask = torch.arange(length) < n_frames[:, None]
    return Batch([sample.id for sample in samples], codes, mask, [sample.text for sample in samples])
