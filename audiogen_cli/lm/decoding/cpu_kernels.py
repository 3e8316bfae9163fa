"""Linear layers packed for decoding: their weights are laid out as a CPU reads them fastest.

A decoding step multiplies few rows by every weight, so it takes as long as reading the weights. oneDNN's own
layouts are read 2 to 3 times as fast as `F.linear` reads [out, in]; bfloat16 halves the bytes, int8 and int4
(`grouped_weights`) do so again.
Activations outside the products stay float32: they are few, and a CPU's attention is slower in anything else.

A row's result must not depend on the rows beside it (seeds promise that). oneDNN's kernels for two rows and more
round a row alike; a trial finds out whether that holds here for as many rows as a step has, and otherwise these are
filled up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen_cli.lm import cpu_ops
from audiogen_cli.lm.decoding.grouped_weights import GROUPS, GroupedWeight
from audiogen_cli.lm.model import CodeModel

FILLED_ROWS = 8  # rows of every product of a PlainWeight
MAX_ROWS = 32  # the most rows of a decoding step, and of the trial
LAYOUT_ROWS = {torch.float32: 2, torch.bfloat16: 8}  # rows that oneDNN optimizes for: measured, best for 2 to 16
SENSITIVE = ("key_value", "linear")  # ours: int8 beside int4: what reads the text once, and the heads


class PackedWeight(Protocol):
    """A weight prepared for decoding."""

    least_rows: int  # fewer rows are filled up to so many
    n_bytes: int  # read by every product

    def fill_to(self, n_rows: int) -> int:
        """Return as how many rows a step's rows must be multiplied to round alike in steps of any number of rows."""

    def __call__(self, x: Tensor, activation: str, added: Tensor | None) -> Tensor:
        """x: [..., in], at least least_rows; activation: "none" or "gelu"; added: [..., out] float32, never with gelu.

        Returns [..., out]: float32, or without `added` the dtype of the product.
        """


Product = Callable[[Tensor, str, Tensor | None], Tensor]  # as PackedWeight's call, for the rows of a step


class PackedLinear(nn.Module):
    """Replaces an `nn.Linear`, and the exact GELU after it, for decoding: no gradients, no saving."""

    def __init__(
        self, layer: nn.Linear, dtype: str, activation: str = "none", packed: PackedWeight | None = None
    ) -> None:
        """dtype: of the weights: float32, bfloat16, float16, int8 or int4. activation: "none", or "gelu" for both.
        packed: the layer's weight, if it has been packed before."""
        super().__init__()
        self.in_features, self.out_features, self.activation = layer.in_features, layer.out_features, activation
        self.packed = packed or _pack(layer, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., in], all of one sequence. Returns [..., out]: float32, or with GELU the dtype of the product."""
        y = self._multiply(self.packed.least_rows, x, self.activation)
        return y if self.activation == "gelu" else y.float()

    def product(self, n_rows: int) -> Product:
        """Return what multiplies the n_rows rows of a step, to be looked up once for many steps."""
        filled = self.packed.fill_to(n_rows)
        return self.packed if filled == n_rows else partial(self._multiply, filled)

    def _multiply(self, least: int, x: Tensor, activation: str, added: Tensor | None = None) -> Tensor:
        """Call the PackedWeight with any number of rows, filled up to `least` with copies."""
        packed, n_rows = self.packed, x.numel() // self.in_features
        if n_rows >= least:
            return packed(x, activation, added)
        filled = torch.arange(least) % n_rows
        if added is not None:
            added = added.reshape(n_rows, self.out_features)[filled]
        y = packed(x.reshape(n_rows, self.in_features)[filled], activation, added)
        return y[:n_rows].view(*x.shape[:-1], self.out_features)


class OneDNNWeight:
    """float32 or bfloat16 weights in oneDNN's layout; products are summed up in float32."""

    least_rows = 2

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.dtype, self.n_bytes = dtype, weight.numel() * dtype.itemsize
        self.bias = None if bias is None else bias.to(dtype)
        self.weight = cpu_ops.reorder_weight(weight.to(dtype), LAYOUT_ROWS[dtype])
        self.shape = weight.shape
        self._linear, self._linear_add = cpu_ops.linear, cpu_ops.linear_add

    def __call__(self, x: Tensor, activation: str, added: Tensor | None) -> Tensor:
        if added is not None and self.dtype == torch.float32:
            return self._linear_add(x, added, self.weight, self.bias, "add")
        y = self._linear(x.to(self.dtype), self.weight, self.bias, activation, [], "none")
        return y if added is None else added + y

    def fill_to(self, n_rows: int) -> int:
        numbers = max(n_rows, self.least_rows), *(n for n in (8, 16) if n > n_rows)
        return next((n for n in numbers if _rounds_alike(self.shape, self.dtype, n)), MAX_ROWS)


