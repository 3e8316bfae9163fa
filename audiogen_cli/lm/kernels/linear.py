"""One linear layer for training and decoding: packed for decoding, its weights lie as a CPU reads them fastest.

A decoding step multiplies few rows by every weight, so it takes as long as reading the weights does. oneDNN's own
layouts read them 2 to 3 times as fast as `F.linear` reads [out, in]; bfloat16 halves the bytes, int8 quarters them.
Activations outside the products stay float32: they are few, and a CPU's attention is slower in anything else.

A row's result must not depend on the rows beside it (seeds promise that). oneDNN's kernels for two rows and more
round a row alike; a trial at packing finds out whether that holds here, and otherwise few rows are always filled up
to LANE_ROWS. int8 products are integers, hence exact.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen_cli.errors import InputError

LANE_ROWS = 8  # rows of every product where the trial failed
MAX_ROWS = 32  # the most rows of a decoding step, and of the trial
LAYOUT_ROWS = {torch.float32: 2, torch.bfloat16: 8}  # rows that oneDNN lays weights out for: measured, best for 2 to 16
UNSIGNED_ZERO = 128  # int8 activations are kept as uint8 around it, which every oneDNN kernel takes


class Packed(Protocol):
    """A weight prepared for decoding."""

    least_rows: int  # fewer rows are filled up to so many
    n_bytes: int  # read by every product

    def __call__(self, x: Tensor, activation: str, added: Tensor | None) -> Tensor:
        """x: [..., in], at least least_rows; activation: "none" or "gelu"; added: [..., out] float32, never with gelu.

        Returns [..., out]: float32, or without `added` what the product comes in.
        """


Product = Callable[[Tensor, str, Tensor | None], Tensor]  # Packed's call, for any number of rows


class Linear(nn.Linear):
    """`nn.Linear` that can be packed for decoding."""

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self.packed: Packed | None = None

    def pack(self, dtype: str) -> None:
        """Prepare for decoding on a CPU with weights of this dtype: float32, bfloat16, float16 or int8.

        The original weights are let go: the layer can neither be trained nor saved nor packed otherwise afterwards.
        Raises InputError if this torch has no int8 kernels.
        """
        if self.packed is not None:
            return
        weight, bias = self.weight.detach().float(), None if self.bias is None else self.bias.detach().float()
        self.packed = Int8(weight, bias) if dtype == "int8" else _pack_float(weight, bias, getattr(torch, dtype))
        self.weight = nn.Parameter(weight.new_empty(0), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., in_features]. Returns [..., out_features]."""
        return F.linear(x, self.weight, self.bias) if self.packed is None else self._decode(x, "none").float()

    def gelu(self, x: Tensor) -> Tensor:
        """The layer, then an exact GELU, in one go where packed; in the packed weights' dtype, for the next layer."""
        return F.gelu(F.linear(x, self.weight, self.bias)) if self.packed is None else self._decode(x, "gelu")

    def product(self, n_rows: int) -> Product:
        """What multiplies n_rows rows, looked up once for many steps; the layer must be packed."""
        assert self.packed is not None
        return self.packed if n_rows >= self.packed.least_rows else self._decode

    def _decode(self, x: Tensor, activation: str, added: Tensor | None = None) -> Tensor:
        packed, n_rows = self.packed, x.numel() // self.in_features
        assert packed is not None
        if n_rows >= packed.least_rows:
            return packed(x, activation, added)
        filled = torch.arange(packed.least_rows) % n_rows  # with copies
        if added is not None:
            added = added.reshape(n_rows, self.out_features)[filled]
        y = packed(x.reshape(n_rows, self.in_features)[filled], activation, added)
        return y[:n_rows].view(*x.shape[:-1], self.out_features)


