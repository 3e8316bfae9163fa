"""The loss of the diffusion decoder (as published): KL of posteriors, over steps that are drawn by their importance."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from audiogen_cli.lm.config import LMConfig
from audiogen_cli.lm.decoder import CodeBatch, Objective
from audiogen_cli.lm.diffusion.schedule import NoiseSchedule
from audiogen_cli.lm.model import LMOutput

# Published: the weight of predicting x_0 itself, how often each step is seen before the losses decide how often it is
# drawn, and the weight of what was before in their running means.
AUXILIARY, ENOUGH, DECAY = 5e-4, 10, 0.9
# ours: the share of examples of which some frames are given as they are; half of them are to be continued.
KNOWN_SHARE = 0.25
TRAINING, VALIDATION = 4, 5  # kinds of random numbers

# Shapes: B rows, K streams, T frames, V codes.


class Denoising(Objective):
    """Restore codes after t steps; t and the codes are pure functions of (seed, training step, example).

    Which t are drawn depends on the losses so far, so they belong to a checkpoint.
    """

    def __init__(self, config: LMConfig, seed: int, device: torch.device) -> None:
        self.schedule, self.seed, self.n_steps = NoiseSchedule(config, device), seed, config.diffusion.steps
        self.mean_squares, self.counts = torch.zeros(2, self.n_steps, dtype=torch.float64)  # of t = 1 … T
        self.seen = torch.zeros(2, self.n_steps, device=device)  # in this training step: sums of squares, counts

    def losses(self, network: Callable[..., LMOutput], batch: CodeBatch, step: int | None) -> Tensor:
        """Return the loss sums [K] in nats: a bound on what `lm_loss` measures, in a training with its auxiliary part.

        step: of the training; None to validate, without known frames and with every t as likely.
        """
        chances = self.chances() if step is not None else torch.full((self.n_steps,), 1 / self.n_steps)
        lengths, shape = batch.frames_mask.sum(1), batch.codes.shape[1:]
        draws = [self._draw(id, step, shape, length) for id, length in zip(batch.ids, lengths.tolist(), strict=True)]
        places = np.array([each[0] for each in draws])
        index = np.searchsorted(np.cumsum(chances.numpy())[:-1], places, side="right")
        times = torch.from_numpy(index + 1).to(batch.codes.device)
        known = torch.from_numpy(np.stack([each[1] for each in draws])).to(batch.codes.device)  # [B, T]
        uniform = torch.from_numpy(np.stack([each[2] for each in draws])).to(batch.codes.device)
        codes = self.schedule.add_noise(batch.codes, times, uniform)
        codes = torch.where(known[:, None], batch.codes, codes)
        output = network(codes, times, batch.text, batch.text_mask, batch.frames_mask, known)
        counted = (output.mask & ~known[:, None]).float()  # [B, K, T]
        # The same weight for every example, however many of its frames are to be restored.
        counted = counted * (lengths / counted[:, 0].sum(1).clamp(min=1))[:, None, None]
        divergence, surprise = self.divergence(output.logits, batch.codes, codes, times)
        means = (divergence * counted).mean(1).sum(1) / lengths.clamp(min=1)  # [B]
        weights = 1 / chances.to(times.device).float()[times - 1]
        if step is not None:
            self._remember(times, means.detach(), counted.flatten(1).any(1))
            divergence = divergence + AUXILIARY * (1 + times / self.n_steps)[:, None, None] * surprise
        return (divergence * counted * weights[:, None, None]).sum((0, 2))

    def divergence(self, logits: Tensor, original: Tensor, codes: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return KL(q(x_{t-1} | x_t, x_0) ‖ p(x_{t-1} | x_t)) and -log p(x_0 | x_t), both [B, K, T].

        logits: [B, K, T, V] of p(x_0 | x_t); original: x_0, codes: x_t, [B, K, T]; times: t, [B]. At t = 1 the first is
        the second. Both give masks the same probability, so only codes count.
        """
        likelihoods = logits.float().log_softmax(-1)
        exact = torch.zeros_like(likelihoods).scatter_(-1, original[..., None], 1.0)
        true, _ = self.schedule.posterior(exact, codes, times - 1, times)
        predicted, _ = self.schedule.posterior(likelihoods.exp(), codes, times - 1, times)
        terms = torch.xlogy(true, true) - true * predicted.clamp(min=1e-30).log()
        return terms.sum(-1), -likelihoods.gather(-1, original[..., None])[..., 0]

    def chances(self) -> Tensor:
        """Return the probabilities [T] with which t = 1 … T are drawn: by the root mean square of their losses."""
        if bool((self.counts < ENOUGH).any()):
            return torch.full((self.n_steps,), 1 / self.n_steps, dtype=torch.float64)
        roots = self.mean_squares.sqrt() + 1e-4
        return roots / roots.sum()

    def end_step(self, accelerator: Accelerator) -> None:
        """Add what all processes have seen in this step to the running means."""
        sums, counts = accelerator.reduce(self.seen, "sum").cpu().double()
        self.seen.zero_()
        new = sums / counts.clamp(min=1)
        moved = torch.where(self.counts > 0, DECAY * self.mean_squares + (1 - DECAY) * new, new)
        self.mean_squares = torch.where(counts > 0, moved, self.mean_squares)
        self.counts = self.counts + counts

    def state_dict(self) -> dict[str, Tensor]:
        return {"mean_squares": self.mean_squares, "counts": self.counts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.mean_squares, self.counts = (state[name].cpu().double() for name in ("mean_squares", "counts"))

    def _draw(self, id: str, step: int | None, shape: torch.Size, length: int) -> tuple[float, np.ndarray, np.ndarray]:
        """Draw an example's place among the t in [0, 1), its known frames [T] bool and its uniform numbers [K, T].

        length: its frames without padding, on which nothing depends.
        """
        n_q, n_frames = shape
        digest = int.from_bytes(hashlib.sha256(id.encode()).digest()[:8], "big")
        kind = [VALIDATION] if step is None else [TRAINING, step]
        numbers = np.random.default_rng([self.seed, *kind, digest])
        place, chosen, *cuts = numbers.random(4)
        begin, end = (int(cut * length) for cut in sorted(cuts))
        end = length if chosen < KNOWN_SHARE / 2 else max(end, begin + 1)
        if step is None or chosen >= KNOWN_SHARE:
            begin, end = 0, n_frames
        frames = np.arange(n_frames)
        known = (frames < begin) | (frames >= end)
        return place, known, numbers.random((n_frames, n_q)).T  # frame-major: padding changes no number

    def _remember(self, times: Tensor, means: Tensor, counts: Tensor) -> None:
        """Note the squared losses [B] of a step's examples; counts: [B] bool, those that have any code to restore."""
        self.seen[0].index_add_(0, times - 1, torch.where(counts, means.float(), 0.0) ** 2)
        self.seen[1].index_add_(0, times - 1, counts.float())
