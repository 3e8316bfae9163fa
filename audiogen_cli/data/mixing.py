"""Mixing augmentation (paper sec. 4.1): two sounds at a random offset and level, their captions one after the other.

In batches, on any device. What is random is drawn beforehand, one CPU generator per mix, and what is summed is summed
in integers, so a mix is the same bit for bit whatever its batch and its padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audiogen_cli.data.loudness import UNMIXABLE_RMS

SNR_RANGE = (-5.0, 5.0)  # dB, sec. 4.1
MIN_HEARD = 0.5  # ours: of the second sound, so that its caption stays true
POWER_STEPS = 1 << 20  # amplitudes from 0 to the peak, when power is measured
LONGEST = 1 << 22  # samples: POWER_STEPS² · LONGEST still fits 63 bits


@dataclass(frozen=True)
class MixDraw:
    """How sound b is mixed into sound a, all in samples but the SNR, which is in dB.

    n_a, n_b: of the two sounds. n_samples: of the mix. offset: from a's beginning to b's.
    """

    n_a: int
    n_b: int
    n_samples: int
    offset: int
    snr: float

    @property
    def n_heard(self) -> int:
        """How much of b is in the mix."""
        return min(self.n_b, self.n_samples - self.offset)


@dataclass(frozen=True)
class Mixture:
    """Mixes. wav: [B, 1, N], in [-1, 1], rows shorter than N end in zeros; gains: [B, 2], by which a and b went in."""

    wav: Tensor
    gains: Tensor


def draw_mix(generator: torch.Generator, n_a: int, n_b: int, max_samples: int | None = None) -> MixDraw:
    """Draw offset and SNR of a mix of sounds with n_a and n_b samples.

    The paper draws a temporal offset and an SNR uniform in [-5, 5] dB and leaves the rest open.
    # ours: b begins at a uniform offset within a, never so late that less than half of it is heard; the mix lasts
    until both have ended, or `max_samples`.
    generator: on the CPU, this mix's own; it gives two numbers. Raises ValueError if a sound has no samples.
    """
    limit = min(max_samples or n_a + n_b, n_a + n_b)
    n_a = min(n_a, limit)
    if min(n_a, n_b) < 1:
        raise ValueError(f"cannot mix sounds of {n_a} and {n_b} samples")
    must_hear = max(1, int(MIN_HEARD * min(n_b, limit)))
    begins = max(1, min(n_a, limit - must_hear + 1))
    offset = int(torch.randint(begins, (), generator=generator))
    snr = float(torch.empty((), dtype=torch.float64).uniform_(*SNR_RANGE, generator=generator))
    return MixDraw(n_a, n_b, min(limit, max(n_a, offset + n_b)), offset, snr)


def mix(a: Tensor, b: Tensor, draws: Sequence[MixDraw]) -> Mixture:
    """Mix each sound of `b` into its sound of `a` as drawn; N is that of the longest mix.

    a, b: [B, 1, N_a] and [B, 1, N_b] float32 on one device; samples beyond a draw's n_a and n_b are not read.
    # ours:
    - the SNR is the power of a over the power of b's heard part, each over its own samples (not over the overlap,
      where either may be silent); b is scaled, so the mix keeps the level of a. With a silent sound, none is scaled;
    - a mix that passes full scale is scaled down as a whole, which leaves the SNR untouched.
    Raises ValueError if shapes and draws do not fit.
    """
    _check(a, b, draws)
    n_a, n_b, heard, offsets, totals = (
        torch.tensor(column, device=a.device)[:, None]
        for column in zip(*((d.n_a, d.n_b, d.n_heard, d.offset, d.n_samples) for d in draws), strict=True)
    )
    position = torch.arange(int(totals.max()), device=a.device)[None]  # [1, N]
    first, second = _place(a[:, 0], position, n_a), _place(b[:, 0], position - offsets, n_b)
    second = torch.where(position < totals, second, 0)  # a ends by then, b need not
    # in float64 on the CPU: a power function's last bit may depend on the device
    wanted = torch.tensor([10 ** (-draw.snr / 20) for draw in draws], dtype=torch.float32, device=a.device)[:, None]
    level_a, level_b = _rms(first, n_a), _rms(second, heard)
    audible = (level_a > UNMIXABLE_RMS) & (level_b > UNMIXABLE_RMS)
    gain = torch.where(audible, wanted * level_a / level_b.clamp(min=UNMIXABLE_RMS), 1)
    wav = first + gain * second
    scale = 1 / wav.abs().amax(-1, keepdim=True).clamp(min=1)
    return Mixture((scale * wav).clamp(-1, 1)[:, None], torch.cat([scale, scale * gain], dim=1))


def mix_texts(a: Sequence[str], b: Sequence[str]) -> tuple[str, ...]:
    """Concatenate captions in pairs; the shorter list starts again, so every caption of either is used."""
    return tuple(f"{a[i % len(a)]} {b[i % len(b)]}" for i in range(max(len(a), len(b))))


def _place(wav: Tensor, source: Tensor, n_samples: Tensor) -> Tensor:
    """[B, N] with sample source[b, i] of wav [B, M] at i, and zeros where a row has none. n_samples: [B, 1]."""
    placed = wav.gather(1, source.clamp(0, wav.shape[1] - 1).expand(len(wav), -1))
    return torch.where((source >= 0) & (source < n_samples), placed, 0)


def _rms(wav: Tensor, n_samples: Tensor) -> Tensor:
    """Root mean square [B, 1] of wav [B, N] over n_samples [B, 1], zero elsewhere.

    Summed in integers (of the peak's 2^20-th part): floats would round by the order of summation, which depends on
    the batch, the padding and the device.
    """
    peak = wav.abs().amax(-1, keepdim=True)
    steps = (wav / peak.clamp(min=UNMIXABLE_RMS) * POWER_STEPS).round().long()
    mean = steps.square().sum(-1, keepdim=True) / n_samples
    return peak.clamp(min=UNMIXABLE_RMS) * mean.sqrt() / POWER_STEPS


def _check(a: Tensor, b: Tensor, draws: Sequence[MixDraw]) -> None:
    for name, wav, lengths in (("a", a, [d.n_a for d in draws]), ("b", b, [d.n_b for d in draws])):
        if wav.ndim != 3 or wav.shape[:2] != (len(draws), 1) or wav.shape[2] < max(lengths, default=1):
            raise ValueError(f"{name} must be [{len(draws)}, 1, >= {max(lengths, default=1)}], not {list(wav.shape)}")
    if not draws or not all(draw.n_a <= draw.n_samples <= LONGEST for draw in draws):
        raise ValueError(f"a batch holds at least one mix, each as long as its first sound or longer, to {LONGEST}")
