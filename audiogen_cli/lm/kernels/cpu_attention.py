"""Causal self-attention for training in bfloat16 on a CPU, where torch's fused kernel is 3 to 5 times slower.

Plain products that keep their weights for the way back. Steps are taken a block at a time, each with the keys up to its
own end: most of what a causal mask would hide is never computed. Softmax reads and writes bfloat16 and computes in
float32, which autocast would do by a copy before and a copy after.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_STEPS = 128  # at most; fewer leave too little to a product, more compute too much that is hidden
MAX_STEPS = 1024  # the longest sequence whose attention weights are worth keeping in memory

# Shapes: B rows, S steps, H heads, E their width.


def suits(x: Tensor, n_steps: int) -> bool:
    """Whether plain products are the way for x, what attention is to see: in a training in bfloat16 on a CPU."""
    if x.device.type != "cpu" or not x.requires_grad or n_steps > MAX_STEPS:
        return False
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == x.dtype == torch.bfloat16


class CausalAttention(torch.autograd.Function):
    """Queries, keys and values [B, S, 3, H, E] → what each step sees of itself and those before: [B, S, H, E]."""

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
            d_scores = torch.ops.aten._softmax_backward_data(d_weights, weights, -1, weights.dtype)
            d_query[:, start:end] = d_scores @ key[:, :end]
            d_key[:, :end] += d_scores.mT @ query[:, start:end]
            d_value[:, :end] += weights.mT @ dy[:, start:end]
        d_query.mul_(size**-0.5)
        return gradient.unflatten(1, (n_rows, n_heads)).permute(1, 3, 0, 2, 4)


def _blocks(n_steps: int) -> list[tuple[int, int]]:
    """Start and end of each block, all about as long."""
    size = math.ceil(n_steps / math.ceil(n_steps / BLOCK_STEPS))
    return [(start, min(start + size, n_steps)) for start in range(0, n_steps, size)]
