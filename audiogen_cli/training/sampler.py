"""The order in which examples are read, and each process's share of it: both pure functions of the step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch


class ExampleOrder:
    """The item that is a run's i-th example, of `n` items: every epoch is one seeded permutation.

    A pure function of (seed, i): a resumed run continues exactly where it stopped, on any number of processes.
    levels: [n] numbers, a curriculum: items above 0 come, in the first epoch, from low to high.
    """

    def __init__(self, n: int, seed: int, levels: np.ndarray | None = None) -> None:
        self.n, self.seed, self.levels = n, seed, levels
        self._permutations: dict[int, np.ndarray] = {}  # of the last two epochs asked for

    def __getitem__(self, i: int) -> int:
        epoch, position = divmod(i, self.n)
        permutation = self._permutations.get(epoch)
        if permutation is None:
            permutation = np.random.default_rng([self.seed, epoch]).permutation(self.n)
            if self.levels is not None and epoch == 0:
                places = np.flatnonzero(self.levels[permutation])
                items = permutation[places]
                permutation[places] = items[np.argsort(self.levels[items], kind="stable")]
            # Replaced as a whole: a thread that reads ahead may be in another epoch.
            self._permutations = dict([*self._permutations.items(), (epoch, permutation)][-2:])
        return int(permutation[position])


def seed_step(seed: int, step: int, process: int) -> None:
    """Seed what a training step draws by its number, so that a resumed run draws what an undisturbed one draws."""
    # torch's generator for CPUs reads 32 bits of a seed; these depend on all numbers.
    torch.manual_seed(int(np.random.SeedSequence([seed, 2, step, process]).generate_state(1)[0]))


def spread_evenly(n: int, wanted: int) -> list[int]:
    """Choose at most `wanted` of n items, the first and the last among them (of one: the first)."""
    places: list[int] = np.linspace(0, n - 1, min(wanted, n)).round().astype(int).tolist()
    return places


@dataclass(frozen=True)
class RankBatchSampler:
    """The batches of example numbers that one process reads, step after step.

    numbers_of: all examples of a step, in all processes; of P processes each takes every P-th. micro_batch: the largest
    batch; 0: a step's share is one batch.
    """

    numbers_of: Callable[[int], Sequence[int]]
    steps: range
    rank: int = 0
    processes: int = 1
    micro_batch: int = 0

    def batches(self, step: int) -> list[Sequence[int]]:
        """Return this process's batches of one step; at least one if the step has as many examples as processes."""
        own = self.numbers_of(step)[self.rank :: self.processes]
        size = self.micro_batch or len(own)
        return [own[start : start + size] for start in range(0, len(own), size)]

    def __iter__(self) -> Iterator[Sequence[int]]:
        for step in self.steps:
            yield from self.batches(step)
