"""Faster training on a CPU: attention in bfloat16, where torch's fused kernel is 3 to 5 times slower, and dropout, for
which torch draws a 64-bit number for each element.

Attention here consists of plain products that keep their weights for the backward pass. Steps are taken a block at a
time, each with the keys up to its own end: most of what a causal mask would hide is never computed. Softmax reads and
writes bfloat16 and computes in float32, which autocast would do by a copy before and a copy after.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from audiogen_cli.lm import transformer
from audiogen_cli.lm.diffusion.network import BidirectionalAttention

BLOCK_STEPS = 128  # at most; fewer leave too little to a product, more compute too much that is hidden
MAX_STEPS = 1024  # the longest sequence whose attention weights are worth keeping in memory
LEVELS = 1 << 16  # elements are dropped with this resolution
_softmax_backward = getattr(torch, "_softmax_backward_data", None)  # private: a torch may lack it

# Shapes: B rows, S steps, H heads, E their width.


def use_cpu_kernels(model: nn.Module) -> None:
    """Let a language model that is on a CPU train with the kernels of this module. Dropout draws other numbers then."""
    for module in model.modules() if next(model.parameters()).device.type == "cpu" else ():
        if isinstance(module, transformer.SelfAttention):
            module.attend_causally = attend_causally
        if isinstance(module, transformer.CrossAttention | BidirectionalAttention):
            module.attend = attend
        for name, child in list(module.named_children()):
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p))


def is_suited(x: Tensor, n_steps: int) -> bool:
    """Return whether plain products are faster for x, from which attention is computed: in training in bfloat16."""
    if x.device.type != "cpu" or not x.requires_grad or n_steps > MAX_STEPS:
        return False
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == x.dtype == torch.bfloat16


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Compute `transformer.attend`."""
    if not is_suited(query, query.shape[2]):
        return transformer.attend(query, key, value, mask)
    scores = (query * query.shape[-1] ** -0.5) @ key.mT
    return (scores + mask.to(scores.dtype)).softmax(-1).to(value.dtype) @ value


def attend_causally(qkv: Tensor) -> Tensor:
    """Compute `transformer.attend_causally`."""
    if not is_suited(qkv, qkv.shape[1]):
        return transformer.attend_causally(qkv)
    y: Tensor = CausalAttention.apply(qkv)
    return y


class CausalAttention(torch.autograd.Function):
    """Queries, keys and values [B, S, 3, H, E] → causal attention [B, S, H, E]."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor) -> Tensor:
        n_rows, n_steps, _, n_heads, size = qkv.shape
        heads = qkv.permute(2, 0, 3, 1, 4).clone(memory_format=torch.contiguous_format).flatten(1, 2)  # [3, B·H, S, E]
        query, key, value = heads
        query.mul_(size**-0.5)
        hidden = qkv.new_full((BLOCK_STEPS, BLOCK_STEPS), -torch.inf).triu_(1)
        y = qkv.new_empty(n_rows, n_steps, n_heads, size)
        kept = []
        for start, end in _blocks(n_steps):
            scores = query[:, start:end] @ key[:, :end].mT  # [B·H, end - start, end]
            scores[..., start:] += hidden[: end - start, : end - start]
            weights = scores.softmax(-1)
            y[:, start:end] = (weights @ value[:, :end]).unflatten(0, (n_rows, n_heads)).transpose(1, 2)
            kept.append(weights)
        ctx.save_for_backward(heads, *kept)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        heads, *kept = ctx.saved_tensors
        n_rows, n_steps, n_heads, size = dy.shape
        query, key, value = heads
        dy = dy.transpose(1, 2).flatten(0, 1)  # [B·H, S, E]
        gradient = torch.zeros_like(heads)
        d_query, d_key, d_value = gradient
        for (start, end), weights in zip(_blocks(n_steps), kept, strict=True):
            d_weights = dy[:, start:end] @ value[:, :end].mT
            d_scores = softmax_backward(d_weights, weights)
            d_query[:, start:end] = d_scores @ key[:, :end]
            d_key[:, :end] += d_scores.mT @ query[:, start:end]
            d_value[:, :end] += weights.mT @ dy[:, start:end]
        d_query.mul_(size**-0.5)
        return gradient.unflatten(1, (n_rows, n_heads)).permute(1, 3, 0, 2, 4)


class Dropout(nn.Dropout):
    """`nn.Dropout`; on a CPU four elements share a 64-bit number (a training step of the tiny size is 7% shorter)."""

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of x, of any shape; unchanged unless training."""
        if not self.training or not self.p:
            return x
        if x.device.type != "cpu" or self.p == 1:
            return F.dropout(x, self.p)
        return x * _draw_mask(x, self.p)


def _draw_mask(x: Tensor, p: float) -> Tensor:
    """Draw a mask of x's shape and dtype: 0 where dropped, what keeps the mean elsewhere."""
    dropped = round(p * LEVELS)
    numbers = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
    kept = numbers.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - LEVELS // 2
    return kept.to(x.dtype).mul_(LEVELS / max(1, LEVELS - dropped))


def softmax_backward(gradient: Tensor, weights: Tensor) -> Tensor:
    """Compute the gradient of a softmax over the last dimension, from that of its result `weights`."""
    if _softmax_backward is None:
        return weights * (gradient - (gradient * weights).sum(-1, keepdim=True))
    result: Tensor = _softmax_backward(gradient, weights, -1, weights.dtype)
    return result


def _blocks(n_steps: int) -> list[tuple[int, int]]:
    """Return start and end of each block, all about as long."""
    size = math.ceil(n_steps / math.ceil(n_steps / BLOCK_STEPS))
    return [(start, min(start + size, n_steps)) for start in range(0, n_steps, size)]
