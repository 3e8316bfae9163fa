"""The CPU backend: a decoding step in as few calls as possible, because each waits for code that reading the weights
has removed from the processor's caches.

Attention of one position is two weighted sums of table rows. The scores of a block of positions are the E rows of its
keys, stored [E, block], weighted by the query; the result is the rows of the values, weighted by probabilities.
torch's embedding bags are such sums: they read float16 as fast as memory gives it, where products with a single row
take 2 (float32) to 20 times (half precision) as long (torch 2.14). And each row and head is summed up alone: each may
be at another position, and its bits do not depend on the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from audiogen_cli.lm.cpu_ops import sum_rows
from audiogen_cli.lm.decoding.backend import Backend
from audiogen_cli.lm.decoding.cpu_kernels import PackedLinear, Product, count_rows, pack_model
from audiogen_cli.lm.decoding.requests import TEXT_BUCKET
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.transformer import Block, CrossAttentionKV

# Positions whose keys are stored together; a multiple of what a CPU adds at once, so that softmax rounds alike.
BLOCK = 64

# Shapes: R rows, H heads, P = R · H, E = d / H, C positions, of which B in a block.


class BlockedKVCache:
    """Keys and values of all layers, of R rows that each hold a number of positions of their own.

    A block is opened (zeroed) before its first position is written, because attention reads all of it; the system gives
    no memory to blocks that were never opened.
    """

    def __init__(
        self, n_layers: int, n_rows: int, n_heads: int, n_columns: int, size: int, dtype: torch.dtype, block: int
    ) -> None:
        """n_columns: the most positions of a row. size: E."""
        n_pairs, n_blocks = n_rows * n_heads, -(-n_columns // block)
        self.n_heads, self.size, self.block, self.scale = n_heads, size, block, size**-0.5
        self.keys = [torch.empty(n_pairs, n_blocks, size, block, dtype=dtype) for _ in range(n_layers)]
        self.values = [torch.empty(n_pairs, n_blocks * block, size, dtype=dtype) for _ in range(n_layers)]
        # The same memory as `sum_rows` and `append` see it.
        self.key_rows = [keys.view(-1, block) for keys in self.keys]
        self.value_rows = [values.view(-1, size) for values in self.values]
        self.flat_keys = [keys.view(-1) for keys in self.keys]
        self.mask = torch.full((n_pairs, n_blocks * block), -torch.inf)
        self.first_blocks = torch.arange(n_pairs)[:, None] * n_blocks  # [P, 1]
        self.opened = [0] * n_rows  # blocks of each row
        self.reserve(torch.zeros(n_rows, dtype=torch.long))

    def fill(self, row: int, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Replace what a row holds by these positions: every layer's keys and values, [H, S, E] each."""
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
        """Empty a row; `reserve` or `fill` must come before `attend`."""
        self.opened[row] = 0
        self.mask[self._pairs(row)] = -torch.inf

    def reserve(self, positions: Tensor) -> None:
        """Reserve the next position of every row, or its last once more; `append` writes it. positions: [R]."""
        before = self.opened.copy()
        for row, position in enumerate(positions.tolist()):
            if position == self.opened[row] * self.block:
                self._open(row, self.opened[row])
                self.opened[row] += 1
        if self.opened != before:
            self._list_rows()
        new = positions.repeat_interleave(self.n_heads)[:, None]  # [P, 1]
        keys = (self.first_blocks + new // self.block) * (self.size * self.block) + new % self.block
        self.new_keys = (keys + torch.arange(self.size) * self.block).flatten()
        self.new_values = (self.first_blocks * self.block + new).flatten()
        self.mask.view(-1).index_fill_(0, self.new_values, 0)

    def append(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Write one layer's keys and values at the reserved positions: [R, H, E] each."""
        values = self.value_rows[layer]
        self.flat_keys[layer].index_copy_(0, self.new_keys, key.to(values.dtype).flatten())
        values.index_copy_(0, self.new_values, value.to(values.dtype).reshape(-1, self.size))

    def attend(self, layer: int, query: Tensor) -> Tensor:
        """Attend with one query a row and head, [R, H, E], to all that its row holds. Returns [P, E]."""
        self.queries.copy_(query[:, :, None])
        scores = sum_rows(self.key_rows[layer], self.read_keys, self.key_starts, self.queries)
        scores = torch.add(self.read_mask, scores.view(self.read_mask.shape), alpha=self.scale)
        weights = scores.softmax(-1).to(self.queries.dtype)
        return sum_rows(self.value_rows[layer], self.read_values, self.value_starts, weights)

    def _pairs(self, row: int) -> slice:
        return slice(row * self.n_heads, (row + 1) * self.n_heads)

    def _open(self, row: int, block: int) -> None:
        pairs, columns = self._pairs(row), slice(block * self.block, (block + 1) * self.block)
        for keys, values in zip(self.keys, self.values, strict=True):
            keys[pairs, block] = 0
            values[pairs, columns] = 0

    def _list_rows(self) -> None:
        """List the table rows that `sum_rows` reads in every layer.

        A row shorter than others reads its first block again in place of missing ones: masked, it adds zeros.
        """
        most = max(self.opened)
        block = torch.arange(most)
        own = torch.tensor(self.opened).repeat_interleave(self.n_heads)[:, None]
        blocks = (self.first_blocks + torch.where(block < own, block, 0))[..., None]  # [P, most, 1]
        self.read_keys = (blocks * self.size + torch.arange(self.size)).int().flatten()
        self.read_values = (blocks * self.block + torch.arange(self.block)).int().flatten()
        self.key_starts = torch.arange(0, len(self.read_keys), self.size, dtype=torch.int32)
        self.value_starts = torch.arange(0, len(self.read_values), most * self.block, dtype=torch.int32)
        self.read_mask = self.mask[:, : most * self.block]
        n_rows = len(self.opened)
        self.queries = torch.empty(n_rows, self.n_heads, most, self.size, dtype=self.keys[0].dtype)


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


class CpuBackend(Backend):
    """A packed model on a CPU: the numbers of its blocks' `forward`, with float32 activations."""

    def __init__(self, model: AudioLanguageModel, n_rows: int, n_columns: int, n_text: int, dtype: torch.dtype) -> None:
        super().__init__(model, n_rows, n_columns, n_text, dtype)
        config, (n_heads, size) = model.config, self.cache_shape
        self.layers = [_look_up(block, n_rows) for block in cast("list[Block]", model.blocks)]
        self.norm, self.heads = _norm(model.norm), _product(model.heads.linear, n_rows)
        self.logits_shape = n_rows, config.n_q, config.codebook_size
        shape = config.n_layers, n_rows, n_heads
        self.cache = BlockedKVCache(*shape, n_columns, size, dtype, BLOCK)
        self.texts = BlockedKVCache(*shape, n_text, size, dtype, TEXT_BUCKET)

    @staticmethod
    def load(model: AudioLanguageModel, dtype: str) -> int:
        pack_model(model.to(torch.float32), dtype)
        return count_rows(model)

    @staticmethod
    def choose_cache_dtype(dtype: str) -> torch.dtype:
        """Choose float32 or float16.

        # ours: float16 beside fewer bits. It takes as many bytes as bfloat16 and rounds an eighth as much.
        """
        return torch.float32 if dtype == "float32" else torch.float16

    def step(self, x: Tensor, positions: Tensor, kv_length: int) -> Tensor:
        self.cache.reserve(positions)
        shape, (n_rows, dim) = x.shape[1:], x.shape
        heads = (n_rows, self.cache_shape[0], -1)
        for number, layer in enumerate(self.layers):
            y = torch.layer_norm(x, shape, *layer.norm_self)
            query, key, value = layer.qkv(y, "none", None).chunk(3, -1)
            self.cache.append(number, key.view(heads), value.view(heads))
            y = self.cache.attend(number, query.view(heads)).view(n_rows, dim)
            x = layer.out(y, "none", x)
            if layer.norm_cross is not None:
                query = layer.query(torch.layer_norm(x, shape, *layer.norm_cross), "none", None)
                x = layer.cross_out(self.texts.attend(number, query.view(heads)).view(n_rows, dim), "none", x)
            y = layer.up(torch.layer_norm(x, shape, *layer.norm_ff), "gelu", None)
            x = layer.down(y, "none", x)
        return self.heads(torch.layer_norm(x, shape, *self.norm), "none", None).view(self.logits_shape)

    def fill(self, row: int, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.cache.fill(row, layers)

    def set_cross_kv(self, row: int, layers: Sequence[CrossAttentionKV]) -> None:
        if layers:
            self.texts.fill(row, [(kv.key[0], kv.value[0]) for kv in layers])

    def clear(self, row: int) -> None:
        self.cache.clear(row)


def _look_up(block: Block, n_rows: int) -> _Layer:
    attention, cross = block.attention, block.cross_attention
    qkv, out = _product(attention.qkv, n_rows), _product(attention.out, n_rows)
    return _Layer(
        _norm(block.norm_self),
        qkv,
        out,
        None if block.norm_cross is None else _norm(block.norm_cross),
        qkv if cross is None else _product(cross.query, n_rows),
        out if cross is None else _product(cross.out, n_rows),
        _norm(block.norm_ff),
        _product(block.up, n_rows),
        _product(block.down, n_rows),
    )


def _product(layer: nn.Module, n_rows: int) -> Product:
    assert isinstance(layer, PackedLinear)
    return layer.product(n_rows)


def _norm(module: nn.LayerNorm) -> _Norm:
    return _Norm(module.weight, module.bias, module.eps)
