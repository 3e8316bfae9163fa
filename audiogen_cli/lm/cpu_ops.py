"""Private torch operators that make a CPU fast. This is the only file that names them; where this torch lacks one, its
name here is None or a public operator takes its place.

They belong to torch's compiler: oneDNN's matrix products with weights in oneDNN's own layout, and embedding bags
without what only a backward pass needs.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def _find(name: str) -> Any:
    try:
        return reduce(getattr, name.split("."), torch.ops)
    except (AttributeError, RuntimeError):
        return None


# (weight [out, in], rows of x) → weight in oneDNN's layout
reorder_weight = _find("mkldnn._reorder_linear_weight")
# (x, weight, bias, activation, [], "none") → product; overloads are named: choosing among them costs time at every call
linear = _find("mkldnn._linear_pointwise.default")
# (x, added, weight, bias, "add") → product + added
linear_add = _find("mkldnn._linear_pointwise.binary")
# (codes [out, in] int32 of 0 … 15, 1) → packed; (x bfloat16, packed, inputs a group, scales and zeros) → product
pack_int4 = _find("aten._convert_weight_to_int4pack_for_cpu.default")
linear_int4 = _find("aten._weight_int4pack_mm_for_cpu.default")
_embedding_bag = getattr(torch, "_embedding_bag_forward_only", None)
_softmax_backward = _find("aten._softmax_backward_data")


def sum_rows(table: Tensor, rows: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    """Sum rows of a table [N, D], weighted; sum i takes rows[starts[i] : starts[i + 1]]. Returns [len(starts), D]."""
    if _embedding_bag is None:
        return F.embedding_bag(rows, table, starts, mode="sum", per_sample_weights=weights.view(-1))
    sums: Tensor = _embedding_bag(table, rows, starts, False, 0, False, weights.view(-1))[0]
    return sums


def softmax_backward(gradient: Tensor, weights: Tensor) -> Tensor:
    """Compute the gradient of a softmax over the last dimension, from that of its result `weights`."""
    if _softmax_backward is None:
        return weights * (gradient - (gradient * weights).sum(-1, keepdim=True))
    result: Tensor = _softmax_backward(gradient, weights, -1, weights.dtype)
    return result
