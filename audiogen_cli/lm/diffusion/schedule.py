"""Discrete diffusion over V codes and a mask (D3PM, VQ-Diffusion): the steps, what they add up to, their way back.

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
SURE, TINY = 1e-15, 1e-30  # in place of the chance of a change that cannot be; of other ones of 0

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
        changed = changed * (changed > SURE)  # what rounding leaves where nothing changes
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

    def weigh(self, logits: Tensor, codes: Tensor, times: Tensor) -> Tensor:
        """Return logits of p(x_0 | x_t) [B, K, T, V] from the network's: for a code that is no mask, that x_0 = x_t.

        codes: x_t, [B, K, T]; times: t, [B].
        # ours: log q(x_t | x_0) is added, Bayes' rule for a network that tells x_0 from the other codes. The published
        network must learn to repeat what it reads, which K codes in one position make hard.
        """
        whole = self.between(torch.zeros_like(times), times)
        known = (1 + whole.kept / whole.changed.clamp(min=SURE)).log().expand(codes.shape)
        is_mask = codes == self.mask
        return logits.scatter_add(-1, codes.where(~is_mask, 0)[..., None], known.where(~is_mask, 0.0)[..., None])

    def stay_masked(self, codes: Tensor, begin: Tensor, end: Tensor, uniform: Tensor) -> Tensor:
        """Draw which codes x_t are masks that were masks at step s, too: [B, K, T] bool. Arguments: see `draw_back`."""
        before, whole = (self.between(torch.zeros_like(each), each) for each in (begin, end))
        return (codes == self.mask) & (uniform * whole.masked < before.masked)

    def draw_back(self, original: Tensor, codes: Tensor, begin: Tensor, end: Tensor, uniform: Tensor) -> Tensor:
        """Draw x_s from q(x_s | x_t, x_0) by Bayes, of those x_s that are no masks.

        original: x_0, codes: x_t, [B, K, T]; begin: s and end: t, [B] int64, s < t; uniform: [B, K, T] in [0, 1).
        Bayes: q(x_s | x_t, x_0) is proportional to q(x_t | x_s) q(x_s | x_0).
        """
        before, after = self.between(torch.zeros_like(begin), begin), self.between(begin, end)
        is_mask = codes == self.mask
        # x_s is x_t, which then stayed; or x_0 kept until s; or any code, to which x_0 had changed
        stays = (after.kept * (before.changed + before.kept * (original == codes))).where(~is_mask, 0.0)
        arrives = after.changed.where(~is_mask, after.masked)
        returns, changes = arrives * before.kept, arrives * before.changed
        total = stays + returns + self.n_codes * changes
        place = uniform * total - stays
        other = ((place - returns) / changes.clamp(min=TINY)).clamp(0, self.n_codes - 1).long()
        earlier = torch.where(place < returns, original, other)
        return torch.where((place < 0) | (total == 0), codes, earlier)  # 0: a code that cannot have been x_0 stays
