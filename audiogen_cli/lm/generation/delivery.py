"""Delivery: a finished sound brought to the rate, channels, sample format and level of the project that it is for."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from audiogen_cli.data.audio import FORMATS, SUBTYPES, check_format, downmix, find_peak, write_audio
from audiogen_cli.data.loudness import AudioStats, find_sound, loudness, measure
from audiogen_cli.errors import InputError

HIGHEST_PEAK = 10 ** (-1 / 20)  # -1 dBFS: no further does a loudness raise a sound
MIN_RATE, MAX_RATE = 8_000, 192_000  # Hz
MIN_LEVEL, MAX_LEVEL = -70.0, 0.0  # LUFS, dBFS
UNCLIPPED = ("FLOAT", "DOUBLE")  # subtypes
FADE = 0.01  # seconds kept, and faded, on either side of a trimmed sound
_LEVEL = re.compile(r"(peak:)?\s*([-+]?\d+(?:\.\d*)?)\s*(lufs|db|dbfs)?", re.IGNORECASE)


@dataclass(frozen=True)
class Level:
    """A level to bring a sound to: its integrated loudness in LUFS, or its highest sample in dBFS."""

    value: float
    is_peak: bool = False

    @classmethod
    def parse(cls, text: str) -> Level:
        """Read `-23` (LUFS) or `peak:-1` (dBFS). Raises InputError for anything else, and beyond -70 to 0."""
        match = _LEVEL.fullmatch(text.strip())
        if not match or (match[3] or "").lower() not in ("", *(("db", "dbfs") if match[1] else ("lufs",))):
            raise InputError(
                f"--normalize takes a loudness in LUFS, as in -23, or peak:dB, as in peak:-1; not '{text}'"
            )
        level = cls(float(match[2]), bool(match[1]))
        if not MIN_LEVEL <= level.value <= MAX_LEVEL:
            raise InputError(f"--normalize {text}: must lie between {MIN_LEVEL:g} and {MAX_LEVEL:g}")
        return level

    def __str__(self) -> str:
        return f"peak {self.value:g} dBFS" if self.is_peak else f"{self.value:g} LUFS"


@dataclass(frozen=True)
class Delivery:
    """The format and level that a file is to have; where nothing is said, the sound stays as it is.

    rate: Hz. channels: 1 or 2. subtype: one of SUBTYPES, by default 16 bits. trim: cut off silence before and after.
    Raises InputError for values that are none.
    """

    rate: int | None = None
    channels: int | None = None
    subtype: str | None = None
    normalize: Level | None = None
    trim: bool = False

    def __post_init__(self) -> None:
        if self.rate is not None and not MIN_RATE <= self.rate <= MAX_RATE:
            raise InputError(f"--rate {self.rate}: must lie between {MIN_RATE} and {MAX_RATE} Hz, as 44100 or 48000")
        if self.channels not in (None, 1, 2):
            raise InputError(f"--channels {self.channels}: must be 1 or 2")
        known = sorted({name for names in SUBTYPES.values() for name in names})
        if self.subtype is not None and self.subtype not in known:
            raise InputError(f"--subtype {self.subtype}: must be one of {', '.join(known)}")

    @classmethod
    def parse(
        cls, rate: int | None, channels: int | None, subtype: str | None, normalize: str | None, trim: bool
    ) -> Delivery:
        """Read the values of the command line's options."""
        level = None if normalize is None else Level.parse(normalize)
        return cls(rate, channels, subtype and subtype.upper(), level, trim)

    def check(self, output: Path, rate: int, channels: int = 1) -> None:
        """Raise InputError if a file of this name cannot hold a sound of so many Hz and channels, once delivered."""
        suffix = output.suffix.lower()
        if suffix not in FORMATS:
            return
        check_format(output, self.rate or rate, self.channels or channels)
        if self.subtype and self.subtype not in SUBTYPES[suffix]:
            fits = ", ".join(SUBTYPES[suffix])
            raise InputError(f"{output}: a {suffix} file cannot hold {self.subtype}, only {fits}; --subtype says which")

    def describe(self) -> dict[str, Any]:
        """Return the options given, for a record: {} without any."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: str(value) if isinstance(value, Level) else value for name, value in given.items() if value}


AS_IT_IS = Delivery()


@dataclass(frozen=True)
class Delivered:
    """A sound as it goes into a file. samples: [n] or [n, 2] at `rate` Hz. gain: the factor of its level; trimmed:
    seconds cut off before and after."""

    samples: np.ndarray
    rate: int
    gain: float = 1.0
    trimmed: tuple[float, float] = (0.0, 0.0)

    def write(self, path: Path, subtype: str | None, tags: dict[str, str]) -> None:
        """Write the file, as `write_audio` does."""
        write_audio(path, self.samples, self.rate, tags, subtype)

    def facts(self, delivery: Delivery, subtype: str | None = None) -> dict[str, Any]:
        """Describe the file for its sidecar: length, rate, channels, levels, and what was asked for.

        subtype: of the file; floating-point samples go beyond full scale, others are clipped.
        duration: seconds. loudness: LUFS (ITU-R BS.1770), None below its gate at -70. gain_db: by how much the level
        was changed. trimmed: seconds cut off before and after.
        """
        clips = find_peak(self.samples) > 1 and subtype not in UNCLIPPED
        written = np.clip(self.samples, -1, 1) if clips else self.samples
        each = [(len(channel), measure(channel)) for channel in written.reshape(len(written), -1).T]
        lufs = loudness(written, self.rate)
        return {
            "duration": len(written) / self.rate,
            "sample_rate": self.rate,
            "channels": len(each),
            **vars(join_stats(each)),
            "loudness": lufs if math.isfinite(lufs) else None,
            "gain_db": 20 * math.log10(self.gain),
            "normalized": delivery.normalize is not None,
            "trimmed": [*self.trimmed],
            "delivery": delivery.describe(),
        }


def join_stats(parts: Sequence[tuple[int, AudioStats]]) -> AudioStats:
    """Combine the levels of channels, or of blocks of a sound: (samples, levels) of each."""
    n_samples = max(1, sum(n for n, _ in parts))
    return AudioStats(
        max(stats.peak for _, stats in parts),
        math.sqrt(sum(n * stats.rms**2 for n, stats in parts) / n_samples),
        sum(stats.clipped_samples for _, stats in parts),
        all(stats.near_silent for _, stats in parts),
    )


def deliveries_before(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the options of a sound's deliveries before the last one, as its sidecar tells them."""
    found = record.get("deliveries_before")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def deliver(
    wav: np.ndarray,
    sample_rate: int,
    delivery: Delivery = AS_IT_IS,
    loop: bool = False,
    source: Path = Path("the sound"),
) -> Delivered:
    """Trim, resample, spread to channels and level a sound, in this order.

    wav: [n] or [n, C] at `sample_rate` Hz. Two channels of a mono sound are equal, and a meter reads them as 3 LU
    louder than one: `normalize` brings what it reads to the level. A loudness raises no peak above HIGHEST_PEAK;
    near-silence stays as it is. loop: the end is followed by the beginning. source: named in warnings.
    Raises InputError for `channels` 2 of more than two.
    """
    begin, end = _kept(wav, sample_rate) if delivery.trim else (0, len(wav))
    cut = (begin / sample_rate, (len(wav) - end) / sample_rate)
    if any(cut):
        n_fade = round(FADE * sample_rate)
        wav = _fade_ends(wav[begin:end], n_fade * (begin > 0), n_fade * (end < len(wav)))
    rate = delivery.rate or sample_rate
    wav = _spread(resample(wav, sample_rate, rate, loop), delivery.channels, source)
    gain = _gain(wav, rate, delivery.normalize) if delivery.normalize else 1.0
    return Delivered(wav if gain == 1 else wav * np.float32(gain), rate, gain, cut)


