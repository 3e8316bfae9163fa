"""One linear layer for training and decoding: few rows go through oneDNN's prepacked weights on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LANE_ROWS = 8  # rows of every decoding step on a CPU: up to 4 samples, each with and without text


class Linear(nn.Linear):
    """`nn.Linear` that can be packed for decoding steps.

    Packed, inputs of at most LANE_ROWS rows are computed as exactly LANE_ROWS rows: a matrix product may
    round a row differently when the number of rows changes, so only this makes a sample's bits independent
    of what else is decoded beside it. The rows that fill up are whatever the buffer holds; they are cut off.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self._packed: Tensor | None = None
        self._rows: Tensor | None = None

    def pack(self) -> None:
        """Prepare for decoding on a CPU; the weights must not change afterwards."""
        self._rows = self.weight.new_zeros(LANE_ROWS, self.in_features)
        self._packed = _prepack(self.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., in_features]. Returns [..., out_features]."""
        if self._rows is None or x.numel() > self._rows.numel():
            return F.linear(x, self.weight, self.bias)
        n_rows = x.numel() // self.in_features
        self._rows[:n_rows] = x.reshape(n_rows, self.in_features)
        if self._packed is None:
            y = F.linear(self._rows, self.weight, self.bias)
        else:
            y = torch.ops.mkldnn._linear_pointwise(self._rows, self._packed, self.bias, "none", [], "")
        return y[:n_rows].view(*x.shape[:-1], self.out_features)


def pack_linears(module: nn.Module) -> None:
    """Pack every `Linear` inside `module`."""
    for layer in module.modules():
        if isinstance(layer, Linear):
            layer.pack()


def _prepack(weight: Tensor) -> Tensor | None:
    """The weight in oneDNN's own layout (2 to 3 times as fast for few rows), or None where torch has no such thing.

    The two operators are torch's private ones, made for its compiler: hence a trial run and a fallback.
    """
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, LANE_ROWS)
        trial = weight.new_zeros(LANE_ROWS, weight.shape[1])
        torch.ops.mkldnn._linear_pointwise(trial, packed, None, "none", [], "")
        return packed
    except (AttributeError, RuntimeError, NotImplementedError):
        return None
