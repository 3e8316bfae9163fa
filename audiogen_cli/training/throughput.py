"""Speed and memory of a training: tried before its first step, and counted while it runs.

The trial takes one and two examples; what more of them need follows from the difference.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator

from audiogen_cli.devices import (
    free_memory,
    gather_values,
    give_back_memory,
    is_out_of_memory,
    read_fields,
    used_memory,
)
from audiogen_cli.errors import format_seconds

# Dense bfloat16 peak of a GPU in TFLOP/s, from its maker's data sheet; the first name that fits counts.
PEAKS = {
    "H200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "B200": 2250, "A100": 312, "A800": 312, "L40S": 362,
    "L40": 181, "L4": 121, "A40": 150, "A30": 165, "A10": 125, "RTX 4090": 165, "RTX 3090": 71,
}  # fmt: skip

MEMORY_SHARE = 0.9  # of the free memory that a training may take
LONG_TRIAL = 5.0  # seconds: a micro-batch that takes less is tried as a whole, which times it better


class Throughput:
    """Counts since the last reading. processes: whose tokens and operations are counted together."""

    def __init__(self, device: torch.device, processes: int = 1) -> None:
        self.device, self.processes, self.peak = device, processes, peak_flops(device)
        self._reset()

    def add(self, tokens: int = 0, flops: float = 0.0) -> None:
        """Count a finished step of so many tokens, in all processes; 0: it has none.

        flops: floating-point operations that they need, backward pass included; 0: in another precision than bfloat16,
        whose peak is known.
        """
        self.tokens += tokens
        self.flops += flops
        self.steps += 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time within as waiting for data."""
        begun = time.perf_counter()
        yield
        self.waited += time.perf_counter() - begun

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time within (validation, saving) out."""
        begun = time.perf_counter()
        yield
        self.started += time.perf_counter() - begun

    def read(self) -> dict[str, float | None]:
        """Return the numbers since the last reading.

        data_wait: share of the time; memory_gb: the peak, on the GPU if there is one;
        tokens_per_s: only of steps with tokens; mfu: their model FLOPs utilization, None without a GPU whose peak is
        known.
        """
        seconds = time.perf_counter() - self.started
        mfu = self.flops / seconds / self.processes / self.peak if self.peak and self.flops else None
        numbers: dict[str, float | None] = {
            "step_seconds": seconds / max(1, self.steps),
            "data_wait": self.waited / seconds,
            "memory_gb": peak_memory(self.device) / 1e9,
        }
        if self.tokens:
            numbers |= {"tokens_per_s": self.tokens / seconds, "mfu": mfu}
        self._reset()
        return numbers

    def _reset(self) -> None:
        self.tokens, self.steps, self.flops, self.waited, self.started = 0, 0, 0.0, 0.0, time.perf_counter()


def peak_flops(device: torch.device) -> float | None:
    """Return a GPU's peak of bfloat16 operations per second; None for a CPU or an unknown GPU."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak * 1e12 for part, peak in PEAKS.items() if part in name), None)


def reset_peak(device: torch.device) -> None:
    """Let `peak_memory` begin anew; in main memory only Linux can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int:
    """Return the most bytes that this process had on its GPU, else in main memory, since `reset_peak`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError, KeyError):  # not of a process that became this one, as getrusage's is
        return 1024 * int(read_fields("/proc/self/status")["VmHWM:"])
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@dataclass(frozen=True)
class Trial:
    """Result of `try_micro_batches`, the same in each process.

    needed: bytes while training, inf if memory ran out; free: bytes, None if unknown; seconds: of a step.
    first_steps, first_seconds: so many steps are cheaper, each taking that long.
    recomputed: activations are not kept, because they would not fit.
    """

    micro_batch: int
    wanted: int  # micro-batch that was asked for
    needed: float
    free: float | None
    seconds: float
    first_steps: int = 0
    first_seconds: float = 0.0
    recomputed: bool = False

    @property
    def fits(self) -> bool:
        """Return whether `needed` fits the free memory; True where that is unknown."""
        return _fits(self.needed, self.free)

    def describe(self, steps: int) -> str:
        """Say what the training takes. steps: those that are left."""
        if self.needed == math.inf:
            return f"tried: memory runs out with micro-batches of {self.micro_batch}"
        memory = f"{self.needed / 1e9:.2g} GB" + (f" of {self.free / 1e9:.2g} GB free" if self.free else "")
        first = min(steps, self.first_steps)
        kinds = [(first, self.first_seconds), (steps - first, self.seconds)]
        each = " and later ".join(format_seconds(seconds) for count, seconds in kinds if count)
        total = format_seconds(sum(count * seconds for count, seconds in kinds))
        return f"tried: {memory} for micro-batches of {self.micro_batch}; about {each} a step, {total} in all"

    def warn(self) -> str | None:
        """Return a warning if the wanted micro-batch does not fit, else None."""
        if self.needed == math.inf or (self.free and self.needed > self.free):
            return "that is more than is free: expect to be ended; train a smaller model or on shorter crops"
        if self.recomputed:
            return "activations would not fit into memory: each block is computed twice (checkpoint_activations)"
        if self.micro_batch < self.wanted:
            return f"micro-batches of {self.wanted} would not fit into memory: {self.micro_batch} at once instead"
        return None


