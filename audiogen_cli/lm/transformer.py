"""The GPT2-like decoder blocks of sec. 3.2: causal self-attention, cross-attention to the text, feed-forward."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen_cli.lm.config import LMConfig

# Shapes: B rows, S steps, L text positions, C cached positions, H heads, E = d / H.


def sinusoidal_positions(positions: Tensor, dim: int) -> Tensor:
    """Return the position vectors of `positions` (any shape [...]): [..., d], all cosines, then all sines.

    # ours: frequency j of d/2 is 10000^(-j / (d/2 - 1)), as in the public checkpoints; no table limits the length.
    """
    half = torch.arange(dim // 2, dtype=torch.float32, device=positions.device)
    angles = positions[..., None].float() * torch.exp(half * (-math.log(10_000) / max(dim // 2 - 1, 1)))
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def additive_mask(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask to add to attention scores: 0 where visible (bool), -inf elsewhere."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, -torch.inf)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Compute softmax attention. query: [B, H, S, E]; key, value: [B, H, C, E]; mask: added to the scores.

    Returns [B, H, S, E].
    """
    return F.scaled_dot_product_attention(query, key, value, mask)


def attend_causally(qkv: Tensor) -> Tensor:
    """Compute softmax attention of each step to itself and those before: [B, S, 3, H, E] → [B, S, H, E]."""
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2)


@dataclass
class KVCache:
    """Keys and values of one layer's self-attention, preallocated."""

    key: Tensor  # [B, H, C, E]
    value: Tensor  # [B, H, C, E]

    def write(self, start: int | Tensor, key: Tensor, value: Tensor, kv_length: int) -> tuple[Tensor, Tensor]:
        """Store [B, H, S, E] at positions start, start + 1, …; return the first kv_length positions.

        start: a number, or with S = 1 each row's own [B]; then nothing depends on a number that only the CPU knows.
        """
        if isinstance(start, Tensor):
            rows = torch.arange(len(start), device=start.device)
            self.key[rows, :, start] = key[:, :, 0]
            self.value[rows, :, start] = value[:, :, 0]
        else:
            end = start + key.shape[2]
            assert end <= self.key.shape[2], "the cache is too short"
            self.key[:, :, start:end] = key
            self.value[:, :, start:end] = value
        return self.key[:, :, :kv_length], self.value[:, :, :kv_length]


@dataclass
class CrossAttentionKV:
    """Keys and values of one layer's cross-attention: computed once a text, constant over the steps."""

    key: Tensor  # [B, H, L, E]
    value: Tensor  # [B, H, L, E]
    mask: Tensor  # [B, 1, 1, L], 0 where there is text and -inf on padding


@dataclass
class ProjectedText:
    """A text at the model's width, before any layer's keys and values are computed from it."""

    vectors: Tensor  # [B, L, d]
    mask: Tensor  # [B, 1, 1, L], 0 where there is text and -inf on padding