def resample(wav: np.ndarray, rate: int, new_rate: int, loop: bool = False) -> np.ndarray:
    """Resample [n] or [n, C] by soxr (VHQ, linear phase) to round(n · new_rate / rate) samples, at least 1, float32.

    loop: the filter sees the end before the beginning and the beginning after the end.
    """
    if rate == new_rate:
        return wav
    import soxr

    if loop:  # a second more on either side is a whole number of samples at both rates
        longer = resample(np.pad(wav, [(rate, rate), *[(0, 0)] * (wav.ndim - 1)], "wrap"), rate, new_rate)
        return longer[new_rate : new_rate + round(len(wav) * new_rate / rate)]
    n = max(1, round(len(wav) * new_rate / rate))
    resampled = soxr.resample(np.ascontiguousarray(wav, np.float32), rate, new_rate, quality="VHQ")[:n]
    return np.pad(resampled, [(0, n - len(resampled)), *[(0, 0)] * (wav.ndim - 1)])


def _kept(wav: np.ndarray, sample_rate: int) -> tuple[int, int]:
    """Return the beginning and the end of what trimming keeps: the sound and FADE around it."""
    loudest = np.abs(wav.reshape(len(wav), -1)).max(1)
    begin, end = find_sound(loudest, sample_rate)
    if begin == end or measure(loudest).near_silent:
        return 0, len(wav)
    margin = round(FADE * sample_rate)
    return max(0, begin - margin), min(len(wav), end + margin)


def _fade_ends(wav: np.ndarray, n_in: int, n_out: int) -> np.ndarray:
    """Fade in over the first n_in samples and out over the last n_out."""
    envelope = np.ones(len(wav), np.float32)
    n_in, n_out = min(n_in, len(wav)), min(n_out, len(wav))
    envelope[:n_in] *= np.linspace(0, 1, n_in, dtype=np.float32)
    envelope[len(wav) - n_out :] *= np.linspace(1, 0, n_out, dtype=np.float32)
    return (wav.T * envelope).T


def _spread(wav: np.ndarray, channels: int | None, source: Path) -> np.ndarray:
    """Bring [n] or [n, C] to so many channels: C mixed as `downmix` does, or two copies of one."""
    n_channels = 1 if wav.ndim == 1 else wav.shape[1]
    if channels is None or channels == n_channels:
        return wav
    if channels == 1:
        return downmix(wav, source)
    if n_channels > 2:
        raise InputError(f"--channels 2 takes one or two channels, not {n_channels}; --channels 1 mixes them")
    return np.stack([wav.reshape(-1)] * 2, 1)


def _gain(wav: np.ndarray, rate: int, level: Level) -> float:
    peak = find_peak(wav)
    if measure(wav if wav.ndim == 1 else np.abs(wav).max(1)).near_silent:
        return 1.0
    if level.is_peak:
        return 10 ** (level.value / 20) / peak
    found = loudness(wav, rate)
    wanted = 10 ** ((level.value - found) / 20) if math.isfinite(found) else 1.0
    return min(wanted, HIGHEST_PEAK / peak)
