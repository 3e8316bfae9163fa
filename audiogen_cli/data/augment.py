"""Augmentation of training audio: other speeds, loop-filling, partners to mix with. Imports no torch.

Mixing itself (paper sec. 4.1) is arithmetic on tensors: `data/mixing.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from audiogen_cli.data.loudness import find_sound
from audiogen_cli.data.windows import Window, read_window

# Loop-filling
PEAK = 0.7
FADE_SECONDS = 0.01
PAUSES = (0.2, 1.0)  # seconds between repetitions
FIRST_PAUSE = (0.0, 0.5)  # seconds before the first, where there is room
FULL = 0.9  # a sound that lasts this share of the recording begins at once

RowAudio = tuple[np.ndarray, np.ndarray | None]  # of a row: its window [N], and the window mixed into it [M]


@dataclass(frozen=True)
class AugmentConfig:
    """Settings of varying training audio, for `tokenize` and both trainings.

    mix: share of examples into which a window of another clip is mixed; `tokenize` counts copies instead. vary: the
    most by which a sound plays slower or faster, as a share. fill: share of examples that are loop-filled.
    """

    mix: float = 0.0
    vary: float = 0.0
    fill: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.mix <= 1 and 0 <= self.fill <= 1 and 0 <= self.vary <= 0.5):
            raise ValueError("mix and fill must lie in [0, 1] and vary in [0, 0.5]")


NO_AUGMENTATION = AugmentConfig()


@dataclass(frozen=True)
class RowSpec:
    """The parts of one row of training audio: a window, or a mix of two.

    mix_seed: draws the mix's offset and SNR; 0 where there is none. fill: loop-fill each window before mixing.
    """

    id: str
    window: Window
    partner: Window | None = None
    mix_seed: int = 0
    fill: bool = False

    @property
    def n_samples(self) -> int:
        """Return the length of the row's audio: a mix is as long as the longer of its two windows."""
        return max(self.window.n_samples, self.partner.n_samples if self.partner else 0)


def read_row(row: RowSpec, sample_rate: int) -> RowAudio:
    """Read a row's window and its partner, not yet mixed. Raises InputError if a file cannot be read."""
    partner = read_filled(row.partner, sample_rate, row.fill) if row.partner else None
    return read_filled(row.window, sample_rate, row.fill), partner


def read_filled(window: Window, sample_rate: int, fill: bool) -> np.ndarray:
    """Read a window's audio [N] float32; fill: loop-fill it. Raises InputError if the file cannot be read."""
    wav = read_window(window, sample_rate)
    return loop_fill(wav, sample_rate, np.random.default_rng(window.pause_seed)) if fill else wav


def speed_perturbed(window: Window, speed: float, pause_seed: int, max_samples: int) -> Window:
    """Return the window at `speed` times its speed, with other pauses; a slower one is cut at `max_samples`."""
    n_samples = max(1, min(max_samples, round(window.n_samples / speed)))
    return replace(window, speed=speed, pause_seed=pause_seed, n_samples=n_samples)


def draw_partner(generator: np.random.Generator, n_windows: int, same_clip: range) -> int:
    """Draw the window to mix with: uniform among `n_windows` but those of the same clip, of which there must be one."""
    partner = same_clip.start
    while partner in same_clip:
        partner = int(generator.integers(n_windows))
    return partner


def loop_fill(wav: np.ndarray, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """Repeat a recording's sound until the recording is full: wav [N] float32 → [N] at a peak of 0.7.

    # ours: many recordings of short sounds are padded with digital silence (ESC-50: 15% of its time), which a model
    learns to imitate as readily as the sound.
    generator: draws the pauses between repetitions. A silent recording is returned as it is.
    """
    sound = wav[slice(*find_sound(wav, sample_rate))]
    if not sound.size:
        return wav
    n_fade = min(round(FADE_SECONDS * sample_rate), len(sound) // 2)
    envelope = np.ones(len(sound), np.float32)
    envelope[:n_fade] = np.linspace(0, 1, n_fade)
    envelope[len(sound) - n_fade :] = np.linspace(1, 0, n_fade)
    sound = (envelope * sound * (PEAK / np.abs(sound).max())).astype(np.float32)
    filled, begin = np.zeros_like(wav), 0
    if len(sound) < FULL * len(wav):
        begin = min(round(generator.uniform(*FIRST_PAUSE) * sample_rate), len(wav) - len(sound))
    while begin < len(filled):
        end = min(begin + len(sound), len(filled))
        filled[begin:end] = sound[: end - begin]
        begin = end + round(generator.uniform(*PAUSES) * sample_rate)
    return filled
