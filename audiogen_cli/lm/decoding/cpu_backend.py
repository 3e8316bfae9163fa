"""The CPU backend: a decoding step is one call of ONNX Runtime (`cpu_model`).

A row's bits never depend on the rows beside it: products of two rows and more round a row alike, attention sums up each
row and head alone, to the row's own length, and masked text positions add zeros.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from audiogen_cli.devices import give_back_memory, single_thread
from audiogen_cli.lm.decoding.backend import Backend, BatchState
from audiogen_cli.lm.decoding.cpu_model import GraphBlocks, convert_weights, use_graph
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.transformer import additive_mask

LEAST_ROWS = 2  # products of a single row round otherwise
MAX_ROWS = 32  # of a step

# Shapes: R rows, L text positions, C cached positions, H heads, E = d / H.


class CpuBackend(Backend):
    """The numbers of the model's blocks, in float32 but for rounded weights and what is multiplied by them."""

    def __init__(self, model: AudioLanguageModel, n_rows: int, n_columns: int, n_text: int, dtype: torch.dtype) -> None:
        super().__init__(model, n_rows, n_columns, n_text, dtype)
        config = model.config
        assert isinstance(model.blocks, GraphBlocks)
        self.blocks, n_rows = model.blocks, max(n_rows, LEAST_ROWS)
        self.past = self.blocks.empty_cache(n_rows, n_columns)
        self.caches = list(self.past.values())
        if config.cross_attention:
            self.past |= {
                f"text_{name}": torch.zeros(n_rows, config.n_heads, n_text, self.blocks.size) for name in self.past
            }
            self.past["text_mask"] = torch.zeros(n_rows, 1, 1, n_text)
        self.x = torch.zeros(n_rows, 1, config.dim)
        self.lengths, self.total = torch.zeros(n_rows, dtype=torch.int32), torch.zeros((), dtype=torch.int32)
        self.logits = torch.zeros(n_rows, 1, config.n_q * config.codebook_size)
        self.binding = self.blocks.bind(self.x, self.lengths, self.total, self.past, {"logits": self.logits})

    @staticmethod
    def load(model: AudioLanguageModel, dtype: str) -> int:
        if not isinstance(model.blocks, GraphBlocks):
            use_graph(model.to(torch.float32), convert_weights(model, dtype), dtype)
            give_back_memory()
        elif model.blocks.dtype != dtype:
            raise ValueError(f"the model computes in {model.blocks.dtype} by now: load it again for {dtype}")
        return MAX_ROWS

    @staticmethod
    def choose_cache_dtype(dtype: str) -> torch.dtype:
        return torch.float32

    def advance(self, state: BatchState, kv_length: int) -> None:
        with single_thread():  # torch's would wait busily for more to do, on the cores that ONNX Runtime needs
            super().advance(state, kv_length)

    def step(self, x: Tensor, positions: Tensor, kv_length: int) -> Tensor:
        n_rows = len(x)
        self.x[:n_rows, 0], self.lengths[:n_rows] = x, positions
        self.total.fill_(kv_length)
        self.binding.run()
        return self.logits[:n_rows].view(n_rows, self.model.config.n_q, -1)

    def prefill(self, row: int, x: Tensor) -> None:
        self.blocks.read(x, {name: each[row : row + 1] for name, each in self.past.items()})

    def fill(self, row: int, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        for cache, each in zip(self.caches, (each for layer in layers for each in layer), strict=True):
            cache[row, :, : each.shape[1]] = F.pad(each, (0, cache.shape[3] - each.shape[2]))

    def read_text(self, row: int, vectors: Tensor, mask: Tensor) -> None:
        n_text = vectors.shape[1]
        for name, each in self.blocks.read_text(vectors).items():
            self.past[name][row, :, :n_text] = each[0]
        if "text_mask" in self.past:
            self.past["text_mask"][row] = -torch.inf
            self.past["text_mask"][row, ..., :n_text] = additive_mask(mask, vectors.dtype)
