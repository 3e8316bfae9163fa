"""The loss of a codec's reconstructions: SI-SNR, mel distance and ViSQOL (paper Table 2)."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from audiogen_cli.data.loudness import NO_SIGNAL
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.mel import mel_db
from audiogen_cli.evaluation.metrics.base import CodecMetric
from audiogen_cli.evaluation.metrics.intervals import bootstrap_interval
from audiogen_cli.evaluation.results import Interval

MEL_WINDOWS = (512, 1024, 2048)  # samples
MAX_LAG = 0.05  # seconds, early or late, that alignment tries
VISQOL_RATE = 48_000  # Hz, of its audio mode
VISQOL_PEAK = 0.99  # audiocraft clamps to it
VISQOL_WORST = 1.0  # the scale's end: for a silent estimate, on which the package fails


@dataclass(frozen=True)
class SiSnrSummary:
    """SI-SNR over clips. mean: dB over the clips that have a finite value, None if none has."""

    mean: float | None
    n: int  # clips in the mean
    silent: int  # clips left out: the reference has no signal
    exact: int  # clips left out: the estimate is a scaled copy of the reference (+∞ dB)
    lost: int  # clips left out: the estimate holds nothing of the reference (−∞ dB)


class SiSnr(CodecMetric):
    """SI-SNR, plain and at the best lag."""

    name, columns = "si_snr", ("si_snr", "si_snr_aligned")

    def compare(self, target: np.ndarray, estimate: np.ndarray, sample_rate: int) -> Mapping[str, float]:
        """Return both in dB, and the lag in samples."""
        aligned, lag = aligned_si_snr(target, estimate, sample_rate)
        return {"si_snr": si_snr(target, estimate), "si_snr_aligned": aligned, "lag": lag}


class MelDistance(CodecMetric):
    """The distance of mel spectrograms."""

    name, columns = "mel_distance", ("mel_distance_db",)

    def compare(self, target: np.ndarray, estimate: np.ndarray, sample_rate: int) -> Mapping[str, float]:
        """Return it in dB."""
        return {"mel_distance_db": mel_distance(target, estimate, sample_rate)}


class Visqol(CodecMetric):
    """ViSQOL, by its package."""

    name, columns, slow = "visqol", ("visqol",), True

    def check(self) -> None:
        """Require the package."""
        spec = find_spec("visqol")
        if spec is None or spec.origin is None:  # a folder without code: uninstalling leaves one where numba cached
            raise InputError("ViSQOL is not installed: pip install 'audiogen-cli[visqol]', or choose other metrics")

    def compare(self, target: np.ndarray, estimate: np.ndarray, sample_rate: int) -> Mapping[str, float]:
        """Return MOS-LQO."""
        return {"visqol": visqol(target, estimate, sample_rate)}


class ReconstructionScores:
    """The values of all clips of one set, by the chosen metrics."""

    def __init__(self, metrics: Sequence[CodecMetric], sample_rate: int) -> None:
        self.metrics, self.sample_rate = metrics, sample_rate
        self.values: dict[str, list[float]] = defaultdict(list)

    def add(self, target: np.ndarray, estimate: np.ndarray, slow: bool = True) -> None:
        """Compare a clip [N] with its reconstruction [N]. slow: by slow metrics, too."""
        for metric in self.metrics:
            if slow or not metric.slow:
                for name, value in metric.compare(target, estimate, self.sample_rate).items():
                    self.values[name].append(value)

    def join(self, later: Mapping[str, Sequence[float]]) -> None:
        """Add the `values` of further clips, from another process."""
        for name, values in later.items():
            self.values[name] += values

    def means(self) -> dict[str, float | None]:
        """Average the finite values of every column; None where there is none."""
        return {name: float(values.mean()) if len(values) else None for name, values in self._finite().items()}

    def intervals(self, seed: int) -> dict[str, Interval]:
        """Compute 95% intervals of these means over the clips, of columns with at least two values."""
        spans = {name: bootstrap_interval(values, seed) for name, values in self._finite().items()}
        return {name: span for name, span in spans.items() if span}

    def _finite(self) -> dict[str, np.ndarray]:
        columns = {name: np.array(self.values[name]) for metric in self.metrics for name in metric.columns}
        return {name: values[np.isfinite(values)] for name, values in columns.items()}

    @property
    def lag(self) -> float | None:
        """The median number of samples by which reconstructions are late."""
        return float(np.median(self.values["lag"])) if self.values["lag"] else None


def si_snr(target: np.ndarray, estimate: np.ndarray) -> float:
    """Compute the scale-invariant signal-to-noise ratio in dB over the whole clip; higher is better.

    target, estimate: [N], sample-aligned. Both are made zero-mean; no epsilon and no windows (audiocraft's training
    loss has both, and drifts by up to 20 dB on quiet clips). +∞ for a scaled copy, −∞ for an estimate with nothing of
    the target, NaN for a silent target. Raises ValueError if the lengths differ.
    """
    _check_lengths(target, estimate)
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
    """Compute SI-SNR in dB at the lag where the two agree best, and that lag in samples, above 0 if `estimate` is late.

    target, estimate: [N]. At most MAX_LAG is tried either way; at a lag, the overlap counts. A codec whose plain value
    is lower than this one is late rather than bad. Raises ValueError if the lengths differ.
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


def mel_distance(target: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Average the absolute difference of 64-band mel spectrograms in dB over three resolutions; 0 is best.

    # ours: the paper's eq. 1 is a training loss on linear magnitudes, in which the loudest moments dominate. The
    # logarithm weighs all parts of a clip as the ear does, and dB can be read.
    target, estimate: [N] of one length. Raises ValueError if they differ.
    """
    _check_lengths(target, estimate)
    pairs = [[mel_db(wav, window, sample_rate) for wav in (target, estimate)] for window in MEL_WINDOWS]
    return float(np.mean([np.abs(one - other).mean() for one, other in pairs]))


def visqol(target: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Compute ViSQOL's MOS-LQO in audio mode as in audiocraft: 48 kHz, clamped to ±0.99; 4.73 for equal sounds.

    Unrelated sounds of 16 kHz score 3.7 to 4.4, as the bands above 8 kHz are empty on both sides: compare with another
    clip's score. target, estimate: [N]; NaN for a silent target or one too short for it (about 1 s).
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
    except ValueError:  # it needs about a second
        return math.nan


def summarize_si_snr(values: Sequence[float]) -> SiSnrSummary:
    """Average over clips; silent targets (NaN) and infinite values are counted and left out."""
    array = np.array(values, np.float64)
    finite = array[np.isfinite(array)]
    return SiSnrSummary(
        mean=float(finite.mean()) if len(finite) else None,
        n=len(finite),
        silent=int(np.isnan(array).sum()),
        exact=int(np.isposinf(array).sum()),
        lost=int(np.isneginf(array).sum()),
    )


def _check_lengths(target: np.ndarray, estimate: np.ndarray) -> None:
    if target.shape != estimate.shape or target.ndim != 1:
        raise ValueError(f"target and estimate must be [N] of one length, got {target.shape} and {estimate.shape}")


@cache
def _visqol_api() -> Any:
    from visqol import VisqolApi

    logging.getLogger("visqol").setLevel(logging.ERROR)  # else it reports every patch that it cannot place
    api = VisqolApi()
    api.create(mode="audio")
    return api
