"""A GPU that is not there: tensors without data whose device is CUDA, and counts of what would run on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

CUDA = torch.device("cuda")


@contextmanager
def fake_gpu() -> Iterator[None]:
    """Let tensors be made on a GPU that is not there. Mixed devices raise, and so does reading a value: a sync."""
    pinned = torch.Tensor.pin_memory
    torch.Tensor.pin_memory = lambda self: self  # type: ignore[method-assign,assignment]
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        torch.Tensor.pin_memory = pinned  # type: ignore[method-assign]


class CountOps(TorchDispatchMode):
    """Count the operations that are dispatched, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: dict[str, Any] | None = None
    ) -> Any:
        if function.namespace != "prim":  # looks at a tensor, runs nothing
            self.counts[function.name()] += 1
        return function(*arguments, **(options or {}))


def count_ops(work: Callable[[], object]) -> int:
    """Return the number of operations that some work dispatches."""
    with CountOps() as counting:
        work()
    return counting.counts.total()
