"""Backends compute the rows of a batch, each with its own KV cache. This one runs the model's modules.

It is the reference for the CPU backend (`cpu_backend`), and what GPUs run: there a step has few shapes and no number
that only the CPU knows, so that it can be recorded as a CUDA graph.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from audiogen_cli.lm.config import LMConfig
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.transformer import Block, CrossAttentionKV, KVCache, additive_mask

# Shapes: R rows, C cached positions, L text positions, H heads, E = d / H.


class Backend(ABC):
    """R rows of a batch: `prepare` gives one its text, `prefill` its first positions, `step` all of them one more."""

    def __init__(self, model: AudioLanguageModel, n_rows: int, n_columns: int, n_text: int, dtype: torch.dtype) -> None:
        """model: as `load` left it. n_columns: the most positions of a row. n_text: the longest text, in positions.
        dtype: of keys and values."""
        config: LMConfig = model.config
        self.model, self.n_rows = model, n_rows
        self.cross_kv: list[list[CrossAttentionKV | None]] = [[] for _ in range(n_rows)]  # of every row and layer
        self.cache_shape = config.n_heads, config.dim // config.n_heads  # H, E

    @staticmethod
    @abstractmethod
    def load(model: AudioLanguageModel, dtype: str) -> int:
        """Convert a model to the form that this backend runs; return the maximum number of rows of a step."""

    @abstractmethod
    def step(self, x: Tensor, positions: Tensor, kv_length: int) -> Tensor:
        """Compute one position of every row: the one after its last, or its last once more.

        x: embeddings [R, d]; positions: their numbers [R]; kv_length: none is larger than kv_length - 1.
        Returns logits [R, K, V].
        """

    @abstractmethod
    def fill(self, row: int, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Replace a row's cache by these positions: every layer's keys and values, [H, C, E] each."""

    @abstractmethod
    def set_cross_kv(self, row: int, layers: Sequence[CrossAttentionKV]) -> None:
        """Set the text that a row attends to."""

    @abstractmethod
    def clear(self, row: int) -> None:
        """Empty a row's cache."""

    def prepare(self, row: int, vectors: Tensor | None) -> Tensor:
        """Restart a row with a text [L, D], or None for no text; return its prefix [L, d], L = 0 without one."""
        self.clear(row)
        config, weight = self.model.config, self.model.null_text
        text = torch.zeros(1, 1, config.text_width) if vectors is None or not len(vectors) else vectors[None]
        mask = torch.full(text.shape[:2], vectors is not None and len(vectors) > 0, device=weight.device)
        projected, mask = self.model.project_text(text.to(weight.device), mask)
        self.cross_kv[row] = self.model.precompute_cross_kv(projected, mask)
        self.set_cross_kv(row, [kv for kv in self.cross_kv[row] if kv])
        return projected[0, : projected.shape[1] * config.text_prefix]

    def prefill(self, row: int, x: Tensor) -> None:
        """Read a row's first positions at once, from their embeddings [1, C, d]; its cache then holds just these."""
        n_heads, size = self.cache_shape
        columns = torch.arange(x.shape[1], device=x.device)
        mask = additive_mask(columns[:, None] >= columns, x.dtype)
        layers = []
        for block, text in zip(self.model.blocks, self.cross_kv[row], strict=True):
            cache = KVCache(*(x.new_empty(1, n_heads, x.shape[1], size) for _ in range(2)))
            x = block(x, text, cache, 0, mask)
            layers.append((cache.key[0], cache.value[0]))
        self.fill(row, layers)


class TorchBackend(Backend):
    """The model's own modules, on any device."""

    def __init__(self, model: AudioLanguageModel, n_rows: int, n_columns: int, n_text: int, dtype: torch.dtype) -> None:
        super().__init__(model, n_rows, n_columns, n_text, dtype)
        n_heads, size = self.cache_shape
        # Zeros: a step attends to masked positions, too, and 0 times uninitialized memory may be NaN.
        zeros = partial(torch.zeros, dtype=dtype, device=model.null_text.device)
        past, text = (n_rows, n_heads, n_columns, size), (n_rows, n_heads, n_text, size)
        self.caches = [KVCache(zeros(past), zeros(past)) for _ in model.blocks]
        self.texts = [
            CrossAttentionKV(zeros(text), zeros(text), zeros((n_rows, 1, 1, n_text)))
            for block in cast("list[Block]", model.blocks)
            if block.cross_attention
        ]
        self.columns = torch.arange(n_columns, device=model.null_text.device)

    @staticmethod
    def load(model: AudioLanguageModel, dtype: str) -> int:
        model.to(getattr(torch, dtype))
        return 1 << 30

    def step(self, x: Tensor, positions: Tensor, kv_length: int) -> Tensor:
        mask = additive_mask(self.columns[:kv_length] <= positions[:, None], x.dtype)[:, None, None]  # [R, 1, 1, C]
        texts: Sequence[CrossAttentionKV | None] = self.texts or [None] * len(self.caches)
        x = x[:, None]
        for block, text, cache in zip(self.model.blocks, texts, self.caches, strict=True):
            x = block(x, text, cache, positions, mask)
        return self.model.heads(self.model.norm(x))[:, :, 0]

    def fill(self, row: int, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        for cache, (key, value) in zip(self.caches, layers, strict=True):
            cache.key[row, :, : key.shape[1]] = key
            cache.value[row, :, : key.shape[1]] = value

    def set_cross_kv(self, row: int, layers: Sequence[CrossAttentionKV]) -> None:
        for own, text in zip(self.texts, layers, strict=True):
            n_text = text.key.shape[2]
            own.mask[row] = -torch.inf
            own.key[row, :, :n_text] = text.key[0]
            own.value[row, :, :n_text] = text.value[0]
            own.mask[row, ..., :n_text] = text.mask[0]

    def clear(self, row: int) -> None:
        """Do nothing: a step masks all positions after a row's own."""
