"""Learning-rate schedules and the order in which samples are seen, both pure functions of the step."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

Schedule = Literal["inverse_sqrt", "cosine", "constant"]


def learning_rate(step: int, peak: float, schedule: Schedule, warmup_steps: int, max_steps: int) -> float:
    """The rate for optimizer step `step` (from 0): linear warm-up to `peak`, then the schedule (sec. 4.1).

    `inverse_sqrt` decays as √(warmup/step), the paper's; `cosine` reaches 1% of the peak at `max_steps`.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if schedule == "inverse_sqrt":
        return peak * math.sqrt(max(warmup_steps, 1) / (step + 1))
    if schedule == "cosine":
        progress = min(1.0, (step - warmup_steps) / max(1, max_steps - warmup_steps))
        return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
    return peak


class SampleOrder:
    """Which of `n` items is the i-th sample of a run: every epoch is one seeded permutation.

    A pure function of (seed, i): a resumed run goes on exactly where it stopped, and P processes that take
    samples i ≡ rank (mod P) see what one process would have seen, none twice.
    """

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed = n, seed
        self._permutations: dict[int, np.ndarray] = {}  # of the last two epochs asked for

    def __getitem__(self, i: int) -> int:
        epoch, position = divmod(i, self.n)
        permutation = self._permutations.get(epoch)
        if permutation is None:
            permutation = np.random.default_rng([self.seed, epoch]).permutation(self.n)
            # replaced as a whole: a thread that reads ahead may be in another epoch
            self._permutations = dict([*self._permutations.items(), (epoch, permutation)][-2:])
        return int(permutation[position])
