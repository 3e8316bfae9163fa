"""int8 and int4 weights with a scale for every group of inputs, in torch's layout of 4-bit weights for CPUs.

torch's kernel multiplies bfloat16 rows by weights scale · (q - 8) + zero, q = 0 … 15, with a scale and a zero for each
output and group of inputs; it sums up in float32, each row alone and in the order of the inputs, so a row's bits do not
depend on the rows beside it. An int8 weight is two 4-bit ones, 16 · scale · (high - 8) + scale · (low - 8) + 8 · scale:
the low halves follow the high ones along the inputs, which are given twice. At two rows this reads as many bytes a
second as torch's own int8 kernels or more, and those have one scale for all inputs.
"""

from __future__ import annotations

import platform
import sys

import torch
from torch import Tensor
from torch.nn import functional as F

from audiogen_cli.lm import cpu_ops

GROUPS = {"int8": 128, "int4": 32}  # inputs with a common scale, at most
WIDTHS = (128, 64, 32)  # of a group, in the kernel
OUTPUTS = 16  # the kernel takes a multiple of so many
LEVELS = 127  # the largest int8 weight


def has_grouped_kernel() -> bool:
    """Return whether this processor and torch have the kernel in vector instructions; elsewhere it is very slow."""
    if cpu_ops.pack_int4 is None or cpu_ops.linear_int4 is None or sys.platform == "win32":
        return False
    return platform.machine() in ("aarch64", "arm64") or cpu_capability() in ("AVX2", "AVX512")


def cpu_capability() -> str:
    """Name the vector instructions that torch uses here; the layout of packed weights depends on them."""
    return torch.backends.cpu.get_cpu_capability()


class GroupedWeight:
    """A `PackedWeight` of int8 or int4; layers of any size are filled up with zeros to what the kernel takes."""

    least_rows = 1

    def __init__(self, codes: Tensor, scales: Tensor, bias: Tensor | None, shape: tuple[int, int]) -> None:
        """codes: packed uint8; scales: [groups, out, 2] bfloat16, each with its zero. shape: of the plain weight."""
        self.codes, self.scales, self.bias, self.shape = codes, scales, bias, shape
        n_inputs = 2 * codes.shape[1]
        self.group, self.n_bytes = n_inputs // len(scales), codes.nbytes + scales.nbytes
        self.is_double = n_inputs >= 2 * shape[1]
        self.n_missing = n_inputs // (1 + self.is_double) - shape[1]
        self.is_filled = self.n_missing > 0 or scales.shape[1] > shape[0]

    @classmethod
    def quantize(cls, weight: Tensor, bias: Tensor | None, dtype: str) -> GroupedWeight:
        """Round a weight [out, in] float32 to dtype, "int8" or "int4"."""
        n_out, n_in = weight.shape
        filled = F.pad(weight, (0, -n_in % WIDTHS[-1], 0, -n_out % OUTPUTS))
        width = next(each for each in WIDTHS if each <= GROUPS[dtype] and filled.shape[1] % each == 0)
        groups = filled.unflatten(1, (-1, width))  # [out, groups, width]
        codes, scales = (_round_int8 if dtype == "int8" else _round_int4)(groups)
        packed = cpu_ops.pack_int4(codes.flatten(1).int(), 1)
        return cls(packed, scales.transpose(0, 1).contiguous(), bias, (n_out, n_in))

    def __call__(self, x: Tensor, activation: str, added: Tensor | None) -> Tensor:
        rows = x.to(torch.bfloat16)
        if rows.dim() > 2:
            rows = rows.flatten(0, -2)
        if self.n_missing:
            rows = F.pad(rows, (0, self.n_missing))
        if self.is_double:
            rows = torch.cat((rows, rows), 1)
        y: Tensor = cpu_ops.linear_int4(rows, self.codes, self.group, self.scales)
        if self.is_filled:
            y = y[:, : self.shape[0]]
        if x.dim() > 2:
            y = y.unflatten(0, x.shape[:-1])
        if self.bias is not None:
            y = y + self.bias
        if activation == "gelu":
            y = F.gelu(y)
        return y if added is None else added + y

    def fill_to(self, n_rows: int) -> int:
        return n_rows


def _round_int8(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Round groups [out, n, width]: codes [out, 2n, width], high halves first, and scales and zeros [out, 2n, 2]."""
    scale = (groups.abs().amax(-1) / LEVELS).clamp_(min=1e-12).bfloat16()
    codes = (groups / scale.float()[..., None]).round_().clamp_(-LEVELS, LEVELS).int() + 128
    high, low = (torch.stack(pair, -1) for pair in ((16 * scale, 0 * scale), (scale, 8 * scale)))
    return torch.cat([codes >> 4, codes & 15], 1), torch.cat([high, low], 1)


def _round_int4(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Round groups [out, n, width] between their extremes: codes of that shape, scales and zeros [out, n, 2].

    # ours: trying narrower ranges, too, lowers the error of 32 normal values by 1% only.
    """
    low, high = groups.amin(-1), groups.amax(-1)
    scale = ((high - low) / 15).clamp_(min=1e-12).bfloat16()
    zero = ((high + low + scale.float()) / 2).bfloat16()
    codes = ((groups - zero.float()[..., None]) / scale.float()[..., None]).round_().clamp_(-8, 7).add_(8)
    return codes, torch.stack([scale, zero], -1)