def try_micro_batches(
    run: Callable[[int], object],
    wanted: int,
    share: int,
    later: float,
    accelerator: Accelerator,
    smallest: int = 1,
    first: tuple[int, Callable[[int], object]] = (0, lambda n: None),
    accumulated: float = 0.0,
) -> Trial:
    """Run forward and backward passes on a few examples and choose the micro-batch, the same in every process.

    run: takes the number of examples; it must leave nothing changed but memory, also where that runs out. wanted: the
    largest micro-batch. share: this process's examples of a step. later: bytes that the first step adds for good (the
    optimizer's moments). first: a number of steps at the beginning that are cheaper, and what they run. accumulated:
    bytes more that a step of several micro-batches takes.
    Every number is gathered before anything depends on it, so that no process waits for one that went another way.
    """
    device = accelerator.device
    free = min((each for each in gather_values(free_memory(device)) if each is not None), default=None)
    later = max(gather_values(later))
    needed: dict[int, float] = {}
    tried, seconds = 1, 0.0  # of the last run that memory was enough for

    def timed(work: Callable[[int], object], n: int) -> tuple[float, float]:
        try:
            if device.type == "cuda":
                work(n)  # compiles and chooses kernels
            found = measure(lambda: work(n), device)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            found = math.inf, 0.0
        memory, times = zip(*gather_values(found), strict=True)
        return max(memory), max(times)

    def attempt(n: int) -> None:
        nonlocal tried, seconds
        needed[n], taken = timed(run, n)
        if needed[n] < math.inf:
            tried, seconds = n, taken

    def predict(n: int) -> float:
        fewest, *others = sorted(needed)
        if math.inf in (needed[fewest], needed.get(n)):
            return math.inf
        each = (
            max(0.0, (needed[others[0]] - needed[fewest]) / (others[0] - fewest)) if others else needed[fewest] / fewest
        )
        return later + accumulated * (n < share) + needed.get(n, needed[fewest] + each * (n - fewest))

    def largest_that_fits() -> int:
        n = wanted
        while n > 1 and not _fits(predict(n), free):
            n = -(-n // 2)
        return n

    with torch.random.fork_rng(devices=[]):
        attempt(min(smallest, wanted))
        if tried < wanted and _fits(predict(2 * tried), free):
            attempt(min(2 * tried, wanted))
        chosen = largest_that_fits()
        cold = len(needed) == 1  # the first run of all takes longer
        while (chosen > tried or cold) and needed.get(chosen) != math.inf and seconds * chosen / tried < LONG_TRIAL:
            attempt(chosen)
            chosen, cold = largest_that_fits(), False
        first_seconds = timed(first[1], tried)[1] if first[0] else 0.0
    each = share / tried
    return Trial(chosen, wanted, predict(chosen), free, seconds * each, first[0], first_seconds * each)


def _fits(needed: float, free: float | None) -> bool:
    return needed < math.inf and (free is None or needed <= MEMORY_SHARE * free)


def measure(work: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Return the most bytes that the work took at a time, and its seconds."""
    give_back_memory()
    reset_peak(device)
    before, begun = used_memory(device), time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return max(0.0, peak_memory(device) - before), time.perf_counter() - begun
