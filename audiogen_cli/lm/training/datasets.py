"""Training examples of the language model: number i is a pure function of (seed, i), in any process.

`TokenDataset` reads them from token shards; `OnTheFlyDataset` (`on_the_fly.py`) makes them of recordings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from audiogen_cli.data.captions import mask_tags
from audiogen_cli.data.shards import ShardMeta, content_digest, load_shards, read_shard, shard_files
from audiogen_cli.errors import InputError
from audiogen_cli.lm.config import TrainConfig
from audiogen_cli.lm.training.preflight import check_shards, crop_frames
from audiogen_cli.training.prefetch import load_batches
from audiogen_cli.training.sampler import ExampleOrder, RankBatchSampler

if TYPE_CHECKING:
    import datasets


MOST_STEPS = 16  # that a mean is taken over


@dataclass(frozen=True)
class Example:
    """One crop and its text. failure: why its audio could not be read; its codes are then no part of the loss."""

    id: str
    codes: Tensor  # [K, T] int64
    text: str | None
    failure: str = ""


@dataclass(frozen=True)
class Batch:
    """The examples of one micro-batch, padded on the right to the longest."""

    ids: list[str]
    codes: Tensor  # [B, K, T] int64, 0 on padding
    frames_mask: Tensor  # [B, T] bool, False on padding and where the audio could not be read
    texts: list[str | None]
    failures: tuple[str, ...] = ()


class ExampleSource(Protocol):
    """An endless sequence of examples: the i-th can be made anywhere, without those before it.

    `source[i]` reads it and `collate` puts a batch side by side (both in a worker process); `finish` makes of that what
    the model takes (in the training's process).
    """

    def __len__(self) -> int:
        """Return the number of examples of an epoch; the next one has another order, other crops and mixes."""

    def n_frames(self, i: int) -> int:
        """Return the frames of example i, without reading it."""

    def __getitem__(self, i: int) -> Any: ...

    def collate(self, read: Sequence[Any]) -> Any:
        """Put what was read side by side; the result can be sent between processes."""

    def finish(self, collated: Any) -> Batch:
        """Return what the model takes."""

    def validation_example(self, row: int) -> Example:
        """Return row `row` of the data itself: from its beginning, unmixed, with its first text."""


@dataclass(frozen=True)
class TrainingData:
    """The examples of a run. validation: None if there is no val split. digest: of shards; "" if not known. datasets:
    their names."""

    meta: ShardMeta
    train: ExampleSource
    validation: ExampleSource | None
    digest: str = ""
    datasets: tuple[str, ...] = ()


class TokenDataset(Dataset[Example]):
    """The rows of a split as an endless sequence of examples: which row, which crop, which of its texts, or none.

    rows: shards with the columns of `data/shards.py`. crop_frames: the longest example. text_dropout: share of examples
    without text (sec. 3.2: 10%). texts: the column that they are read from. mask_tags: see `TrainConfig`.
    """

    def __init__(
        self,
        rows: datasets.Dataset,
        n_q: int,
        crop_frames: int,
        text_dropout: float,
        seed: int,
        texts: Literal["texts", "captions"] = "texts",
        mask_tags: bool = False,
    ) -> None:
        columns = ["id", "codes", texts, *(["tags"] if mask_tags else [])]
        self.rows = rows.select_columns(columns).with_format("numpy")
        self.texts = texts
        self.lengths = np.asarray(rows["n_frames"][:], dtype=np.int64)
        self.n_q, self.crop_frames, self.text_dropout, self.seed = n_q, crop_frames, text_dropout, seed
        levels = np.array([len(tags) for tags in rows["tags"][:]]) if mask_tags else None
        self.order = ExampleOrder(len(rows), seed, levels)

    def __len__(self) -> int:
        return len(self.rows)

    def n_frames(self, i: int) -> int:
        return int(min(self.crop_frames, self.lengths[self.order[i]]))

    def __getitem__(self, i: int) -> Example:
        generator = np.random.default_rng([self.seed, 1, i])
        start, text, dropout = generator.random(3)
        example = self._crop(self.order[i], start, text, generator)
        return replace(example, text=None) if dropout < self.text_dropout else example

    def collate(self, read: Sequence[Example]) -> Batch:
        return collate(read)

    def finish(self, collated: Batch) -> Batch:
        return collated

    def validation_example(self, row: int) -> Example:
        return self._crop(row, 0.0, 0.0)

    def _crop(self, index: int, start: float, text: float, masks: np.random.Generator | None = None) -> Example:
        """Read row `index`; start and text, in [0, 1), choose the crop and one of its texts; masks: see `mask_tags`."""
        row = self.rows[index]
        codes = row["codes"].reshape(self.n_q, -1)
        first = int(start * (max(0, codes.shape[1] - self.crop_frames) + 1))
        codes = codes[:, first : first + self.crop_frames]
        chosen = str(row[self.texts][int(text * len(row[self.texts]))])
        if masks is not None and len(tags := row.get("tags", ())):
            chosen = mask_tags(tags, masks, self.texts == "captions")
        return Example(str(row["id"]), torch.from_numpy(codes.astype(np.int64)), chosen)


class LengthBuckets:
    """The examples of each step, in all processes: none twice, none left out, those of one step of about one length.

    The examples of `bucket_steps` steps are sorted by length and cut into steps, which come in a random order. A pure
    function of (seed, step).
    """

    def __init__(self, source: ExampleSource, batch_size: int, bucket_steps: int = 1, seed: int = 0) -> None:
        self.source, self.batch_size, self.bucket_steps, self.seed = source, batch_size, bucket_steps, seed
        self._bucket = lru_cache(maxsize=2)(self._sort_bucket)

    def step(self, step: int) -> list[int]:
        """Return the numbers of a step's examples, from short to long: taken in turn, all ranks get equal work."""
        bucket, place = divmod(step, self.bucket_steps)
        return self._bucket(bucket)[place]

    def lengths(self, step: int) -> list[int]:
        """Return the frames of each example of a step; its loss is averaged over all of them."""
        return [self.source.n_frames(i) for i in self.step(step)]

    def mean_length(self, step: int) -> float:
        """Return the mean frames of an example in the steps that are sorted together with a step."""
        bucket = step // self.bucket_steps
        steps = range(bucket * self.bucket_steps, (bucket + 1) * self.bucket_steps)[:MOST_STEPS]
        return sum(sum(self.lengths(each)) for each in steps) / len(steps) / self.batch_size

    def _sort_bucket(self, bucket: int) -> list[list[int]]:
        size = self.batch_size * self.bucket_steps
        numbers = sorted(range(bucket * size, (bucket + 1) * size), key=lambda i: (self.source.n_frames(i), i))
        order = np.random.default_rng([self.seed, 3, bucket]).permutation(self.bucket_steps)
        return [numbers[place * self.batch_size : (place + 1) * self.batch_size] for place in order]


def step_batches(source: ExampleSource, sampler: RankBatchSampler, workers: int) -> Iterator[list[Batch]]:
    """Yield each step's micro-batches of one process. The workers start at once, in the calling thread."""
    collated = load_batches(source, sampler, workers, source.collate)  # type: ignore[arg-type]  # a Dataset by methods

    def steps() -> Iterator[list[Batch]]:
        for step in sampler.steps:
            yield [source.finish(next(collated)) for _ in sampler.batches(step)]

    return steps()


def collate(examples: Sequence[Example]) -> Batch:
    """Put examples side by side, padded to the longest."""
    n_frames = torch.tensor([example.codes.shape[1] for example in examples])
    length = int(n_frames.max())
    codes = torch.zeros(len(examples), examples[0].codes.shape[0], length, dtype=torch.int64)
    for row, example in zip(codes, examples, strict=True):
        row[:, : example.codes.shape[1]] = example.codes
    readable = torch.tensor([not example.failure for example in examples])
    mask = (torch.arange(length) < n_frames[:, None]) & readable[:, None]
    failures = tuple(example.failure for example in examples if example.failure)
    return Batch([example.id for example in examples], codes, mask, [example.text for example in examples], failures)


def load_tokens(config: TrainConfig, tokens: Path) -> TrainingData:
    """Return the training and validation examples in token shards. Raises InputError if there are no training rows."""
    meta = check_shards(tokens)
    texts: Literal["texts", "captions"] = "captions" if config.model.text_processing == "none" else "texts"

    def source(split: str) -> ExampleSource:
        rows = load_shards(tokens, splits=[split])
        if texts not in rows.column_names:
            raise InputError(
                f"{tokens}: made before shards kept captions, which text_processing: none reads: tokenize again"
            )
        if config.mask_tags and "tags" not in rows.column_names:
            raise InputError(f"{tokens}: made before shards kept tags, which mask_tags reads: tokenize again")
        frames, masked = crop_frames(config, meta), config.mask_tags and split == "train"
        return TokenDataset(rows, meta.n_q, frames, config.text_dropout, config.seed, texts, masked)

    validation = source("val") if meta.counts.get("val") else None
    found = (read_shard(path, meta, ["dataset"])["dataset"].unique().to_pylist() for path in shard_files(tokens))
    datasets = tuple(sorted({name for names in found for name in names}))
    return TrainingData(meta, source("train"), validation, content_digest(tokens), datasets)
