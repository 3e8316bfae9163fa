"""Mel spectrograms in numpy: the front end of VGGish and YAMNet, and the decibels of mel distance and plots.

torchaudio serves PANN, PaSST and the codec's loss. Here it does not: Google's filters are float64 and without torch,
and torchaudio's triangles leave bands empty that are narrower than a bin.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import scipy.fft

FRAME, HOP, FFT_SIZE = 400, 160, 512  # samples at 16 kHz: 25 ms every 10 ms
RATE, N_MELS, LOWEST, HIGHEST = 16_000, 64, 125.0, 7500.0
DB_FLOOR = 1e-5  # of full scale, -100 dB: a level below it counts as silence


def log_mel(wav: np.ndarray, offset: float) -> np.ndarray:
    """Compute VGGish's ln(mel magnitudes + offset), [frames, 64] float32, of wav [N] float32 at 16 kHz.

    frames = 1 + (N - 400) // 160, without padding. offset: 0.01 for VGGish, 0.001 for YAMNet.
    """
    frames = np.lib.stride_tricks.sliding_window_view(wav, FRAME)[::HOP]
    magnitude = np.abs(scipy.fft.rfft(frames * _vggish_window(), FFT_SIZE))  # [frames, 257], not squared
    return np.asarray(np.log(magnitude @ _vggish_filters() + np.float32(offset)))


def mel_db(wav: np.ndarray, window: int, sample_rate: int) -> np.ndarray:
    """Compute [frames, 64] in dB of full scale, hop window / 4, zero-padded by half a window at both ends.

    wav: [N]. Bands between 0 Hz and Nyquist, equal on HTK's mel scale.
    """
    padded = np.pad(wav.astype(np.float64), window // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[:: window // 4]
    shape = np.hanning(window + 1)[:-1]
    magnitude = np.abs(np.fft.rfft(frames * shape)) / (shape.sum() / 2)  # a full-scale sine peaks at 1
    return 20 * np.log10(magnitude @ _wide_filters(window, sample_rate) + DB_FLOOR)


def _mel(frequency: np.ndarray) -> np.ndarray:
    return 1127 * np.log1p(frequency / 700)


@cache
def _vggish_window() -> np.ndarray:
    # Periodic, not symmetric, as in TensorFlow's STFT.
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME), np.float32)


@cache
def _vggish_filters() -> np.ndarray:
    """Build [257, 64] triangles that are linear in mel (HTK's scale), each 1 at its center."""
    bins = _mel(np.linspace(0, RATE / 2, FFT_SIZE // 2 + 1))[:, None]
    edges = np.linspace(_mel(np.float64(LOWEST)), _mel(np.float64(HIGHEST)), N_MELS + 2)
    left, center, right = edges[:-2], edges[1:-1], edges[2:]
    filters = np.maximum(0, np.minimum((bins - left) / (center - left), (right - bins) / (right - center)))
    return filters.astype(np.float32)


@cache
def _wide_filters(window: int, sample_rate: int) -> np.ndarray:
    """Build [window // 2 + 1, 64] triangles that are linear in Hz, each at least as wide as one bin."""
    frequencies = np.fft.rfftfreq(window, 1 / sample_rate)[:, None]
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, N_MELS + 2) / 2595) - 1)
    low, center, high = edges[:-2], edges[1:-1], edges[2:]
    width = sample_rate / window  # Hz: a narrower triangle might miss every bin
    rise, fall = np.maximum(center - low, width), np.maximum(high - center, width)
    return np.maximum(0, np.minimum(1 - (center - frequencies) / rise, 1 - (frequencies - center) / fall))