class OneDNN:
    """float32 or bfloat16 weights in oneDNN's layout; products are summed up in float32.

    The operators are torch's private ones, made for its compiler: hence `_pack_float`'s fallback.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.dtype, self.n_bytes = dtype, weight.numel() * dtype.itemsize
        self.bias = None if bias is None else bias.to(dtype)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype), LAYOUT_ROWS[dtype])
        self.least_rows = _least_rows(weight.shape, dtype)
        # Named in full: without choosing among overloads at every call.
        self._product = torch.ops.mkldnn._linear_pointwise.default
        self._sum = torch.ops.mkldnn._linear_pointwise.binary

    def __call__(self, x: Tensor, activation: str, added: Tensor | None) -> Tensor:
        if added is not None and self.dtype == torch.float32:
            return self._sum(x, added, self.weight, self.bias, "add")
        y = self._product(x.to(self.dtype), self.weight, self.bias, activation, [], "none")
        return y if added is None else added + y


class Plain:
    """Any weights through `F.linear`, where oneDNN has no kernel."""

    least_rows = LANE_ROWS

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.weight, self.bias = weight.to(dtype), None if bias is None else bias.to(dtype)
        self.n_bytes = self.weight.nbytes

    def __call__(self, x: Tensor, activation: str, added: Tensor | None) -> Tensor:
        y = F.linear(x.to(self.weight.dtype), self.weight, self.bias).float()
        y = F.gelu(y) if activation == "gelu" else y
        return y if added is None else added + y


class Int8:
    """int8 weights, one scale an output; every row of activations is rounded to 8 bits with a scale of its own."""

    least_rows = 1

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.scale = weight.abs().amax(1).clamp_(min=1e-12) / 127
        self.zero = torch.zeros(len(weight), dtype=torch.int32)
        self.bias, self.n_bytes = bias, weight.numel()
        try:
            rounded = (weight / self.scale[:, None]).round_().to(torch.int8)
            self.weight = torch.ops.onednn.qlinear_prepack(rounded, [LANE_ROWS, weight.shape[1]])
            self(weight.new_ones(1, weight.shape[1]), "none", None)
        except (AttributeError, RuntimeError, NotImplementedError):
            raise InputError("--dtype int8: this torch has no int8 kernels for this CPU; use bfloat16") from None

    def __call__(self, x: Tensor, activation: str, added: Tensor | None) -> Tensor:
        x = x.float()
        scale = torch.linalg.vector_norm(x, torch.inf, dim=-1, keepdim=True).clamp_(min=1e-12).div_(127)  # [..., 1]
        rounded = (x / scale).add_(UNSIGNED_ZERO + 0.5).to(torch.uint8)  # cut off: rounded, as all are positive
        arguments = (rounded, 1.0, UNSIGNED_ZERO, self.weight, self.scale, self.zero, None, 1.0, 0, torch.float32)
        y = torch.ops.onednn.qlinear_pointwise(*arguments, "none", [], "").mul_(scale)
        if self.bias is not None:
            y += self.bias
        if added is not None:
            y += added
        return F.gelu(y) if activation == "gelu" else y


def pack_linears(module: nn.Module, dtype: str) -> None:
    """Pack every `Linear` inside `module`."""
    for layer in module.modules():
        if isinstance(layer, Linear):
            layer.pack(dtype)


def packed_layers(module: nn.Module) -> list[Packed]:
    """What the packed layers inside `module` are packed as."""
    layers = (layer.packed for layer in module.modules() if isinstance(layer, Linear))
    return [packed for packed in layers if packed is not None]


def _pack_float(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Packed:
    try:
        packed = OneDNN(weight, bias, dtype)
        packed(weight.new_zeros(packed.least_rows, weight.shape[1]), "gelu", None)
        return packed
    except (AttributeError, KeyError, RuntimeError, NotImplementedError):
        return Plain(weight, bias, dtype)


@cache
def _least_rows(shape: tuple[int, int], dtype: torch.dtype) -> int:
    """From how many rows on oneDNN rounds a row the same whatever the rows beside it: 2, or LANE_ROWS.

    A trial with random numbers: sums taken in another order would differ in some of so many results.
    """
    numbers = torch.Generator().manual_seed(0)
    weight = torch.ops.mkldnn._reorder_linear_weight(
        torch.randn(shape, generator=numbers).to(dtype), LAYOUT_ROWS[dtype]
    )
    x = torch.randn(MAX_ROWS, shape[1], generator=numbers).to(dtype)
    added = torch.randn(MAX_ROWS, shape[0], generator=numbers).to(dtype)

    def multiply(n: int) -> tuple[Tensor, Tensor]:
        product, total = torch.ops.mkldnn._linear_pointwise, torch.ops.mkldnn._linear_pointwise.binary
        return product(x[-n:], weight, None, "gelu", [], "none"), total(x[-n:], added[-n:], weight, None, "add")

    whole = multiply(MAX_ROWS)
    agree = all(
        torch.equal(few, all_rows[-n:])
        for n in (*range(2, 9), 10, 12, 16, 24)
        for few, all_rows in zip(multiply(n), whole, strict=True)
    )
    return 2 if agree else LANE_ROWS
