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
from audiogen_cli.lm.diffusion.schedule import TINY, NoiseSchedule
from audiogen_cli.lm.model import LMOutput

# Published: the weight of predicting x_0 itself, how often each step is seen before the losses decide how often it is
# drawn, and the weight of what was before in their running means.
AUXILIARY, ENOUGH, DECAY = 5e-4, 10, 0.9
# ours: the share of examples of which some frames are given as they are; half of them are to be continued.
KNOWN_SHARE = 0.25
TRAINING, VALIDATION = 4, 5  # kinds of random numbers

# Shapes: B rows, K streams, T frames, V codes.


def pick(values: Tensor, codes: Tensor) -> Tensor:
    """Take the value of each code: values [B, K, T, V], codes [B, K, T] → [B, K, T]."""
    return values.gather(-1, codes[..., None])[..., 0]


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
        logits = self.schedule.weigh(output.logits.float(), codes, times)
        divergence, surprise = self.divergence(logits, batch.codes, codes, times)
        means = (divergence * counted).mean(1).sum(1) / lengths.clamp(min=1)  # [B]
        weights = 1 / chances.to(times.device).float()[times - 1]
        if step is not None:
            self._remember(times, means.detach(), counted.flatten(1).any(1))
            divergence = divergence + AUXILIARY * (1 + times / self.n_steps)[:, None, None] * surprise
        return (divergence * counted * weights[:, None, None]).sum((0, 2))

    def divergence(self, logits: Tensor, original: Tensor, codes: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return KL(q(x_{t-1} | x_t, x_0) ‖ p(x_{t-1} | x_t)) and -log p(x_0 | x_t), both [B, K, T].

        logits: [B, K, T, V] of p(x_0 | x_t); original: x_0, codes: x_t, [B, K, T]; times: t, [B]. At t = 1 the first is
        the second. Both posteriors give masks the same probability, so only codes count.
        """
        # What one x_0 explains is a code of three kinds: x_0, x_t, any other. So the sum over codes needs no more of
        # the network than the sum of its logarithms, and those of these two.
        schedule, is_mask = self.schedule, codes == self.schedule.mask
        before, after = schedule.between(torch.zeros_like(times), times - 1), schedule.between(times - 1, times)
        whole = schedule.between(torch.zeros_like(times), times)
        now = codes.where(~is_mask, 0)  # any code will do for a mask
        # 1 / q(x_t | x_0), if x_0 is x_t, and for others; a mask says nothing of x_0
        same = (whole.kept + whole.changed).clamp(min=TINY).reciprocal().where(~is_mask, 1.0)
        other = whole.changed.clamp(min=TINY).reciprocal().where(~is_mask, 1.0)
        likelihoods = logits.float().log_softmax(-1)
        explained = likelihoods.exp() * other[..., None]
        explained = explained.scatter(-1, now[..., None], pick(likelihoods, now).exp()[..., None] * same[..., None])
        total = explained.sum(-1, keepdim=True)
        predicted = (before.kept[..., None] * explained + before.changed[..., None] * total).clamp(min=TINY).log()

        is_same = original == now
        certain = same.where(is_same, other)  # explained by x_0 alone
        rare, usual = before.changed * certain, (before.kept + before.changed) * certain  # of others; of x_0
        of_original, of_now = pick(predicted, original), pick(predicted, now)
        n_others = schedule.n_codes - 2 + is_same.float()
        others = torch.xlogy(n_others * rare, rare) - rare * (
            predicted.sum(-1) - of_original - of_now.where(~is_same, 0.0)
        )
        stays = (after.kept + after.changed).where(~is_mask, after.masked / whole.masked.clamp(min=TINY))
        leaves = after.changed.where(~is_mask, stays)  # q(x_t | x_{t-1}), if the two differ; for a mask: in its share
        divergence = stays.where(is_same, leaves) * usual * (usual.log() - of_original)
        divergence = divergence + leaves * others
        divergence = divergence + (stays * (torch.xlogy(rare, rare) - rare * of_now)).where(~is_same, 0.0)
        # without changes a code is known to be x_0
        return divergence.where(is_mask | (whole.changed > 0), 0.0), -pick(likelihoods, original)

    def chances(self) -> Tensor:
        """Return the probabilities [T] with which t = 1 … T are drawn: by the root mean square of their losses."""
        if bool((self.counts < ENOUGH).any()):
            return torch.full((self.n_steps,), 1 / self.n_steps, dtype=torch.float64)
        roots = self.mean_squares.sqrt() + 1e-4
        roots[0] = roots[:2][-1]  # published; the loss of t = 1 is nearly always 0
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
        """Note the finite ones among the squared losses [B] of a step's examples.

        counts: [B] bool, the examples that have any code to restore.
        """
        squares = means.float() ** 2
        counts = counts & squares.isfinite()  # one that is not would stay in its running mean for good
        self.seen[0].index_add_(0, times - 1, squares.where(counts, 0.0))
        self.seen[1].index_add_(0, times - 1, counts.float())
