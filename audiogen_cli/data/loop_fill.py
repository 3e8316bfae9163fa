"""Fill a recording with its sound: what is silent at its ends gives way to repetitions, at one level.

# ours: many recordings of short sounds are padded with digital silence (ESC-50: 15% of its time), which a model learns
to imitate as readily as the sound.
"""

from __future__ import annotations

import numpy as np

from audiogen_cli.data.loudness import NO_SIGNAL, PADDING_RATIO

HOP_SECONDS = 0.01
PEAK = 0.7
FADE_SECONDS = 0.01
PAUSES = (0.2, 1.0)  # seconds between repetitions
FIRST_PAUSE = (0.0, 0.5)  # seconds before the first, where there is room
FULL = 0.9  # a sound that lasts this share of the recording begins at once


def fill(wav: np.ndarray, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """wav [N] float32 → [N]: without the silence at its ends, at a peak of 0.7, repeated after pauses until it is full.

    generator: draws the pauses. What is silent altogether is returned as it is.
    """
    sound = trim(wav, sample_rate)
    if not sound.size:
        return wav
    n_fade = min(round(FADE_SECONDS * sample_rate), len(sound) // 2)
    envelope = np.ones(len(sound), np.float32)
    envelope[:n_fade] = np.linspace(0, 1, n_fade)
    envelope[len(sound) - n_fade :] = np.linspace(1, 0, n_fade)
    sound = (envelope * sound * (PEAK / np.abs(sound).max())).astype(np.float32)
    filled, begin = np.zeros_like(wav), 0
    if len(sound) < FULL * len(wav):
        begin = round(generator.uniform(*FIRST_PAUSE) * sample_rate)
    while begin < len(filled):
        end = min(begin + len(sound), len(filled))
        filled[begin:end] = sound[: end - begin]
        begin = end + round(generator.uniform(*PAUSES) * sample_rate)
    return filled


def trim(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """wav [N] without what is below -50 dB of its peak at either end, to 10 ms; [0] if nothing sounds."""
    hop = round(HOP_SECONDS * sample_rate)
    peaks = np.abs(np.pad(wav, (0, -len(wav) % hop))).reshape(-1, hop).max(1)
    heard = np.flatnonzero(peaks > max(PADDING_RATIO * peaks.max(initial=0.0), NO_SIGNAL))
    return wav[heard[0] * hop : (heard[-1] + 1) * hop] if heard.size else wav[:0]
