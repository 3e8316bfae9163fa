"""Discrete diffusion over V codes and a mask (D3PM, VQ-Diffusion): the steps, what they add up to, their posterior.

Step t leaves a code as it is with the probability α_t + β_t, turns it into each of the V - 1 others with β_t, and masks
it with γ_t; a mask stays one. Steps 1 … t together do the same with ᾱ_t, β̄_t and γ̄_t.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from audiogen_cli.lm.config import LMConfig

# Published: the first and last ᾱ, and the last γ̄ beside uniform changes.
FIRST_KEPT, LAST_KEPT, LAST_MASKED = 0.99999, 9e-6, 0.9

# Shapes: B rows, K streams, T frames, V codes.


class Transition(NamedTuple):
    """Probabilities with which some steps together keep a code, change it to each code (itself too), or mask it.

    Their shapes broadcast with [B, K, T].
    """

    kept: Tensor
    changed: Tensor
    masked: Tensor


class NoiseSchedule:
    """ᾱ, β̄ and γ̄ of every step 0 … T, after which nothing of a clip is left. Float64 inside."""

    def __init__(self, config: LMConfig, device: torch.device | str = "cpu") -> None:
        self.n_codes, self.mask, self.n_steps = config.codebook_size, config.special_token, config.diffusion.steps
        self.is_masking = config.diffusion.schedule != "uniform"
        kept = torch.linspace(FIRST_KEPT, LAST_KEPT, self.n_steps, dtype=torch.float64)
        masked = {
            "mask_uniform": torch.linspace(LAST_KEPT, LAST_MASKED, self.n_steps, dtype=torch.float64),
            "mask": 1 - kept,  # published: up to 0.99999, which leaves a millionth to uniform changes
            "uniform": torch.zeros_like(kept),
        }[config.diffusion.schedule]
        none = torch.zeros(1, dtype=torch.float64)
        self.kept = torch.cat([none + 1, kept]).to(device)  # [T + 1]
        self.masked = torch.cat([none, masked]).to(device)

    def between(self, begin: Tensor, end: Tensor) -> Transition:
        """Return what the steps after `begin` up to `end` do together; both [B] int64, begin < end."""
        kept = self.kept[end] / self.kept[begin]
        masked = 1 - (1 - self.masked[end]) / (1 - self.masked[begin])
        changed = ((1 - kept - masked) / self.n_codes).clamp(min=0)
        changed = changed * (changed > 1e-15)  # what rounding leaves where nothing changes
        return Transition(*(each.float()[:, None, None] for each in (kept, changed, masked)))

    def add_noise(self, codes: Tensor, times: Tensor, uniform: Tensor) -> Tensor:
        """Draw codes after t steps, q(x_t | x_0). codes: [B, K, T] int64; times: [B]; uniform: [B, K, T] in [0, 1)."""
        kept, changed, _ = self.between(torch.zeros_like(times), times)
        other = ((uniform - kept) / changed.clamp(min=1e-30)).clamp(max=self.n_codes - 1).long()
        lost = torch.where(uniform < kept + self.n_codes * changed, other, self.mask)
        return torch.where(uniform < kept, codes, lost)

    def start(self, uniform: Tensor) -> Tensor:
        """Return the codes that sampling begins with: masks, or random codes where nothing masks; shaped as uniform."""
        if self.is_masking:  # published; of x_T itself a tenth are random codes with mask_uniform
            return torch.full(uniform.shape, self.mask, device=uniform.device)
        return (uniform * self.n_codes).long()

    def posterior(self, original: Tensor, codes: Tensor, begin: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """Return q(x_s | x_t, x_0), averaged over a distribution of x_0: of codes [B, K, T, V], of the mask [B, K, T].

        original: p(x_0), [B, K, T, V]; codes: x_t, [B, K, T]; begin: s and end: t, [B] int64, s < t.
        Bayes: q(x_s | x_t, x_0) = q(x_t | x_s) q(x_s | x_0) / q(x_t | x_0).
        """
        before, after = self.between(torch.zeros_like(begin), begin), self.between(begin, end)
        whole = self.between(torch.zeros_like(end), end)
        is_mask = codes == self.mask
        # From a mask: it fell on a code that was still one at s, or was there already.
        share = after.masked / whole.masked.clamp(min=1e-30)
        unmasked = share[..., None] * (before.kept[..., None] * original + before.changed[..., None])
        # From a code v: x_0 explains v by having been kept, or by a change. Without changes only x_0 = v does.
        own = torch.zeros_like(original).scatter_(-1, codes.where(~is_mask, 0)[..., None], 1.0)
        explained = original / (whole.kept[..., None] * own + whole.changed[..., None]).clamp(min=1e-30)
        arrived = before.kept[..., None] * explained + before.changed[..., None] * explained.sum(-1, keepdim=True)
        unchanged = torch.where(
            (whole.changed > 0)[..., None], (after.kept[..., None] * own + after.changed[..., None]) * arrived, own
        )
        still_masked = torch.where(is_mask, before.masked / whole.masked.clamp(min=1e-30), 0.0)
        return torch.where(is_mask[..., None], unmasked, unchanged), still_masked