class SelfAttention(nn.Module):
    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.qkv = nn.Linear(config.dim, 3 * config.dim, bias=config.bias)  # rows: queries, keys, values
        self.out = nn.Linear(config.dim, config.dim, bias=config.bias)
        self.attend_causally: Callable[[Tensor], Tensor] = attend_causally  # training may put a faster one here

    def forward(
        self, x: Tensor, cache: KVCache | None = None, start: int | Tensor = 0, mask: Tensor | None = None
    ) -> Tensor:
        """Attend over x: [B, S, d] → [B, S, d]. Causal without a cache.

        With one, x holds the positions start … start + S - 1 (see `KVCache.write`); mask: added to the scores, with a
        column for each cached position to attend to.
        """
        qkv = self.qkv(x).unflatten(-1, (3, self.n_heads, -1))
        if cache is None or mask is None:
            return self.out(self.attend_causally(qkv).flatten(2))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        y = attend(query, *cache.write(start, key, value, mask.shape[-1]), mask)
        return self.out(y.transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.query = nn.Linear(config.dim, config.dim, bias=config.bias)
        self.key_value = nn.Linear(config.dim, 2 * config.dim, bias=config.bias)  # rows: keys, values
        self.out = nn.Linear(config.dim, config.dim, bias=config.bias)
        self.attend: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = attend  # training may put a faster one here

    def precompute_kv(self, text: ProjectedText) -> CrossAttentionKV:
        """Compute keys and values of a text."""
        key, value = self.key_value(text.vectors).unflatten(-1, (2, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        return CrossAttentionKV(key, value, text.mask)

    def forward(self, x: Tensor, text: CrossAttentionKV | ProjectedText) -> Tensor:
        """Attend from x to the text: [B, S, d] → [B, S, d]; without keys and values in the cheaper of two ways."""
        if isinstance(text, CrossAttentionKV):
            return self._attend(x, text)
        kv, n_steps, n_text = self.precompute_kv(text), x.shape[1], text.vectors.shape[1]
        # Multiplications of either way, each divided by d, that do not occur in both.
        folding = n_steps * self.n_heads * n_text + n_text * x.shape[2]
        plain = isinstance(self.query, nn.Linear) and isinstance(self.out, nn.Linear)  # else peft's, with an adapter
        if not plain or folding > n_steps * x.shape[2]:
            return self._attend(x, kv)
        return self._attend_folded(x, kv)

    def _attend(self, x: Tensor, kv: CrossAttentionKV) -> Tensor:
        query = self.query(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
        return self.out(self.attend(query, kv.key, kv.value, kv.mask).transpose(1, 2).flatten(2))

    def fold(self, kv: CrossAttentionKV) -> tuple[Tensor, Tensor | None, Tensor]:
        """Fold the d × d weights into keys and values: (x Wq) Kᵀ = x (Wq Kᵀ) and (P V) Wo = P (V Wo).

        Returns what a position is multiplied with for its scores, [H, B·L, d], what is added to them, [H, B·L, 1]
        (None: nothing), and what the weights sum up, [H, B·L, d].
        """
        heads = self.n_heads, kv.key.shape[3]
        key = kv.key.permute(1, 0, 2, 3).flatten(1, 2) * kv.key.shape[3] ** -0.5  # [H, B·L, E]
        value = kv.value.permute(1, 0, 2, 3).flatten(1, 2)
        read = key @ self.query.weight.unflatten(0, heads)
        bias = None if self.query.bias is None else key @ self.query.bias.unflatten(0, (*heads, 1))
        return read, bias, value @ self.out.weight.unflatten(1, heads).permute(1, 2, 0)

    def _attend_folded(self, x: Tensor, kv: CrossAttentionKV) -> Tensor:
        """Attend to few positions without d × d products per step, see `fold`."""
        n_heads, n_text = self.n_heads, kv.key.shape[2]
        read, bias, written = self.fold(kv)

        def columns(y: Tensor) -> Tensor:
            return y.unflatten(1, (-1, n_text)).permute(1, 2, 0, 3).flatten(1, 2)  # [B, L·H, d]

        # Heads come last: over so few text positions a CPU's softmax is slow, but not over so many at once.
        scores = (x @ columns(read).transpose(1, 2)).unflatten(-1, (n_text, n_heads))  # [B, S, L, H]
        if bias is not None:
            scores = scores + bias.unflatten(1, (-1, n_text)).permute(1, 3, 2, 0)
        weights = (scores + kv.mask.transpose(2, 3).to(scores.dtype)).softmax(2).flatten(2)  # [B, S, L·H]
        y = weights.to(scores.dtype) @ columns(written)
        return y if self.out.bias is None else y + self.out.bias


class Block(nn.Module):
    """Pre-norm: x + self-attention, x + cross-attention, x + feed-forward (exact GELU).

    # ours: dropout is on each branch's result, not on attention weights, which would rule out the fused kernels.
    """

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(config.dim)
        self.attention = SelfAttention(config)
        self.norm_cross = nn.LayerNorm(config.dim) if config.cross_attention else None
        self.cross_attention = CrossAttention(config) if config.cross_attention else None
        self.norm_ff = nn.LayerNorm(config.dim)
        self.up = nn.Linear(config.dim, config.ff_scale * config.dim, bias=config.bias)
        self.gelu = nn.GELU()
        self.down = nn.Linear(config.ff_scale * config.dim, config.dim, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        text: CrossAttentionKV | ProjectedText | None,
        cache: KVCache | None = None,
        start: int | Tensor = 0,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Run the block: [B, S, d] → [B, S, d]. text: None without cross-attention; other arguments: SelfAttention's.

        In training the projected text comes: its keys and values are then computed (and under FSDP gathered) here.
        """
        x = x + self.dropout(self.attention(self.norm_self(x), cache, start, mask))
        if self.cross_attention is not None and self.norm_cross is not None and text is not None:
            x = x + self.dropout(self.cross_attention(self.norm_cross(x), text))
        return x + self.dropout(self.down(self.gelu(self.up(self.norm_ff(x)))))


class Blocks(nn.ModuleList):
    """A model's blocks, each on the output of the one before it. On a CPU decoding has others in their place."""

    def states(
        self, x: Tensor, text: CrossAttentionKV | ProjectedText | None, run: Callable[..., Tensor]
    ) -> Iterator[Tensor]:
        """Yield every block's output [B, S, d]. run: calls a block with the two other arguments."""
        for block in self:
            x = run(block, x, text)
            yield x
