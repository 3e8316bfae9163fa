"""A decoding step on a CPU, in as few calls as it takes: each waits for code that the weights pushed out of the caches.

Attention of one position is two weighted sums of table rows. The scores of a block of positions are the E rows of its
keys, which lie [E, block], weighted by the query; the result is the rows of the values, weighted by probabilities.
torch's embedding bags are such sums: they read float16 as fast as memory gives it, where products with a single row
take 2 (float32) to 20 times (half precision) as long (torch 2.14). And they sum up every row and head by itself:
each may be at another position, and its bits do not depend on its company.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from audiogen_cli.lm.kernels.linear import Product
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.transformer import Block

BLOCK = 64  # positions whose keys lie together; a multiple of what a CPU adds at once, so that softmax rounds alike

# Shapes: R rows, H heads, P = R · H, E = d / H, C positions, of which B in a block.


def cache_dtype(dtype: str) -> torch.dtype:
    """What keys and values are kept in beside weights of this dtype.

    ours: float16 beside bfloat16 and int8. It takes as many bytes as bfloat16 and rounds an eighth as much.
    """
    return torch.float32 if dtype == "float32" else torch.float16


class Past:
    """Keys and values of all layers, of R rows that each hold a number of positions of their own.

    A block is opened (zeroed) before its first position is written, because attention reads all of it; what is not
    opened takes no memory yet, the system sees to that.
    """

    def __init__(
        self, n_layers: int, n_rows: int, n_heads: int, n_columns: int, size: int, dtype: torch.dtype, block: int
    ) -> None:
        """n_columns: the most positions of a row. size: E."""
        n_pairs, n_blocks = n_rows * n_heads, -(-n_columns // block)
        self.n_heads, self.size, self.block, self.scale = n_heads, size, block, size**-0.5
        self.keys = [torch.empty(n_pairs, n_blocks, size, block, dtype=dtype) for _ in range(n_layers)]
        self.values = [torch.empty(n_pairs, n_blocks * block, size, dtype=dtype) for _ in range(n_layers)]
        # The same memory as bags and as `append` see it.
        self.key_rows = [keys.view(-1, block) for keys in self.keys]
        self.value_rows = [values.view(-1, size) for values in self.values]
        self.flat_keys = [keys.view(-1) for keys in self.keys]
        self.mask = torch.full((n_pairs, n_blocks * block), -torch.inf)
        self.first_blocks = torch.arange(n_pairs)[:, None] * n_blocks  # [P, 1]
        self.opened = [0] * n_rows  # blocks of each row
        self.begin([0] * n_rows)

    def fill(self, row: int, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Have a row hold just these positions: every layer's keys and values, [H, S, E] each."""
        self.clear(row)
        n_columns, pairs = layers[0][0].shape[1], self._pairs(row)
        whole, rest = divmod(n_columns, self.block)
        if rest:
            self._open(row, whole)
        self.opened[row] = whole + bool(rest)
        for (key, value), keys, values in zip(layers, self.keys, self.values, strict=True):
            for block, part in enumerate(key.split(self.block, dim=1)):
                keys[pairs, block, :, : part.shape[1]] = part.transpose(1, 2)
            values[pairs, :n_columns] = value
        self.mask[pairs, :n_columns] = 0
        self._list_rows()

    def clear(self, row: int) -> None:
        """Have a row hold nothing; `begin` or `fill` must come before `attend`."""
        self.opened[row] = 0
        self.mask[self._pairs(row)] = -torch.inf

    def begin(self, columns: Sequence[int]) -> None:
        """Let every row have a position more, the one after its last, numbered by `columns`; `append` writes it.

        A row may also write its last position once more.
        """
        before = self.opened.copy()
        for row, column in enumerate(columns):
            if column == self.opened[row] * self.block:
                self._open(row, self.opened[row])
                self.opened[row] += 1
        if self.opened != before:
            self._list_rows()
        new = torch.tensor(columns).repeat_interleave(self.n_heads)[:, None]  # [P, 1]
        keys = (self.first_blocks + new // self.block) * (self.size * self.block) + new % self.block
        self.new_keys = (keys + torch.arange(self.size) * self.block).flatten()
        self.new_values = (self.first_blocks * self.block + new).flatten()
        self.mask.view(-1).index_fill_(0, self.new_values, 0)

    def append(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Store what `begin` made room for: [R, H, E] each."""
        values = self.value_rows[layer]
        self.flat_keys[layer].index_copy_(0, self.new_keys, key.to(values.dtype).flatten())
        values.index_copy_(0, self.new_values, value.to(values.dtype).reshape(-1, self.size))

    def attend(self, layer: int, query: Tensor) -> Tensor:
        """Softmax attention of one query a row and head, [R, H, E], to all that its row holds. Returns [P, E]."""
        self.queries.copy_(query[:, :, None])
        scores = _sum_rows(self.key_rows[layer], self.seen_keys, self.key_starts, self.queries)
        scores = torch.add(self.seen_mask, scores.view(self.seen_mask.shape), alpha=self.scale)
        weights = scores.softmax(-1).to(self.queries.dtype)
        return _sum_rows(self.value_rows[layer], self.seen_values, self.value_starts, weights)

    def _pairs(self, row: int) -> slice:
        return slice(row * self.n_heads, (row + 1) * self.n_heads)

    def _open(self, row: int, block: int) -> None:
        pairs, columns = self._pairs(row), slice(block * self.block, (block + 1) * self.block)
        for keys, values in zip(self.keys, self.values, strict=True):
            keys[pairs, block] = 0
            values[pairs, columns] = 0

    def _list_rows(self) -> None:
        """Set up what all layers' bags have in common.

        Where a row is shorter than others, its first block fills up: masked, it adds zeros.
        """
        most = max(self.opened)
        block = torch.arange(most)
        own = torch.tensor(self.opened).repeat_interleave(self.n_heads)[:, None]
        blocks = (self.first_blocks + torch.where(block < own, block, 0))[..., None]  # [P, most, 1]
        self.seen_keys = (blocks * self.size + torch.arange(self.size)).int().flatten()
        self.seen_values = (blocks * self.block + torch.arange(self.block)).int().flatten()
        self.key_starts = torch.arange(0, len(self.seen_keys), self.size, dtype=torch.int32)
        self.value_starts = torch.arange(0, len(self.seen_values), most * self.block, dtype=torch.int32)
        self.seen_mask = self.mask[:, : most * self.block]
        n_rows = len(self.opened)
        self.queries = torch.empty(n_rows, self.n_heads, most, self.size, dtype=self.keys[0].dtype)


def _sum_rows(table: Tensor, rows: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    """Sums of table rows, weighted; each sum begins where `starts` says. table: [N, D]. Returns [len(starts), D]."""
    sums, *_ = torch._embedding_bag_forward_only(table, rows, starts, False, 0, False, weights.view(-1))
    return sums


class _Norm(NamedTuple):
    weight: Tensor
    bias: Tensor
    epsilon: float


class _Layer(NamedTuple):
    """A block's parts, looked up once."""

    norm_self: _Norm
    qkv: Product
    out: Product
    norm_cross: _Norm | None  # None: no cross-attention
    query: Product
    cross_out: Product
    norm_ff: _Norm
    up: Product
    down: Product


class CpuStep:
    """One position of each of R rows through a packed model: the same numbers as its blocks' `forward`."""

    def __init__(self, model: AudioLanguageModel, n_rows: int) -> None:
        self.layers = [_look_up(block, n_rows) for block in cast("list[Block]", model.blocks)]
        self.norm, self.heads = _norm(model.norm), model.heads.linear.product(n_rows)
        self.n_rows, self.config = n_rows, model.config

    def __call__(self, x: Tensor, past: Past, texts: Past) -> Tensor:
        """x: [R, d] float32, for the positions that `past.begin` named. Returns logits [R, K, V]."""
        shape, (n_rows, dim) = x.shape[1:], x.shape
        heads = (n_rows, self.config.n_heads, -1)
        for number, layer in enumerate(self.layers):
            y = torch.layer_norm(x, shape, *layer.norm_self)
            query, key, value = layer.qkv(y, "none", None).chunk(3, -1)
            past.append(number, key.view(heads), value.view(heads))
            y = past.attend(number, query.view(heads)).view(n_rows, dim)
            x = layer.out(y, "none", x)
            if layer.norm_cross is not None:
                query = layer.query(torch.layer_norm(x, shape, *layer.norm_cross), "none", None)
                x = layer.cross_out(texts.attend(number, query.view(heads)).view(n_rows, dim), "none", x)
            y = layer.up(torch.layer_norm(x, shape, *layer.norm_ff), "gelu", None)
            x = layer.down(y, "none", x)
        logits = self.heads(torch.layer_norm(x, shape, *self.norm), "none", None)
        return logits.view(n_rows, self.config.n_q, -1)


def _look_up(block: Block, n_rows: int) -> _Layer:
    attention, cross = block.attention, block.cross_attention
    qkv, out = attention.qkv.product(n_rows), attention.out.product(n_rows)
    return _Layer(
        _norm(block.norm_self),
        qkv,
        out,
        None if block.norm_cross is None else _norm(block.norm_cross),
        qkv if cross is None else cross.query.product(n_rows),
        out if cross is None else cross.out.product(n_rows),
        _norm(block.norm_ff),
        block.up.product(n_rows),
        block.down.product(n_rows),
    )


def _norm(module: nn.LayerNorm) -> _Norm:
    return _Norm(module.weight, module.bias, module.eps)
