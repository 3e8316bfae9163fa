"""Levels of a sound: peak, RMS, integrated loudness (ITU-R BS.1770-5), and the thresholds of silence.

Loudness is our own code because torchaudio's (`functional.loudness`) fails on sounds below its block of 0.4 s, and
needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# Thresholds of silence, one per question. Full scale is 1.
NEAR_SILENT_RMS = 1e-3  # -60 dBFS in the loudest 0.1 s: a listener hears nothing
EMPTY_CROP_PEAK = 1e-4  # -80 dBFS: a training crop holds only padding
NO_SIGNAL = 1e-5  # -100 dBFS, peak or RMS: a recording has no signal to compare or to trim
UNMIXABLE_RMS = 1e-4  # -80 dBFS, above a last bit that flips: another sound's level would raise its recorder's noise
PADDING_RATIO = 10 ** (-50 / 20)  # to the peak of its recording: padding before and after a sound
HOLE_DB = 12.0  # below a sound's median level: it stops for a moment
LOST_OUTPUT_DB = -30.0  # level of a codec's output beside its input: the codec puts out nothing

LOUDEST_WINDOW = 1_600  # samples, 0.1 s at 16 kHz
_MEASURED_BLOCK = 1 << 20

BLOCK, STEP = 0.4, 0.1  # seconds: gating blocks, and how far apart they begin (75% overlap)
ABSOLUTE_GATE = -70.0  # LUFS
RELATIVE_GATE = -10.0  # LU below the mean of what passes the absolute gate
_FADED = 0.2  # seconds after which the filters' response to an impulse is below 1e-18
_OFFSET = -0.691  # dB: makes a full-scale 997 Hz sine in one channel -3.01 LUFS


@dataclass(frozen=True)
class AudioStats:
    """Levels of a waveform. peak, rms: of full scale 1; clipped_samples: at or beyond full scale."""

    peak: float
    rms: float
    clipped_samples: int
    near_silent: bool


def measure(wav: np.ndarray) -> AudioStats:
    """Measure the levels of a waveform [n_samples].

    # ours: near silent means that even the loudest 0.1 s (at 16 kHz) stays below -60 dBFS RMS. The loudest moment
    decides, not the mean: a single short click in a long silence is a sound, and ESC-50 has many.
    """
    if len(wav) == 0:
        return AudioStats(0.0, 0.0, 0, True)
    peak, energy, clipped, loudest, window = 0.0, 0.0, 0, 0.0, min(LOUDEST_WINDOW, len(wav))
    for begin in range(0, len(wav), _MEASURED_BLOCK):  # an hour needs no copy of itself
        samples = np.asarray(wav[max(0, begin - window + 1) : begin + _MEASURED_BLOCK], np.float64)
        loudest = max(loudest, _loudest_rms(samples, window))
        magnitudes = np.abs(samples[begin - max(0, begin - window + 1) :])
        peak, energy = max(peak, float(magnitudes.max())), energy + float(magnitudes @ magnitudes)
        clipped += int(np.count_nonzero(magnitudes >= 32767 / 32768))
    return AudioStats(peak, math.sqrt(energy / len(wav)), clipped, loudest < NEAR_SILENT_RMS)


def _loudest_rms(samples: np.ndarray, window: int) -> float:
    """Return the highest RMS of `window` samples in a row; 0 if there are fewer."""
    energy = np.concatenate([[0.0], np.cumsum(samples**2)])
    return float(np.sqrt(np.max(energy[window:] - energy[:-window], initial=0.0) / window))


def find_holes(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the beginnings [n], in samples, of frames of 0.1 s that are HOLE_DB below the median level of wav [N]."""
    size, step = round(0.1 * sample_rate), round(0.05 * sample_rate)
    energy = np.concatenate([[0.0], np.cumsum(np.asarray(wav, np.float64) ** 2)])
    begins = np.arange(0, len(wav) - size + 1, step)
    levels = np.maximum(energy[begins + size] - energy[begins], 0.0)
    return begins[levels < np.median(levels) * 10 ** (-HOLE_DB / 10)] if begins.size else begins


def find_sound(wav: np.ndarray, sample_rate: int) -> tuple[int, int]:
    """Return the first and the last sample [begin, end) of what is less than 50 dB below the peak of wav [n], in steps
    of 10 ms; (0, 0) if all is silent."""
    hop = round(0.01 * sample_rate)
    peaks = np.abs(np.pad(wav, (0, -len(wav) % hop))).reshape(-1, hop).max(1)
    sounding = np.flatnonzero(peaks > max(PADDING_RATIO * peaks.max(initial=0.0), NO_SIGNAL))
    return (int(sounding[0]) * hop, min(len(wav), int(sounding[-1] + 1) * hop)) if sounding.size else (0, 0)


