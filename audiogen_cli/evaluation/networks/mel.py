"""Mel filterbanks and the log-mel front end that VGGish and YAMNet share; numpy only.

Three filterbanks live under one name in this field: triangles linear in mel on HTK's scale (VGGish, YAMNet, Kaldi and
with it PaSST), and triangles linear in Hz on Slaney's scale, each of unit area (librosa, and with it PANN).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import scipy.fft

FRAME, HOP, FFT_SIZE = 400, 160, 512  # samples at 16 kHz: 25 ms every 10 ms
RATE, N_MELS, LOWEST, HIGHEST = 16_000, 64, 125.0, 7500.0


def log_mel(wav: np.ndarray, offset: float) -> np.ndarray:
    """VGGish's front end: ln(mel magnitudes + offset), [frames, 64] float32, of wav [N] float32 at 16 kHz.

    frames = 1 + (N - 400) // 160; nothing is padded. offset: 0.01 for VGGish, 0.001 for YAMNet.
    """
    frames = np.lib.stride_tricks.sliding_window_view(wav, FRAME)[::HOP]
    magnitude = np.abs(scipy.fft.rfft(frames * _window(), FFT_SIZE))  # [frames, 257], not squared
    return np.asarray(np.log(magnitude @ _vggish_filters() + np.float32(offset)))


def mel_filters(n_fft: int, rate: int, n_mels: int, low: float, high: float) -> np.ndarray:
    """[n_fft // 2 + 1, n_mels] float64: triangles that are linear in mel, HTK's scale, each 1 at its centre."""
    bins = _htk(np.linspace(0, rate / 2, n_fft // 2 + 1))[:, None]
    edges = np.linspace(_htk(np.float64(low)), _htk(np.float64(high)), n_mels + 2)
    return _triangles(bins, edges)


def slaney_filters(n_fft: int, rate: int, n_mels: int, low: float, high: float) -> np.ndarray:
    """[n_fft // 2 + 1, n_mels] float64: triangles that are linear in Hz, Slaney's scale, each of area 1."""
    bins = np.linspace(0, rate / 2, n_fft // 2 + 1)[:, None]
    edges = _slaney_to_hz(np.linspace(_slaney(low), _slaney(high), n_mels + 2))
    return np.asarray(_triangles(bins, edges) * 2 / (edges[2:] - edges[:-2]))


def _triangles(bins: np.ndarray, edges: np.ndarray) -> np.ndarray:
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    return np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))


def _htk(frequency: np.ndarray) -> np.ndarray:
    return 1127 * np.log1p(frequency / 700)


# Slaney's scale: linear with 3 mel per 200 Hz up to 1000 Hz, then logarithmic with 27 mel per factor of 6.4.
_BREAK_HZ, _BREAK_MEL, _LOG_STEP = 1000.0, 15.0, np.log(6.4) / 27


def _slaney(frequency: float) -> float:
    if frequency < _BREAK_HZ:
        return 3 * frequency / 200
    return float(_BREAK_MEL + np.log(frequency / _BREAK_HZ) / _LOG_STEP)


def _slaney_to_hz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < _BREAK_MEL, mel * 200 / 3, _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL)))


@cache
def _window() -> np.ndarray:
    # Periodic, not symmetric: as TensorFlow's STFT has it.
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME), np.float32)


@cache
def _vggish_filters() -> np.ndarray:
    return mel_filters(FFT_SIZE, RATE, N_MELS, LOWEST, HIGHEST).astype(np.float32)
