"""Training samples made on the fly: recordings are read, mixed (sec. 4.1) and encoded while the model trains.

Sample number i is a pure function of (seed, i), as with shards: which window of which clip, which other one is mixed
into it, how, and with which texts. So a run needs no shards, and never sees the same mix twice.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from audiogen_cli.codec.batch_encoder import DEVICE_ROWS, encode_in_groups
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.codec.plan import Plan, Window, split_clip
from audiogen_cli.codec.tokenize import Sounds, assemble, read_sounds
from audiogen_cli.data.manifest import Clip
from audiogen_cli.errors import InputError
from audiogen_cli.lm.training.datasets import Batch, Sample, collate
from audiogen_cli.training.schedule import SampleOrder


@dataclass(frozen=True)
class Sound:
    """A sample as read: its plan, its text, its audio or why there is none."""

    plan: Plan
    text: str | None
    sounds: Sounds | None
    failure: str = ""


@dataclass(frozen=True)
class Draw:
    """What is random about a sample. window, partner: numbers of windows, the partner's None if it is not mixed.

    start, text: of each of the two, where in the window and which of its texts, in [0, 1). seed: of the mix.
    """

    window: int
    partner: int | None
    start: tuple[float, float]
    text: tuple[float, float]
    silent: bool  # without text
    seed: int


class SoundSamples(Dataset[Sound]):
    """The windows (of up to 10 s, as `audiogen tokenize` cuts them) of clips as an endless sequence of samples.

    clips: gone through once, then read as asked for; only numbers are kept. crop_frames: the longest sample; mix:
    share of samples into which a window of another clip is mixed; text_dropout: share of samples without text (sec.
    3.2: 10%). Raises InputError if there are too few clips to mix.
    """

    def __init__(
        self, clips: Sequence[Clip], codec: AudioCodec, crop_frames: int, mix: float, text_dropout: float, seed: int
    ) -> None:
        self.clips = clips
        self.codec: AudioCodec | None = codec
        self.sample_rate, self.hop_length = codec.sample_rate, codec.hop_length
        self.crop_frames, self.mix, self.text_dropout, self.seed = crop_frames, mix, text_dropout, seed
        clip_of, part, n_samples = array("I"), array("I"), array("I")  # of each window: its clip, its place there
        for index, clip in enumerate(clips):
            for number, window in enumerate(split_clip(clip, self.sample_rate)):
                clip_of.append(index)
                part.append(number)
                n_samples.append(min(window.n_samples, crop_frames * self.hop_length))
        self._clip_of, self._part, self._n_samples = np.asarray(clip_of), np.asarray(part), np.asarray(n_samples)
        if mix and len(clips) < 2:
            raise InputError("mix: at least two training clips are needed; set mix=0")
        self.order = SampleOrder(len(clip_of), seed)
        self._rows: dict[int, Sample] = {}

    def __getstate__(self) -> dict[str, Any]:
        """For workers, which read only: the codec, which may be on a GPU, stays where it is."""
        return {**self.__dict__, "codec": None}

    def __len__(self) -> int:
        return len(self._clip_of)

    def n_frames(self, i: int) -> int:
        """Frames of sample i, without reading it."""
        draw = self._draw(i)
        n_samples = self._n_samples[draw.window]
        if draw.partner is not None:
            n_samples = max(n_samples, self._n_samples[draw.partner])
        return -(-int(n_samples) // self.hop_length)

    def __getitem__(self, i: int) -> Sound:
        draw = self._draw(i)
        window, text = self._crop(draw.window, draw.start[0], draw.text[0])
        plan = Plan(window.id, window)
        if draw.partner is not None:
            partner, other = self._crop(draw.partner, draw.start[1], draw.text[1])
            plan, text = Plan(f"{window.id}+{partner.id}", window, partner, draw.seed), f"{text} {other}"
        return self._read(plan, None if draw.silent else text)

    def gather(self, read: Sequence[Sound]) -> list[Sound]:
        """Sounds are mixed and encoded where the codec is, in the training's process."""
        return list(read)

    def finish(self, gathered: Sequence[Sound]) -> Batch:
        """Mix and encode. Raises InputError if none of the sounds could be read."""
        failed = tuple(sound.failure for sound in gathered if sound.failure)
        if len(failed) == len(gathered):
            raise InputError(f"none of {len(failed)} recordings can be read: {failed[0]}")
        codes = self._encode(gathered)
        batch = collate([Sample(s.plan.id, c, s.text) for s, c in zip(gathered, codes, strict=True)])
        heard = torch.tensor([not sound.failure for sound in gathered])
        return replace(batch, frames_mask=batch.frames_mask & heard[:, None], failed=failed)

    def row(self, index: int) -> Sample:
        """Window `index` from its beginning, unmixed, with its clip's first text; encoded once and kept.

        Raises InputError if it cannot be read.
        """
        if index not in self._rows:
            window, text = self._crop(index, 0.0, 0.0)
            sound = self._read(Plan(window.id, window), text)
            if sound.failure:
                raise InputError(sound.failure)
            self._rows[index] = Sample(window.id, self._encode([sound])[0], text)
        return self._rows[index]

    def _draw(self, i: int) -> Draw:
        generator = np.random.default_rng([self.seed, 1, i])
        window, partner = self.order[i], None
        silent, mixed, *rest = generator.random(6)
        if mixed < self.mix:
            partner = window
            while self._clip_of[partner] == self._clip_of[window]:
                partner = int(generator.integers(len(self)))
        seed = int(generator.integers(2**63))
        return Draw(window, partner, (rest[0], rest[1]), (rest[2], rest[3]), silent < self.text_dropout, seed)

    def _crop(self, index: int, start: float, choice: float) -> tuple[Window, str]:
        """The part of a window that fits a sample, and one of its texts; start and choice in [0, 1) say which."""
        clip = self.clips[int(self._clip_of[index])]
        window = split_clip(clip, self.sample_rate)[self._part[index]]
        n_samples = int(self._n_samples[index])
        skipped = int(start * (window.n_samples - n_samples + 1)) / self.sample_rate
        text = clip.texts[int(choice * len(clip.texts))]
        return replace(window, start=window.start + skipped, n_samples=n_samples), text

    def _read(self, plan: Plan, text: str | None) -> Sound:
        try:
            return Sound(plan, text, read_sounds(plan, self.sample_rate))
        except InputError as error:
            return Sound(plan, text, None, str(error))

    def _encode(self, sounds: Sequence[Sound]) -> list[torch.Tensor]:
        """The codes [K, T] of each sound, on the CPU, each as if alone; zeros where there is no sound."""
        codec = self.codec
        assert codec is not None, "a worker does not encode"
        device = next(codec.parameters()).device
        found = [(index, sound.plan, sound.sounds) for index, sound in enumerate(sounds) if sound.sounds]
        wavs = assemble([(plan, read) for _, plan, read in found], device)
        encoded = encode_in_groups(codec, wavs, 1 if device.type == "cpu" else DEVICE_ROWS)
        lengths = [-(-sound.plan.n_samples // self.hop_length) for sound in sounds]
        codes = [torch.zeros(codec.n_q, length, dtype=torch.int64) for length in lengths]
        for (index, _, _), each in zip(found, encoded, strict=True):
            codes[index] = torch.from_numpy(each.astype(np.int64))
        return codes