def loudness(wav: np.ndarray, sample_rate: int) -> float:
    """Measure the integrated loudness of `wav` [n_samples] or [n_samples, C] in LUFS; -inf if nothing passes the gate
    at -70.

    # ours: a sound shorter than one block of 0.4 s is one block.
    """
    return gate(block_powers(wav, sample_rate))


def block_powers(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the K-weighted power of each gating block of `wav` [n_samples]; of [n_samples, C] that of its channels
    together, each with the weight of a front one."""
    if wav.ndim == 2:
        return np.asarray(sum(block_powers(channel, sample_rate) for channel in wav.T))
    block, step = min(round(BLOCK * sample_rate), len(wav)), round(STEP * sample_rate)
    if not block:
        return np.zeros(0)
    begins = np.arange(0, len(wav) - block + 1, step)
    places = np.union1d(begins, begins + block)
    energy, total, known = np.zeros(len(places)), 0.0, 0  # of all before each place; before what is known
    for weighted in k_weighted_parts(wav, sample_rate):  # an hour needs no copy of itself
        squares = weighted**2
        squares[0] += total
        sums = np.cumsum(squares)
        within = slice(*np.searchsorted(places, [known, known + len(sums)], "right"))
        energy[within] = sums[places[within] - known - 1]
        total, known = sums[-1], known + len(sums)
    at = np.searchsorted(places, begins), np.searchsorted(places, begins + block)
    return np.maximum(energy[at[1]] - energy[at[0]], 0.0) / block


def gate(power: np.ndarray) -> float:
    """Return the integrated loudness in LUFS of the powers of blocks; -inf if none passes the gate at -70."""
    gated = power[power > _power(ABSOLUTE_GATE)]
    if not gated.size:
        return -math.inf
    return _lufs(float(gated[gated > gated.mean() * 10 ** (RELATIVE_GATE / 10)].mean()))


def gain_to(target: float, wav: np.ndarray, sample_rate: int) -> float:
    """Return the factor that brings `wav` [n_samples] to `target` LUFS; 1 if it is silent. The result may clip."""
    measured = loudness(wav, sample_rate)
    return 10 ** ((target - measured) / 20) if math.isfinite(measured) else 1.0


def k_weighted_parts(wav: np.ndarray, sample_rate: int) -> Iterator[np.ndarray]:
    """Apply BS.1770's two filters (head-related shelf, high-pass) to `wav` [n_samples], by overlap-add.

    Yields one part after another, float64 [n], together as long as wav.
    """
    tail = math.ceil(_FADED * sample_rate)
    size = 1 << (min(len(wav), _MEASURED_BLOCK // 4) + tail).bit_length()
    delay, step, carried = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size), size - tail, np.zeros(tail)
    shelf, high_pass = (np.polyval(b[::-1], delay) / np.polyval(a[::-1], delay) for b, a in k_filters(sample_rate))
    for begin in range(0, len(wav), step):
        part = np.asarray(wav[begin : begin + step], np.float64)
        weighted = np.fft.irfft(np.fft.rfft(part, size) * (shelf * high_pass), size)
        weighted[:tail] += carried
        carried = weighted[step:]
        yield weighted[: len(part)]


def k_filters(sample_rate: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (b, a) of the shelf and of the high-pass at `sample_rate` Hz.

    BS.1770 gives tables for 48 kHz; these are the bilinear transforms of the analog filters behind them.
    """
    k, q = math.tan(math.pi * 1681.974450955533 / sample_rate), 0.7071752369554196
    high = 10 ** (3.999843853973347 / 20)
    band = high**0.4996667741545416
    shelf = np.array([high + band * k / q + k * k, 2 * (k * k - high), high - band * k / q + k * k])
    shelf_a = np.array([1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k])
    k, q = math.tan(math.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    high_pass_a = np.array([1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k])
    return [(shelf / shelf_a[0], shelf_a / shelf_a[0]), (np.array([1.0, -2.0, 1.0]), high_pass_a / high_pass_a[0])]


def _lufs(power: float) -> float:
    return _OFFSET + 10 * math.log10(power)


def _power(lufs: float) -> float:
    return 10 ** ((lufs - _OFFSET) / 10)
