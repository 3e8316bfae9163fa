"""Speed of a training: tokens and step time, waiting for data, memory, and the share of the GPU's peak that is used."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Dense bfloat16 peak of a GPU in TFLOP/s, from its maker's data sheet; the first name that fits counts.
PEAKS = {
    **{"H200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "B200": 2250, "A100": 312, "A800": 312},
    **{"L40S": 362, "L40": 181, "L4": 121, "A40": 150, "A30": 165, "A10": 125, "RTX 4090": 165, "RTX 3090": 71},
}


class Throughput:
    """Counts since the last reading.

    flops_per_token: floating-point operations that a step spends for each token, backward pass included; None: not
    to be compared with the peak (the precision is not bfloat16). processes: whose tokens are counted together.
    """

    def __init__(self, device: torch.device, flops_per_token: float | None, processes: int = 1) -> None:
        self.device, self.processes = device, processes
        peak = peak_flops(device)
        self.flops_ratio = flops_per_token / peak if flops_per_token and peak else None  # MFU of a token/s on one GPU
        self._reset()

    def add(self, tokens: int) -> None:
        """Count a finished step of so many tokens, in all processes."""
        self.tokens += tokens
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
        mfu: model FLOPs utilization, None without a GPU whose peak is known.
        """
        seconds = time.perf_counter() - self.started
        rate = self.tokens / seconds
        mfu = rate / self.processes * self.flops_ratio if self.flops_ratio else None
        numbers = {
            "tokens_per_s": rate,
            "step_seconds": seconds / max(1, self.steps),
            "data_wait": self.waited / seconds,
            "memory_gb": peak_memory(self.device) / 1e9,
            "mfu": mfu,
        }
        self._reset()
        return numbers

    def _reset(self) -> None:
        self.tokens, self.steps, self.waited, self.started = 0, 0, 0.0, time.perf_counter()


def peak_flops(device: torch.device) -> float | None:
    """Return a GPU's peak of bfloat16 operations per second; None for a CPU or an unknown GPU."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak * 1e12 for part, peak in PEAKS.items() if part in name), None)


def peak_memory(device: torch.device) -> int:
    """Return the most bytes that this process had on its GPU, else in main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
