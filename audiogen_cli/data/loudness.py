"""How loud a sound is to the ear: integrated loudness of ITU-R BS.1770-5 in LUFS, for mono at any rate.

One measure for everything that matches levels: what is written to be listened to, and stimuli that stand side by side.
"""

from __future__ import annotations

import math

import numpy as np

BLOCK, STEP = 0.4, 0.1  # seconds: gating blocks, and how far apart they begin (75% overlap)
ABSOLUTE_GATE = -70.0  # LUFS
RELATIVE_GATE = -10.0  # LU below the mean of what passes the absolute gate
_OFFSET = -0.691  # dB: makes a full-scale 997 Hz sine in one channel -3.01 LUFS


def loudness(wav: np.ndarray, sample_rate: int) -> float:
    """Integrated loudness of mono `wav` [n_samples] in LUFS; -inf if no moment of it passes the gate at -70.

    # ours: a sound shorter than one block of 0.4 s is one block.
    """
    weighted = k_weight(np.asarray(wav, np.float64), sample_rate)
    block, step = min(round(BLOCK * sample_rate), len(weighted)), round(STEP * sample_rate)
    if not block:
        return -math.inf
    energy = np.concatenate([[0.0], np.cumsum(weighted**2)])
    begins = np.arange(0, len(weighted) - block + 1, step)
    power = np.maximum(energy[begins + block] - energy[begins], 0.0) / block
    heard = power[power > _power(ABSOLUTE_GATE)]
    if not heard.size:
        return -math.inf
    return _lufs(float(heard[heard > heard.mean() * 10 ** (RELATIVE_GATE / 10)].mean()))


def gain_to(target: float, wav: np.ndarray, sample_rate: int) -> float:
    """The factor that brings `wav` [n_samples] to `target` LUFS; 1 for a sound without loudness. May make it clip."""
    measured = loudness(wav, sample_rate)
    return 10 ** ((target - measured) / 20) if math.isfinite(measured) else 1.0


def k_weight(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """BS.1770's two filters (a shelf for the head, a high-pass), their 48 kHz tables carried to `sample_rate`."""
    from scipy.signal import lfilter

    for b, a in k_filters(sample_rate):
        wav = lfilter(b, a, wav)
    return wav


def k_filters(sample_rate: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(b, a) of the shelf and of the high-pass, by the bilinear transform of the analogue filters behind the tables."""
    k, q = math.tan(math.pi * 1681.974450955533 / sample_rate), 0.7071752369554196
    high = 10 ** (3.999843853973347 / 20)
    band = high**0.4996667741545416
    shelf = np.array([high + band * k / q + k * k, 2 * (k * k - high), high - band * k / q + k * k])
    shelf_a = np.array([1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k])
    k, q = math.tan(math.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    high_pass_a = np.array([1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k])
    return [
        (shelf / shelf_a[0], shelf_a / shelf_a[0]),
        (np.array([1.0, -2.0, 1.0]), high_pass_a / high_pass_a[0]),
    ]


def _lufs(power: float) -> float:
    return _OFFSET + 10 * math.log10(power)


def _power(lufs: float) -> float:
    return 10 ** ((lufs - _OFFSET) / 10)
