"""From logits to tokens (sec. 3.2 eq. 4, sec. 4.1): guidance, temperature, top-k, top-p, and the draw itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from audiogen_cli.lm.config import Sampling

DTYPES = torch.float32, torch.float32, torch.long, torch.float32  # of the fields of SamplingRows
COLDEST = 1e-6  # below this temperature the likeliest token has all the probability, and float32 overflows


def guide(
    conditional: Tensor, unconditional: Tensor, guidance: Tensor | float, negative: Tensor | None = None
) -> Tensor:
    """Apply classifier-free guidance (eq. 4): γ log p(v|u) + (1 - γ) log p(v), not normalized.

    conditional, unconditional, negative: logits [..., V]; guidance: γ, broadcast; 1 is conditional, 0 unconditional.
    # ours: with a negative text n log p(v) + γ (log p(v|u) - log p(v|n)), as Liu 2022 (Composable Diffusion) negates.
    If n took the place of no text in eq. 4, n equal to u would give log p(v|u), all of what was to be left out.
    """
    with_text, without = (each.log_softmax(-1, torch.float32) for each in (conditional, unconditional))
    if negative is not None:
        return without + guidance * (with_text - negative.log_softmax(-1, torch.float32))
    return guidance * with_text + (1 - guidance) * without


def guide_rows(logits: Tensor, n: int, guidance: Tensor) -> Tensor:
    """Guide n sequences, [n, …, V], by their rows' logits [R, …, V]: of all texts, without text, of negative texts."""
    with_text, *others = logits.split(n)
    return guide(with_text, others[0], guidance, *others[1:]) if others else with_text


def top_k(probabilities: Tensor, k: Tensor | int) -> Tensor:
    """Mark (bool) the k likeliest of [..., V], sorted from the likeliest down; k = 0 keeps all."""
    rank = torch.arange(probabilities.shape[-1], device=probabilities.device)
    k = torch.as_tensor(k, device=probabilities.device)
    return (rank < k) | (k == 0)


def top_p(probabilities: Tensor, p: Tensor | float) -> Tensor:
    """Mark (bool) the nucleus of [..., V], sorted from the likeliest down: the fewest that hold a mass of at least p.

    Always keeps the likeliest; p = 1 keeps all.
    """
    before = probabilities.cumsum(-1) - probabilities
    keep = (before < p) | (torch.as_tensor(p, device=probabilities.device) >= 1)
    keep[..., 0] = True
    return keep


def draw(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Draw from [..., V], which need not sum to 1, by the inverse of its distribution function.

    uniform: [...] float32 in [0, 1). Returns indices [...] int64; never one with probability 0; V where there are NaNs.
    """
    cumulative = probabilities.cumsum(-1)
    # The largest uniform is 1 - 2^-24, so its product with the total rounds to less than the total: always in range.
    return torch.searchsorted(cumulative, uniform[..., None] * cumulative[..., -1:], right=True).squeeze(-1)


@dataclass
class SamplingRows:
    """The settings of n sequences as tensors [n, 1, 1], so that each may have its own."""

    guidance: Tensor
    top_p: Tensor
    top_k: Tensor
    temperature: Tensor

    @property
    def shaping(self) -> tuple[Tensor, Tensor]:
        """Return γ of the guidance, and what logits are divided by."""
        return self.guidance, self.temperature

    @property
    def limits(self) -> tuple[Tensor, Tensor]:
        """Return the mass to keep, and the number of tokens (0: all)."""
        return self.top_p, self.top_k

    @classmethod
    def empty(cls, n: int, device: torch.device) -> SamplingRows:
        """Return n rows of default settings."""
        rows = cls(*(torch.empty(n, 1, 1, device=device, dtype=each) for each in DTYPES))
        for row in range(n):
            rows.set(row, Sampling())
        return rows

    def set(self, row: int, settings: Sampling) -> None:
        """Set a row in place. Temperature 0, or next to it, becomes "only the likeliest"."""
        warm = settings.temperature >= COLDEST
        self.guidance[row] = settings.guidance
        self.top_p[row] = settings.top_p
        self.top_k[row] = settings.top_k if warm else 1
        self.temperature[row] = settings.temperature if warm else 1.0


def sample(logits: Tensor, rows: SamplingRows, uniform: Tensor) -> Tensor:
    """Draw one token for every sequence and stream.

    logits: [n, K, V] (guided); uniform: [n, K] in [0, 1). Returns tokens [n, K] int64; V where there are NaNs.
    """
    probabilities, tokens = sort_down((logits.float() / rows.temperature).softmax(-1))
    keep = top_k(probabilities, rows.top_k) & top_p(probabilities, rows.top_p)
    chosen = draw(probabilities * keep, uniform)
    return F.pad(tokens, (0, 1), value=tokens.shape[-1]).gather(-1, chosen[..., None]).squeeze(-1)


def sort_down(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Sort [..., V], from the likeliest down; of equals the first comes first. Returns them and their tokens."""
    if probabilities.device.type != "cpu":
        return probabilities.sort(dim=-1, descending=True, stable=True)
    # NumPy sorts integers several times as fast as torch sorts numbers: bits of positive numbers have their order.
    last = probabilities.shape[-1] - 1
    keys = probabilities.contiguous().numpy().view(np.int32).astype(np.int64) << 32 | np.arange(last, -1, -1)
    keys.sort(axis=-1)
    keys = keys[..., ::-1]
    tokens = last - (keys & 0xFFFFFFFF)
    return torch.from_numpy((keys >> 32).astype(np.int32).view(np.float32)), torch.from_numpy(tokens)


def sample_some(logits: Tensor, rows: SamplingRows, uniform: Tensor, wanted: Tensor) -> Tensor:
    """Draw as `sample` does, for one sequence (n = 1), where wanted [n, K] bool; elsewhere take the likeliest token.

    A nucleus of one token is not sorted.
    """
    share, tokens = (logits / rows.temperature).softmax(-1).max(-1)
    wanted = wanted & ((share < rows.top_p[..., 0]) | (rows.top_p[..., 0] == 1))
    tokens[wanted] = sample(logits[wanted][None], rows, uniform[wanted][None])[0]
    return tokens


def uniforms(seed: int, n_frames: int, n_q: int) -> Tensor:
    """Draw the random numbers of one sequence: [T, K] float32 in [0, 1), on the CPU, from its seed alone.

    Frame-major, so that a longer sequence of the same seed begins with the same numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n_frames, n_q, generator=generator)
