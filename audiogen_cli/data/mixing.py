"""Mixing augmentation (paper sec. 4.1): two sounds at a random offset and level, their captions one after the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SNR_RANGE = (-5.0, 5.0)  # dB, sec. 4.1
MIN_HEARD = 0.5  # ours: of the second sound, so that its caption stays true


@dataclass(frozen=True)
class Mixture:
    """A mix of two sounds.

    wav: [n_samples] float32 in [-1, 1] if both sounds are. offset: samples from the first sound's beginning to the
    second's. snr: dB, as drawn. gains: what each sound was multiplied with.
    """

    wav: np.ndarray
    offset: int
    snr: float
    gains: tuple[float, float]


def mix(a: np.ndarray, b: np.ndarray, generator: np.random.Generator, max_samples: int | None = None) -> Mixture:
    """Mix sound `b` into sound `a`, both [n_samples] at one sample rate.

    The paper draws a temporal offset and an SNR uniform in [-5, 5] dB and leaves the rest open.
    # ours:
    - b begins at a uniform offset within a, never so late that less than half of it is heard; the mix lasts until
      both have ended, or `max_samples`;
    - the SNR is the power of a over the power of b's heard part, each over its own samples (not over the overlap,
      where either may be silent); b is scaled, so the mix keeps the level of a. A silent sound is left as it is;
    - a mix that passes full scale is scaled down as a whole, which leaves the SNR untouched.
    """
    limit = min(max_samples or len(a) + len(b), len(a) + len(b))
    a = np.asarray(a[:limit], np.float64)
    must_hear = max(1, int(MIN_HEARD * min(len(b), limit)))
    offset = int(generator.integers(0, max(1, min(len(a), limit - must_hear + 1))))
    snr = float(generator.uniform(*SNR_RANGE))
    b = np.asarray(b[: limit - offset], np.float64)
    power_a, power_b = np.mean(a**2), np.mean(b**2)
    gain = float(np.sqrt(power_a / (power_b * 10 ** (snr / 10)))) if power_a > 0 and power_b > 0 else 1.0
    wav = np.zeros(max(len(a), offset + len(b)))
    wav[: len(a)] += a
    wav[offset : offset + len(b)] += gain * b
    scale = 1 / max(1.0, float(np.abs(wav).max(initial=0.0)))
    return Mixture((scale * wav).astype(np.float32), offset, snr, (scale, scale * gain))


def mix_texts(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    """Concatenate captions in pairs; the shorter list starts again, so every caption of either is used."""
    return tuple(f"{a[i % len(a)]} {b[i % len(b)]}" for i in range(max(len(a), len(b))))
