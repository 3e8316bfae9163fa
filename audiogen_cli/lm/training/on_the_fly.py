"""Training examples made on the fly: recordings are read, mixed (sec. 4.1) and encoded while the model trains.

As with shards, example i is a pure function of (seed, i): its window, crop, partner and texts. So a run needs no
shards, and never sees the same mix twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from audiogen_cli.codec.batch_encoder import encode_padded, shard_meta
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.data.augment import AugmentConfig, RowAudio, RowSpec, draw_partner, read_row
from audiogen_cli.data.captions import mask_tags, only_tags, published_texts
from audiogen_cli.data.manifest import load_manifests, manifest_files
from audiogen_cli.data.mixing import mix_rows
from audiogen_cli.data.windows import Window, WindowTable, cut_windows
from audiogen_cli.errors import InputError
from audiogen_cli.lm.config import TrainConfig
from audiogen_cli.lm.training.datasets import Batch, Example, TrainingData, collate
from audiogen_cli.lm.training.preflight import crop_frames
from audiogen_cli.training.sampler import ExampleOrder

ATTEMPTS = 4  # partners tried for one example


@dataclass(frozen=True)
class ReadRow:
    """A row of audio as a worker has read it, to be mixed and encoded; audio: None if it could not be read."""

    spec: RowSpec
    text: str | None
    audio: RowAudio | None
    failure: str = ""


@dataclass(frozen=True)
class ExampleDraw:
    """The random choices of an example. window, partner: numbers of windows; partner is None if it is not mixed.

    starts, texts: of each of the two, the crop in the window and one of its texts, in [0, 1).
    """

    window: int
    partner: int | None
    starts: tuple[float, float]
    texts: tuple[float, float]
    without_text: bool
    mix_seed: int


class OnTheFlyDataset(Dataset[ReadRow]):
    """The windows of clips as an endless sequence of examples.

    windows: of one split. crop_frames: the longest example. augment: of it `mix` is used. text_dropout: share of
    examples without text (sec. 3.2: 10%). raw_texts: captions as published, for models that process no text. mask_tags:
    see `TrainConfig`. A partner that cannot be read gives way to another one. Raises InputError if there are too few
    clips to mix.
    """

    def __init__(
        self,
        windows: WindowTable,
        codec: AudioCodec,
        crop_frames: int,
        augment: AugmentConfig,
        text_dropout: float,
        seed: int,
        raw_texts: bool = False,
        mask_tags: bool = False,
    ) -> None:
        if augment.mix and (not len(windows) or windows.clip_of[0] == windows.clip_of[-1]):
            raise InputError("mix: at least two training clips are needed; set mix=0")
        self.windows, self.augment, self.text_dropout, self.seed = windows, augment, text_dropout, seed
        self.raw_texts = raw_texts
        self.codec: AudioCodec | None = codec
        self.sample_rate, self.hop_length = codec.sample_rate, codec.hop_length
        self.n_samples = np.minimum(windows.n_samples, crop_frames * self.hop_length)
        self.levels = np.array([len(only_tags(windows.clips[clip])) for clip in windows.clip_of]) if mask_tags else None
        self.order = ExampleOrder(len(windows), seed, self.levels)
        self._validation: dict[int, Example] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the codec, which may be on a GPU: worker processes only read."""
        return {**self.__dict__, "codec": None}

    def __len__(self) -> int:
        return len(self.windows)

    def n_frames(self, i: int) -> int:
        draw = self._draw(i)
        n_samples = self.n_samples[draw.window]
        if draw.partner is not None:
            n_samples = max(n_samples, self.n_samples[draw.partner])
        return -(-int(n_samples) // self.hop_length)

    def __getitem__(self, i: int) -> ReadRow:
        draw, masks = self._draw(i), np.random.default_rng([self.seed, 6, i]) if self.levels is not None else None
        window, text = self._crop(draw.window, draw.starts[0], draw.texts[0], masks)
        if draw.partner is None:
            return self._read(RowSpec(window.id, window), None if draw.without_text else text)
        others, number = np.random.default_rng([self.seed, 7, i]), draw.partner
        for _ in range(ATTEMPTS):
            partner, other = self._crop(number, draw.starts[1], draw.texts[1], masks)
            spec = RowSpec(f"{window.id}+{partner.id}", window, partner, draw.mix_seed)
            row = self._read(spec, None if draw.without_text else f"{text} {other}")
            if row.audio:
                break
            number = draw_partner(others, len(self), self.windows.same_clip(draw.window))
        return row

    def collate(self, read: Sequence[ReadRow]) -> list[ReadRow]:
        return list(read)

    def finish(self, collated: Sequence[ReadRow]) -> Batch:
        return collate(self._encode(collated))

    def validation_example(self, row: int) -> Example:
        """Return window `row` from its beginning, unmixed, with its first text; encoded once and kept."""
        if row not in self._validation:
            window, text = self._crop(row, 0.0, 0.0)
            (self._validation[row],) = self._encode([self._read(RowSpec(window.id, window), text)])
        return self._validation[row]

    def _draw(self, i: int) -> ExampleDraw:
        generator = np.random.default_rng([self.seed, 1, i])
        window, partner = self.order[i], None
        dropout, mixed, *rest = generator.random(6)
        if mixed < self.augment.mix:
            partner = draw_partner(generator, len(self), self.windows.same_clip(window))
        mix_seed = int(generator.integers(2**63))
        return ExampleDraw(
            window, partner, (rest[0], rest[1]), (rest[2], rest[3]), dropout < self.text_dropout, mix_seed
        )

    def _crop(
        self, number: int, start: float, text: float, masks: np.random.Generator | None = None
    ) -> tuple[Window, str]:
        """Return the part of a window that fits an example, and one of its texts; start and text, in [0, 1), choose.

        masks: draws [MASK] words among its tags, if it has no captions.
        """
        window, n_samples = self.windows[number], int(self.n_samples[number])
        skipped = int(start * (window.n_samples - n_samples + 1)) / self.sample_rate
        texts = published_texts(window.clip) if self.raw_texts else window.clip.texts
        chosen, tags = texts[int(text * len(texts))], only_tags(window.clip)
        if masks is not None and tags:
            chosen = mask_tags(tags, masks, self.raw_texts)
        return replace(window, start=window.start + skipped, n_samples=n_samples), chosen

    def _read(self, spec: RowSpec, text: str | None) -> ReadRow:
        try:
            return ReadRow(spec, text, read_row(spec, self.sample_rate))
        except InputError as error:
            return ReadRow(spec, text, None, str(error))

    def _encode(self, rows: Sequence[ReadRow]) -> list[Example]:
        """Mix and encode each row as if alone; codes of 0 where there is no audio."""
        codec = self.codec
        assert codec is not None, "a worker does not encode"
        device = next(codec.parameters()).device
        readable = [(number, row.spec, row.audio) for number, row in enumerate(rows) if row.audio]
        encoded = encode_padded(codec, *mix_rows([(spec, audio) for _, spec, audio in readable], device))
        codes = [torch.zeros(codec.n_q, -(-row.spec.n_samples // self.hop_length), dtype=torch.int64) for row in rows]
        for (number, _, _), each in zip(readable, encoded, strict=True):
            codes[number] = torch.from_numpy(each.astype(np.int64))
        return [Example(row.spec.id, each, row.text, row.failure) for row, each in zip(rows, codes, strict=True)]


def load_recordings(config: TrainConfig, manifests: Path, codec: Path, device: torch.device) -> TrainingData:
    """Return the training and validation examples of recordings, encoded by the codec in `codec`.

    Raises InputError if there are no training clips, or too few to mix.
    """
    encoder = AudioCodec.load(codec, device)
    meta = shard_meta(encoder)
    windows = cut_windows(load_manifests(manifests, splits=["train", "val"]), encoder.sample_rate)
    train, validation = windows.select("train"), windows.select("val")
    if not len(train):
        raise InputError(f"{manifests}: no clips in split train; see audiogen info {manifests}")

    def source(chosen: WindowTable, mix: float, masked: bool) -> OnTheFlyDataset:
        frames, augment, raw = crop_frames(config, meta), AugmentConfig(mix=mix), config.model.text_processing == "none"
        return OnTheFlyDataset(chosen, encoder, frames, augment, config.text_dropout, config.seed, raw, masked)

    datasets = tuple(path.stem for path in manifest_files(manifests))
    held_out = source(validation, 0.0, False) if len(validation) else None
    return TrainingData(meta, source(train, config.mix, config.mask_tags), held_out, datasets=datasets)
