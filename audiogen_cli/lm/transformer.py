"""The GPT2-like decoder blocks of sec. 3.2: causal self-attention, cross-attention to the text, feed-forward."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen_cli.lm.config import LMConfig
from audiogen_cli.lm.kernels import cpu_attention
from audiogen_cli.lm.kernels.dropout import Dropout
from audiogen_cli.lm.kernels.linear import Linear

# Shapes: B rows, S steps, L text positions, C cached positions, H heads, E = d / H.


def sinusoidal_positions(positions: Tensor, dim: int) -> Tensor:
    """The position vectors of `positions` (any shape [...]): [..., d], all cosines, then all sines.

    ours: frequency j of d/2 is 10000^(-j / (d/2 - 1)), as the public checkpoints have it; no table caps the length.
    """
    half = torch.arange(dim // 2, dtype=torch.float32, device=positions.device)
    angles = positions[..., None].float() * torch.exp(half * (-math.log(10_000) / max(dim // 2 - 1, 1)))
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax attention. query: [B, H, S, E]; key, value: [B, H, C, E]; mask: added to the scores, None is causal.

    Returns [B, H, S, E].
    """
    if mask is None or not cpu_attention.suits(query, query.shape[2]):
        return F.scaled_dot_product_attention(query, key, value, mask, is_causal=mask is None)
    scores = (query * query.shape[-1] ** -0.5) @ key.mT
    return (scores + mask.to(scores.dtype)).softmax(-1).to(value.dtype) @ value


@dataclass
class KVCache:
    """Keys and values of one layer's self-attention, preallocated."""

    key: Tensor  # [B, H, C, E]
    value: Tensor  # [B, H, C, E]

    def write(self, start: int | Tensor, key: Tensor, value: Tensor, reach: int) -> tuple[Tensor, Tensor]:
        """Store [B, H, S, E] at positions start, start + 1, …; returns the first `reach` positions.

        start as a tensor [1] on the device takes one position: nothing then depends on a number that the CPU knows.
        """
        if isinstance(start, Tensor):
            self.key.index_copy_(2, start, key)
            self.value.index_copy_(2, start, value)
        else:
            end = start + key.shape[2]
            assert end <= self.key.shape[2], "the cache is too short"
            self.key[:, :, start:end] = key
            self.value[:, :, start:end] = value
        return self.key[:, :, :reach], self.value[:, :, :reach]


@dataclass
class TextMemory:
    """What one layer's cross-attention looks at: computed once a text, constant over the steps."""

    key: Tensor  # [B, H, L, E]
    value: Tensor  # [B, H, L, E]
    mask: Tensor  # [B, 1, 1, L], 0 where there is text and -inf on padding


@dataclass
class Text:
    """A text for cross-attention, as the model projected it: what `Block.remember` makes a TextMemory of."""

    vectors: Tensor  # [B, L, d]
    mask: Tensor  # [B, 1, 1, L], 0 where there is text and -inf on padding


