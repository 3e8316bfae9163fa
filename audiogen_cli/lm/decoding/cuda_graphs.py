"""CUDA graphs: a decoding step is some hundred small kernels, which take longer to launch than to run."""

from __future__ import annotations

from collections.abc import Callable

import torch


class RecordedStep:
    """Runs step(kv_length); recorded once for each kv_length and then replayed, without the CPU in between.

    The step's shapes may depend on kv_length only, and it must read and write the same tensors every time.
    """

    def __init__(self, step: Callable[[int], None]) -> None:
        self.step = step
        self.graphs: dict[int, torch.cuda.CUDAGraph | None] = {}  # None: has run once, plainly

    def __call__(self, kv_length: int) -> None:
        """Run one step."""
        if kv_length not in self.graphs:  # the first time plainly: libraries set themselves up
            self.graphs[kv_length] = None
            self.step(kv_length)
            return
        graph = self.graphs[kv_length]
        if graph is None:
            graph = self.graphs[kv_length] = torch.cuda.CUDAGraph()
            # Records, runs nothing. Other threads may use the GPU meanwhile: training reads ahead in one.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.step(kv_length)
        graph.replay()
