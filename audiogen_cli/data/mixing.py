"""Mixing augmentation (paper sec. 4.1): two sounds at a random offset and level, their captions one after the other.

In batches, on any device. Random numbers are drawn beforehand, by one CPU generator per mix, and powers are summed in
integers, so a mix is the same bit for bit whatever its batch and its padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from audiogen_cli.data.augment import RowAudio, RowSpec
from audiogen_cli.data.loudness import UNMIXABLE_RMS
from audiogen_cli.devices import to_device

SNR_RANGE = (-5.0, 5.0)  # dB, sec. 4.1
MIN_AUDIBLE = 0.5  # ours: the least share of the second sound that is in the mix, so that its caption stays true

POWER_STEPS = 1 << 20  # amplitudes from 0 to the peak, when power is measured
LONGEST = 1 << 22  # samples: POWER_STEPS² · LONGEST still fits 63 bits


@dataclass(frozen=True)
class MixDraw:
    """Parameters of mixing sound b into sound a; lengths and offset in samples, `snr` in dB.

    n_a, n_b: of the two sounds. n_samples: of the mix. offset: from a's beginning to b's.
    """

    n_a: int
    n_b: int
    n_samples: int
    offset: int
    snr: float

    @property
    def n_audible(self) -> int:
        """Return the number of samples of b that are in the mix."""
        return min(self.n_b, self.n_samples - self.offset)


@dataclass(frozen=True)
class Mixture:
    """B mixes. wav: [B, 1, N] in [-1, 1], rows shorter than N end in zeros; gains: [B, 2], the factors of a and b."""

    wav: Tensor
    gains: Tensor


def draw_mix(generator: torch.Generator, n_a: int, n_b: int, max_samples: int | None = None) -> MixDraw:
    """Draw offset and SNR of a mix of sounds with n_a and n_b samples.

    The paper draws a temporal offset and an SNR uniform in [-5, 5] dB and leaves the rest open.
    # ours: b begins at a uniform offset within a, early enough that at least half of it is in the mix; the mix lasts
    until both have ended, or `max_samples`.
    generator: on the CPU, of this mix alone; it draws two numbers. Raises ValueError if a sound has no samples.
    """
    limit = min(max_samples or n_a + n_b, n_a + n_b)
    n_a = min(n_a, limit)
    if min(n_a, n_b) < 1:
        raise ValueError(f"cannot mix sounds of {n_a} and {n_b} samples")
    least = max(1, int(MIN_AUDIBLE * min(n_b, limit)))
    n_offsets = max(1, min(n_a, limit - least + 1))
    offset = int(torch.randint(n_offsets, (), generator=generator))
    snr = float(torch.empty((), dtype=torch.float64).uniform_(*SNR_RANGE, generator=generator))
    return MixDraw(n_a, n_b, min(limit, max(n_a, offset + n_b)), offset, snr)


def mix_rows(rows: Sequence[tuple[RowSpec, RowAudio]], device: torch.device) -> tuple[Tensor, list[int]]:
    """Return the audio of rows as `read_row` has read them, on the device: the windows, or the mixes of two.

    Returns wav [B, 1, N], in which silence follows rows shorter than N, and the rows' samples.
    """
    windows = [window for _, (window, _) in rows]
    wav, lengths = to_device(_pad(windows), device), [len(window) for window in windows]
    mixes = [(number, row, other) for number, (row, (_, other)) in enumerate(rows) if other is not None]
    if mixes:
        numbers = [number for number, _, _ in mixes]
        draws = [
            draw_mix(torch.Generator().manual_seed(row.mix_seed), lengths[number], len(other), row.n_samples)
            for number, row, other in mixes
        ]
        mixed = mix(wav[numbers], to_device(_pad([other for _, _, other in mixes]), device), draws).wav
        n_samples = max(wav.shape[2], mixed.shape[2])
        wav = F.pad(wav, (0, n_samples - wav.shape[2]))
        wav[numbers] = F.pad(mixed, (0, n_samples - mixed.shape[2]))
        for number, draw in zip(numbers, draws, strict=True):
            lengths[number] = draw.n_samples
    return wav, lengths


def mix(a: Tensor, b: Tensor, draws: Sequence[MixDraw]) -> Mixture:
    """Mix each sound of `b` into its sound of `a` as drawn; N is the length of the longest mix.

    a, b: [B, 1, N_a] and [B, 1, N_b] float32 on one device; samples beyond a draw's n_a and n_b are not read.
    # ours:
    - the SNR is the power of a over the power of b's part in the mix, each over its own samples (not over the overlap,
      where either may be silent); b is scaled, so the mix keeps the level of a. If one is silent, none is scaled;
    - a mix beyond full scale is scaled down as a whole, which leaves the SNR untouched.
    Raises ValueError if shapes and draws do not fit.
    """
    _check(a, b, draws)
    n_a, n_b, n_audible, offsets, totals = (
        torch.tensor(column, device=a.device)[:, None]
        for column in zip(*((d.n_a, d.n_b, d.n_audible, d.offset, d.n_samples) for d in draws), strict=True)
    )
    position = torch.arange(max(draw.n_samples for draw in draws), device=a.device)[None]  # [1, N]
    first, second = _place(a[:, 0], position, n_a), _place(b[:, 0], position - offsets, n_b)
    second = torch.where(position < totals, second, 0)  # a ends by then, b need not
    # In float64 on the CPU: a power function's last bit may depend on the device.
    wanted = torch.tensor([10 ** (-draw.snr / 20) for draw in draws], dtype=torch.float32, device=a.device)[:, None]
    level_a, level_b = _rms(first, n_a), _rms(second, n_audible)
    audible = (level_a > UNMIXABLE_RMS) & (level_b > UNMIXABLE_RMS)
    gain = torch.where(audible, wanted * level_a / level_b.clamp(min=UNMIXABLE_RMS), 1)
    wav = first + gain * second
    scale = 1 / wav.abs().amax(-1, keepdim=True).clamp(min=1)
    return Mixture((scale * wav).clamp(-1, 1)[:, None], torch.cat([scale, scale * gain], dim=1))


def mix_texts(a: Sequence[str], b: Sequence[str]) -> tuple[str, ...]:
    """Concatenate captions in pairs; the shorter list repeats, so that every caption of either is used."""
    return tuple(f"{a[i % len(a)]} {b[i % len(b)]}" for i in range(max(len(a), len(b))))


def _place(wav: Tensor, source: Tensor, n_samples: Tensor) -> Tensor:
    """Return [B, N]: sample source[b, i] of wav [B, M] at i, zeros where a row has none. n_samples: [B, 1]."""
    placed = wav.gather(1, source.clamp(0, wav.shape[1] - 1).expand(len(wav), -1))
    return torch.where((source >= 0) & (source < n_samples), placed, 0)


def _rms(wav: Tensor, n_samples: Tensor) -> Tensor:
    """Return the root mean square [B, 1] of wav [B, N] over n_samples [B, 1]; the rest of wav must be zero.

    Summed in integers (of the peak's 2^20-th part): floats would round by the order of summation, which depends on
    the batch, the padding and the device.
    """
    peak = wav.abs().amax(-1, keepdim=True)
    steps = (wav / peak.clamp(min=UNMIXABLE_RMS) * POWER_STEPS).round().long()
    mean = steps.square().sum(-1, keepdim=True) / n_samples
    return peak.clamp(min=UNMIXABLE_RMS) * mean.sqrt() / POWER_STEPS


def _pad(wavs: Sequence[np.ndarray]) -> Tensor:
    """Stack wavs [N_b] to [B, 1, N], each followed by zeros, on the CPU."""
    padded = np.zeros((len(wavs), 1, max(map(len, wavs), default=0)), np.float32)
    for row, wav in zip(padded, wavs, strict=True):
        row[0, : len(wav)] = wav
    return torch.from_numpy(padded)


def _check(a: Tensor, b: Tensor, draws: Sequence[MixDraw]) -> None:
    for name, wav, lengths in (("a", a, [d.n_a for d in draws]), ("b", b, [d.n_b for d in draws])):
        if wav.ndim != 3 or wav.shape[:2] != (len(draws), 1) or wav.shape[2] < max(lengths, default=1):
            raise ValueError(f"{name} must be [{len(draws)}, 1, >= {max(lengths, default=1)}], not {list(wav.shape)}")
    if not draws or not all(draw.n_a <= draw.n_samples <= LONGEST for draw in draws):
        raise ValueError(f"a batch holds at least one mix, each as long as its first sound or longer, to {LONGEST}")