class PlainWeight:
    """Any weights through `F.linear`, where oneDNN has no kernel."""

    least_rows = FILLED_ROWS

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.weight, self.bias = weight.to(dtype), None if bias is None else bias.to(dtype)
        self.n_bytes = self.weight.nbytes

    def fill_to(self, n_rows: int) -> int:
        return max(n_rows, FILLED_ROWS)

    def __call__(self, x: Tensor, activation: str, added: Tensor | None) -> Tensor:
        y = F.linear(x.to(self.weight.dtype), self.weight, self.bias).float()
        y = F.gelu(y) if activation == "gelu" else y
        return y if added is None else added + y


def pack_model(model: CodeModel, dtype: str, kept: Callable[[str, nn.Linear], PackedWeight] | None = None) -> None:
    """Replace the linear layers of blocks and heads by packed ones, once; the original weights are freed.

    kept: returns the weight of a layer (by its name in the model) that has been packed before.
    """
    for path, module in list(model.named_modules()):
        for name, child in list(module.named_children()):
            if not isinstance(child, nn.Linear) or name == "text_projection":
                continue
            own = "int8" if dtype == "int4" and name in SENSITIVE else dtype
            packed = kept(f"{path}.{name}", child) if kept else None
            setattr(module, name, PackedLinear(child, own, "gelu" if name == "up" else "none", packed))
            if name == "up":
                module.gelu = nn.Identity()


def count_rows(model: CodeModel) -> int:
    """Return the most rows of a step that this packed model multiplies as they are, or filled up."""
    layers = [module for module in model.modules() if isinstance(module, PackedLinear)]
    return FILLED_ROWS if any(layer.packed.least_rows == FILLED_ROWS for layer in layers) else MAX_ROWS


def _pack(layer: nn.Linear, dtype: str) -> PackedWeight:
    weight, bias = layer.weight.detach().float(), None if layer.bias is None else layer.bias.detach().float()
    if dtype in GROUPS:
        return GroupedWeight.quantize(weight, bias, dtype)
    return _pack_float(weight, bias, getattr(torch, dtype))


def _pack_float(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> PackedWeight:
    if dtype in LAYOUT_ROWS and cpu_ops.reorder_weight and cpu_ops.linear and cpu_ops.linear_add:
        try:
            packed = OneDNNWeight(weight, bias, dtype)
            packed(weight.new_zeros(packed.least_rows, weight.shape[1]), "gelu", None)
            return packed
        except (RuntimeError, NotImplementedError):  # this CPU has no such kernel
            pass
    return PlainWeight(weight, bias, dtype)


@cache
def _rounds_alike(shape: tuple[int, int], dtype: torch.dtype, n_rows: int) -> bool:
    """Find out whether oneDNN rounds a row the same among n_rows as among MAX_ROWS.

    A trial with random numbers: sums taken in another order would differ in some of so many results.
    """
    numbers = torch.Generator().manual_seed(0)
    weight = cpu_ops.reorder_weight(torch.randn(shape, generator=numbers).to(dtype), LAYOUT_ROWS[dtype])
    x = torch.randn(MAX_ROWS, shape[1], generator=numbers).to(dtype)
    added = torch.randn(MAX_ROWS, shape[0], generator=numbers).to(dtype)

    def multiply(n: int) -> tuple[Tensor, Tensor]:
        product = cpu_ops.linear(x[-n:], weight, None, "gelu", [], "none")
        return product, cpu_ops.linear_add(x[-n:], added[-n:], weight, None, "add")

    pairs = zip(multiply(n_rows), multiply(MAX_ROWS), strict=True)
    return all(torch.equal(few, all_rows[-n_rows:]) for few, all_rows in pairs)
