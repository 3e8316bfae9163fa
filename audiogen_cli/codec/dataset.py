"""Random crops of clips: the audio that the codec trains on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from audiogen_cli.data.augment import NO_AUGMENTATION, AugmentConfig, draw_partner, read_filled
from audiogen_cli.data.loudness import EMPTY_CROP_PEAK
from audiogen_cli.data.manifest import Clip
from audiogen_cli.data.mixing import draw_mix, mix
from audiogen_cli.data.windows import WINDOW_SECONDS, whole_clip
from audiogen_cli.errors import InputError
from audiogen_cli.training.sampler import ExampleOrder

REDRAWS = 4
ATTEMPTS = 8  # clips tried for one crop before the recordings as a whole are called unreadable


@dataclass(frozen=True)
class Crop:
    """An example, or a batch of them, as read. unreadable: id and reason of the clips that were left out."""

    wav: Tensor  # [1, N]; of a batch [B, 1, N]
    unreadable: Mapping[str, str] = field(default_factory=dict)


class CropDataset(Dataset[Crop]):
    """Example number i → a crop [1, N], a pure function of (seed, i), so that any process can make any example.

    augment: a loop-filled crop is cut from the loop-filled clip; a mixed one is two crops mixed. In place of a clip
    that cannot be read another one is drawn. Raises InputError if there are no clips, or too few to mix.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        seconds: float,
        sample_rate: int,
        seed: int,
        augment: AugmentConfig = NO_AUGMENTATION,
    ) -> None:
        if not clips:
            raise InputError("no clips to train on: the manifests hold none of the split asked for")
        if augment.mix and len(clips) < 2:
            raise InputError("mix: at least two training clips are needed; set mix=0")
        self.clips, self.sample_rate, self.seed, self.augment = clips, sample_rate, seed, augment
        self.order = ExampleOrder(len(clips), seed)
        self.n_samples = round(seconds * sample_rate)

    def clip(self, i: int) -> Clip:
        """Return the clip that example i is cut from."""
        return self.clips[self.order[i]]

    def __getitem__(self, i: int) -> Crop:
        generator = np.random.default_rng([self.seed, i])
        unreadable: dict[str, str] = {}
        number, wav = self._readable(self.order[i], generator, unreadable)
        if self.augment.mix and generator.random() < self.augment.mix:
            partner = draw_partner(generator, len(self.clips), range(number, number + 1))
            drawn = torch.Generator().manual_seed(int(generator.integers(2**63)))
            draw = draw_mix(drawn, self.n_samples, self.n_samples, self.n_samples)
            _, other = self._readable(partner, generator, unreadable)
            wav = mix(wav[None], other[None], [draw]).wav[0]
        return Crop(wav, unreadable)

    def collate(self, crops: Sequence[Crop]) -> Crop:
        """Put crops side by side."""
        unreadable = {id: reason for crop in crops for id, reason in crop.unreadable.items()}
        return Crop(torch.stack([crop.wav for crop in crops]), unreadable)

    def _readable(self, number: int, generator: np.random.Generator, unreadable: dict[str, str]) -> tuple[int, Tensor]:
        """Crop clip `number`, or the first clip drawn after it that can be read; put the others into `unreadable`."""
        for _ in range(ATTEMPTS):
            try:
                return number, self._audible(self.clips[number], generator)
            except InputError as error:
                unreadable[self.clips[number].id] = reason = str(error)
                number = int(generator.integers(len(self.clips)))
        raise InputError(f"{ATTEMPTS} clips in a row cannot be read, the last one: {reason}")

    def _audible(self, clip: Clip, generator: np.random.Generator) -> Tensor:
        # ours: digital silence, with which many short recordings are padded, teaches nothing; draw again.
        for _ in range(1 + REDRAWS):
            wav = self._crop(clip, generator)
            if wav.abs().max() > EMPTY_CROP_PEAK:
                break
        return wav[None]

    def _crop(self, clip: Clip, generator: np.random.Generator) -> Tensor:
        augment, position = self.augment, generator.random()
        speed = 1 + augment.vary * generator.uniform(-1, 1) if augment.vary else 1.0
        whole = whole_clip(clip, self.sample_rate, speed)
        first = round(position * max(0, whole.n_samples - self.n_samples))
        n_samples = min(self.n_samples, whole.n_samples)
        if augment.fill and generator.random() < augment.fill:
            # Of a long clip, a window of 10 s alone.
            n_read = min(max(round(WINDOW_SECONDS * self.sample_rate), n_samples), whole.n_samples)
            begin = min(first // n_read * n_read, whole.n_samples - n_read)
            window = replace(whole, start=clip.start + begin * speed / self.sample_rate, n_samples=n_read)
            wav = read_filled(window, self.sample_rate, True)[min(first - begin, n_read - n_samples) :][:n_samples]
        else:
            start = clip.start + first * speed / self.sample_rate
            window = replace(whole, start=start, n_samples=n_samples)
            wav = read_filled(window, self.sample_rate, False)[:n_samples]
        return F.pad(torch.from_numpy(wav), (0, self.n_samples - len(wav)))
