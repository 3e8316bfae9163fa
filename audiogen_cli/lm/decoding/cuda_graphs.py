"""CUDA graphs: a decoding step is some hundred small kernels, which take longer to launch than to run."""

from __future__ import annotations

from collections.abc import Callable

import torch


class Replay:
    """Runs step(reach); on CUDA it is recorded once for each reach and then replayed, without the CPU in between.

    step's shapes may depend on `reach` only, and it must read and write the same tensors every time.
    """

    def __init__(self, step: Callable[[int], None], device: torch.device) -> None:
        self.step, self.device = step, device
        self.reach = -1
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, reach: int) -> None:
        """Run one step."""
        if self.device.type != "cuda" or reach != self.reach:  # the first one plainly: libraries set themselves up
            self.graph, self.reach = None, reach
            self.step(reach)
            return
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):  # records, runs nothing
                self.step(reach)
        self.graph.replay()
