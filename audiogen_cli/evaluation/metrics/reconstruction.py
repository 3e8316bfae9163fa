"""What a codec costs and loses: SI-SNR, mel distance, ViSQOL, bitrates and code usage (paper Table 2)."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from audiogen_cli.data.loudness import NO_SIGNAL
from audiogen_cli.errors import InputError

MEL_WINDOWS = (512, 1024, 2048)  # samples, hop a quarter
N_MELS = 64
MEL_FLOOR = 1e-5  # of full scale, -100 dB: what lies below it is silence to both sides
MAX_LAG = 0.05  # seconds that a reconstruction may be early or late and still be found
VISQOL_RATE = 48_000  # Hz, of its audio mode
VISQOL_PEAK = 0.99  # audiocraft clamps to it
VISQOL_WORST = 1.0  # the scale's end; what a silent estimate gets, where the package fails


@dataclass(frozen=True)
class SiSnr:
    """SI-SNR over clips. mean: dB over the clips that have a finite value, None if none has."""

    mean: float | None
    n: int  # clips in the mean
    silent: int  # clips left out: the reference has no signal
    exact: int  # clips left out: the estimate is a scaled copy of the reference (+∞ dB)
    lost: int  # clips left out: the estimate holds nothing of the reference (−∞ dB)


@dataclass(frozen=True)
class CodeUsage:
    """How a codec uses its codebooks, stream by stream (K values each)."""

    entropy_bits: tuple[float, ...]  # per code, plug-in estimate; biased low below about 20·V codes seen
    perplexity: tuple[float, ...]  # 2^entropy
    used: tuple[float, ...]  # share of the codebook seen at all
    kbps: float  # the bitrate that the entropies imply, kbit/s


def si_snr(target: np.ndarray, estimate: np.ndarray) -> float:
    """Scale-invariant signal-to-noise ratio in dB over the whole clip; higher is better.

    target, estimate: [N], sample-aligned. Both are made zero-mean; no epsilon and no windows (audiocraft's training
    loss has both, and drifts by up to 20 dB on quiet clips). +∞ for a scaled copy, −∞ for an estimate with nothing of
    the target, NaN for a silent target.
    Raises ValueError if the lengths differ.
    """
    if target.shape != estimate.shape or target.ndim != 1:
        raise ValueError(f"target and estimate must be [N] of one length, got {target.shape} and {estimate.shape}")
    g = target.astype(np.float64) - target.mean(dtype=np.float64)
    e = estimate.astype(np.float64) - estimate.mean(dtype=np.float64)
    energy = float(g @ g)
    if energy <= len(g) * NO_SIGNAL**2:
        return math.nan
    projection = (e @ g) / energy * g
    signal, noise = float(projection @ projection), float(((e - projection) ** 2).sum())
    if signal == 0:
        return -math.inf
    if noise <= 1e-24 * signal:  # float64 rounding of a scaled copy
        return math.inf
    return 10 * math.log10(signal / noise)


def aligned_si_snr(target: np.ndarray, estimate: np.ndarray, sample_rate: int) -> tuple[float, int]:
    """SI-SNR in dB at the lag where the two agree best, and that lag: the samples that `estimate` comes late.

    target, estimate: [N]. At most MAX_LAG is tried either way; at a lag, the overlap counts. A codec whose plain value
    is lower than this one is not bad but late. Raises ValueError if the lengths differ.
    """
    plain = si_snr(target, estimate)
    reach = min(round(MAX_LAG * sample_rate), len(target) - 1)
    size = 1 << (len(target) + reach - 1).bit_length()  # zeros behind, so that lags do not wrap around
    spectra = [np.fft.rfft(wav.astype(np.float64) - wav.mean(dtype=np.float64), size) for wav in (estimate, target)]
    correlation = np.abs(np.fft.irfft(spectra[0] * spectra[1].conj(), size))
    lag = int(np.concatenate([correlation[: reach + 1], correlation[size - reach :]]).argmax())
    lag = lag if lag <= reach else lag - 2 * reach - 1
    if lag == 0 or not math.isfinite(plain):
        return plain, 0
    late, early = max(lag, 0), max(-lag, 0)
    shifted = si_snr(target[early : len(target) - late], estimate[late : len(target) - early])
    return (shifted, lag) if shifted > plain else (plain, 0)


def visqol(target: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """ViSQOL's MOS-LQO in audio mode, as audiocraft sets it up: 48 kHz, clamped to ±0.99; 4.73 for equal sounds.

    Unrelated sounds of 16 kHz score 3.7 to 4.4, as the bands above 8 kHz are empty on both sides: look at a floor.
    target, estimate: [N]; NaN for a silent target or one too short for it (about 1 s).
    Raises InputError if the package is not installed.
    """
    import soxr

    if np.sqrt(np.mean(np.square(target, dtype=np.float64))) <= NO_SIGNAL:
        return math.nan
    if np.sqrt(np.mean(np.square(estimate, dtype=np.float64))) <= NO_SIGNAL:
        return VISQOL_WORST
    sounds = (soxr.resample(wav, sample_rate, VISQOL_RATE) for wav in (target, estimate))
    target, estimate = (np.clip(wav, -VISQOL_PEAK, VISQOL_PEAK) for wav in sounds)
    api = _visqol_api()
    try:
        return float(api.measure_from_arrays(target, estimate, VISQOL_RATE).moslqo)
    except ValueError:  # it wants a second or so
        return math.nan


def check_visqol() -> None:
    """Raise InputError if ViSQOL is not installed."""
    spec = find_spec("visqol")
    if spec is None or spec.origin is None:  # a folder without code: what uninstalling leaves where numba cached some
        raise InputError("ViSQOL is not installed: pip install 'audiogen-cli[visqol]', or choose other metrics")


def summarize_si_snr(values: Sequence[float]) -> SiSnr:
    """Mean over clips; silent targets (NaN) and infinite values are counted and left out."""
    array = np.array(values, np.float64)
    finite = array[np.isfinite(array)]
    return SiSnr(
        mean=float(finite.mean()) if len(finite) else None,
        n=len(finite),
        silent=int(np.isnan(array).sum()),
        exact=int(np.isposinf(array).sum()),
        lost=int(np.isneginf(array).sum()),
    )


def mel_distance(target: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Mean absolute difference of 64-band mel spectrograms in dB, averaged over three resolutions; 0 is best.

    # ours: the paper's eq. 1 is a training loss on linear magnitudes, ruled by the loudest moments. The logarithm
    # weighs all parts of a clip as the ear does, and dB can be read.
    target, estimate: [N] of one length. Raises ValueError if they differ.
    """
    if target.shape != estimate.shape or target.ndim != 1:
        raise ValueError(f"target and estimate must be [N] of one length, got {target.shape} and {estimate.shape}")
    differences = [
        np.abs(mel_db(target, window, sample_rate) - mel_db(estimate, window, sample_rate)).mean()
        for window in MEL_WINDOWS
    ]
    return float(np.mean(differences))


