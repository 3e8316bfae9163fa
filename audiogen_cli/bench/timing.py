"""Timing of functions in turn: a busy moment slows all of them alike, so that ratios hold."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Timings:
    """Seconds of all runs of each function, by its name."""

    seconds: Mapping[str, list[float]]

    def median(self, name: str) -> float:
        """Return the median seconds of a function."""
        return statistics.median(self.seconds[name])

    def ratio(self, peer: str, own: str) -> float | None:
        """Divide the peer's median by our own: how many times as fast we are; None if the peer did not run."""
        return self.median(peer) / self.median(own) if self.seconds.get(peer) else None


def run_in_turn(runs: Mapping[str, Callable[[], list[float]]], rounds: int) -> dict[str, list[float]]:
    """Call every function once a round and collect the numbers that each returns."""
    numbers: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            numbers[name] += run()
    return numbers


def time_in_turn(runs: Mapping[str, Callable[[], Any]], rounds: int, device: torch.device | None = None) -> Timings:
    """Time every function once a round, on a CUDA device until its work is done."""
    return Timings(run_in_turn({name: partial(_seconds, run, device) for name, run in runs.items()}, rounds))


def step_seconds(steps: Iterator[Any], warm: int, count: int, device: torch.device) -> list[float]:
    """Time each of `count` steps after `warm` others, which also prepare; on an accelerator only their mean."""
    next(islice(steps, warm - 1, None))
    stamps = [now(device)]
    for _ in islice(steps, count):
        if device.type == "cpu":
            stamps.append(now(device))
    if device.type != "cpu":
        return [(now(device) - stamps[0]) / count]
    return [later - earlier for earlier, later in pairwise(stamps)]


def now(device: torch.device | None = None) -> float:
    """Return the time in seconds, once a GPU is idle."""
    if device is not None and device.type != "cpu":
        import torch

        torch.accelerator.synchronize(device)
    return time.perf_counter()


def _seconds(run: Callable[[], Any], device: torch.device | None) -> list[float]:
    began = now(device)
    run()
    return [now(device) - began]