class SelfAttention(nn.Module):
    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.qkv = Linear(config.dim, 3 * config.dim, bias=config.bias)  # rows: queries, keys, values
        self.out = Linear(config.dim, config.dim, bias=config.bias)

    def forward(
        self, x: Tensor, cache: KVCache | None = None, start: int | Tensor = 0, mask: Tensor | None = None
    ) -> Tensor:
        """x: [B, S, d], the positions start … start + S - 1; mask: added to the scores, one column a position seen.

        Without a cache a mask of None is causal; a cache needs a mask.
        """
        qkv = self.qkv(x).unflatten(-1, (3, self.n_heads, -1))
        if mask is None and cpu_attention.suits(qkv, x.shape[1]):
            return self.out(cpu_attention.CausalAttention.apply(qkv).flatten(2))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        if cache is not None and mask is not None:
            key, value = cache.write(start, key, value, mask.shape[-1])
        y = attend(query, key, value, mask)
        return self.out(y.transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.query = Linear(config.dim, config.dim, bias=config.bias)
        self.key_value = Linear(config.dim, 2 * config.dim, bias=config.bias)  # rows: keys, values
        self.out = Linear(config.dim, config.dim, bias=config.bias)

    def remember(self, text: Tensor, mask: Tensor) -> TextMemory:
        """text: [B, L, d] and mask [B, 1, 1, L] (0 or -inf) → keys and values."""
        key, value = self.key_value(text).unflatten(-1, (2, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        return TextMemory(key, value, mask)

    def forward(self, x: Tensor, memory: TextMemory) -> Tensor:
        """x: [B, S, d] → [B, S, d]."""
        query = self.query(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
        y = attend(query, memory.key, memory.value, memory.mask)
        return self.out(y.transpose(1, 2).flatten(2))

    def read(self, x: Tensor, text: Text) -> Tensor:
        """The same for a whole sequence x: [B, S, d] at once, as in training, by the cheaper of two ways."""
        n_steps, n_text = x.shape[1], text.vectors.shape[1]
        memory = self.remember(text.vectors, text.mask)
        # Multiplications of the one and the other, each divided by d, that do not occur in both.
        long = n_steps * self.n_heads * n_text + n_text * x.shape[2] > n_steps * x.shape[2]
        if long or self.query.packed is not None:  # packed for decoding, the weights cannot be read any more
            return self(x, memory)
        return self._read_few(x, memory)

    def _read_few(self, x: Tensor, memory: TextMemory) -> Tensor:
        """For few text positions: (x Wq) Kᵀ = x (Wq Kᵀ) and (P V) Wo = P (V Wo), no step meets a d × d matrix."""
        n_heads, size = self.n_heads, x.shape[2] // self.n_heads
        n_text = memory.key.shape[2]
        key = memory.key.permute(1, 0, 2, 3).flatten(1, 2) * size**-0.5  # [H, B·L, E]
        value = memory.value.permute(1, 0, 2, 3).flatten(1, 2)
        read = key @ self.query.weight.unflatten(0, (n_heads, size))  # [H, B·L, d]
        written = value @ self.out.weight.unflatten(1, (n_heads, size)).permute(1, 2, 0)

        def columns(y: Tensor) -> Tensor:
            return y.unflatten(1, (-1, n_text)).permute(1, 2, 0, 3).flatten(1, 2)  # [B, L·H, d]

        # Heads come last: over so few text positions a CPU's softmax is slow, but not over so many at once.
        scores = (x @ columns(read).transpose(1, 2)).unflatten(-1, (n_text, n_heads))  # [B, S, L, H]
        if self.query.bias is not None:
            bias = key @ self.query.bias.unflatten(0, (n_heads, size, 1))  # [H, B·L, 1]
            scores = scores + bias.unflatten(1, (-1, n_text)).permute(1, 3, 2, 0)
        weights = (scores + memory.mask.transpose(2, 3).to(scores.dtype)).softmax(2).flatten(2)  # [B, S, L·H]
        y = weights.to(scores.dtype) @ columns(written)
        return y if self.out.bias is None else y + self.out.bias


class Block(nn.Module):
    """Pre-norm: x + self-attention, x + cross-attention, x + feed-forward (exact GELU).

    ours: dropout is on each branch's result, not on attention weights, which would rule out the fused kernels.
    """

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(config.dim)
        self.attention = SelfAttention(config)
        self.norm_cross = nn.LayerNorm(config.dim) if config.cross_attention else None
        self.cross_attention = CrossAttention(config) if config.cross_attention else None
        self.norm_ff = nn.LayerNorm(config.dim)
        self.up = Linear(config.dim, config.ff_scale * config.dim, bias=config.bias)
        self.down = Linear(config.ff_scale * config.dim, config.dim, bias=config.bias)
        self.dropout = Dropout(config.dropout)

    def remember(self, text: Tensor, mask: Tensor) -> TextMemory | None:
        """What `forward` needs of a text; see CrossAttention.remember. None if there is no cross-attention."""
        return None if self.cross_attention is None else self.cross_attention.remember(text, mask)

    def forward(
        self,
        x: Tensor,
        memory: TextMemory | Text | None,
        cache: KVCache | None = None,
        start: int | Tensor = 0,
        mask: Tensor | None = None,
    ) -> Tensor:
        """x: [B, S, d] → [B, S, d]. memory: None exactly if there is no cross-attention; the rest: SelfAttention's.

        In training the text itself comes: its keys and values are then computed (and under FSDP gathered) here.
        """
        x = x + self.dropout(self.attention(self.norm_self(x), cache, start, mask))
        if self.cross_attention is not None and self.norm_cross is not None and memory is not None:
            y, layer = self.norm_cross(x), self.cross_attention
            x = x + self.dropout(layer.read(y, memory) if isinstance(memory, Text) else layer(y, memory))
        return x + self.dropout(self.down(self.up.gelu(self.norm_ff(x))))