def bitrate(frame_rate: float, n_q: int, codebook_size: int) -> float:
    """Nominal bits per second: frames/s × streams × log2(codebook)."""
    return frame_rate * n_q * math.log2(codebook_size)


def kbps(frame_rate: float, n_q: int, codebook_size: int) -> float:
    """Nominal bitrate in kbit/s of 1000 bit/s."""
    return bitrate(frame_rate, n_q, codebook_size) / 1000


def paper_kbps(frame_rate: float, n_q: int, codebook_size: int) -> float:
    """Nominal bitrate as Table 2 prints it, in units of 1024 bit/s: 5.37, 4.88 and 4.39."""
    return bitrate(frame_rate, n_q, codebook_size) / 1024


def count_codes(codes: np.ndarray, codebook_size: int) -> np.ndarray:
    """How often each code occurs in each stream: codes [K, T] → [K, codebook_size]; add up over clips."""
    return np.stack([np.bincount(stream, minlength=codebook_size) for stream in codes])


def code_usage(counts: np.ndarray, frame_rate: float) -> CodeUsage:
    """Entropy and usage from counts [K, V]. Raises ValueError if a stream has no codes."""
    totals = counts.sum(1, keepdims=True)
    if not totals.all():
        raise ValueError("no codes were counted")
    shares = counts / totals
    logs = np.log2(shares, where=shares > 0, out=np.zeros_like(shares))
    entropies = np.abs((shares * logs).sum(1))  # abs: -0.0 for a single code
    return CodeUsage(
        entropy_bits=tuple(entropies.tolist()),
        perplexity=tuple((2**entropies).tolist()),
        used=tuple((counts > 0).mean(1).tolist()),
        kbps=float(frame_rate * entropies.sum() / 1000),
    )


def mel_db(wav: np.ndarray, window: int, sample_rate: int) -> np.ndarray:
    """[frames, 64] in dB of full scale; the clip is zero-padded by half a window at both ends, as STFTs usually are."""
    padded = np.pad(wav.astype(np.float64), (window // 2, window))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[:: window // 4]
    shape = np.hanning(window + 1)[:-1]
    magnitude = np.abs(np.fft.rfft(frames * shape)) / (shape.sum() / 2)  # a full-scale sine peaks at 1
    return 20 * np.log10(magnitude @ _mel_filters(window, sample_rate) + MEL_FLOOR)


@cache
def _visqol_api() -> Any:
    check_visqol()
    from visqol import VisqolApi

    logging.getLogger("visqol").setLevel(logging.ERROR)  # it reports every patch that it cannot place
    api = VisqolApi()
    api.create(mode="audio")
    return api


@cache
def _mel_filters(window: int, sample_rate: int) -> np.ndarray:
    """[window // 2 + 1, 64] triangles between 0 Hz and Nyquist (HTK mel), each at least as wide as one bin."""
    frequencies = np.fft.rfftfreq(window, 1 / sample_rate)[:, None]
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, N_MELS + 2) / 2595) - 1)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    width = sample_rate / window  # Hz: a narrower triangle might miss every bin
    rise, fall = np.maximum(centre - low, width), np.maximum(high - centre, width)
    return np.maximum(0, np.minimum(1 - (centre - frequencies) / rise, 1 - (frequencies - centre) / fall))
