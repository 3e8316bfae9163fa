"""Backends compute the rows of a batch, each with its own KV cache. This one runs the model's modules: it is the
reference for those of CPUs (`cpu_backend`) and of CUDA GPUs (`cuda_backend`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, cast

import torch
from torch import Tensor

from audiogen_cli.lm.config import LMConfig
from audiogen_cli.lm.decoding.requests import UNKNOWN
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.sampling import SamplingRows, guide_rows, sample
from audiogen_cli.lm.transformer import Block, CrossAttentionKV, KVCache, additive_mask, sinusoidal_positions

# Shapes: n sequences, R = n · n_copies rows, C cached positions, L text positions, H heads, E = d / H.


@dataclass
class BatchState:
    """n sequences on the device, in tensors that are changed in place only: a recorded step keeps reading them."""

    steps: Tensor  # [n, K, 1 + S], as the model reads them; UNKNOWN where a code is to be predicted
    uniforms: Tensor  # [n, K, 1 + S], random numbers, each at the step that it decides
    at: Tensor  # [n], the step to be read next …
    start: Tensor  # [n] … the first of its window …
    active: Tensor  # [n] … and 1, or 0 in an empty slot, which keeps reading its first step
    n_prefix: Tensor  # [R], positions before the audio
    sampling: SamplingRows
    positions: Tensor  # [C, d], vectors of all positions
    delays: Tensor  # [K, 1], of the streams
    special_token: int

    @classmethod
    def empty(cls, config: LMConfig, n: int, n_copies: int, n_steps: int, n_columns: int, like: Tensor) -> BatchState:
        """Return n empty slots of up to n_steps steps, n_copies rows each. like: of the positions' dtype and device."""
        device = like.device
        steps = torch.full((n, config.n_q, 1 + n_steps), config.special_token, device=device)
        at, start, active = torch.zeros(3, n, dtype=torch.long, device=device)
        return cls(
            steps,
            torch.zeros(steps.shape, device=device),
            at,
            start,
            active,
            torch.zeros(n_copies * n, dtype=torch.long, device=device),
            SamplingRows.empty(n, device),
            sinusoidal_positions(torch.arange(n_columns, device=device), config.dim).to(like.dtype),
            torch.tensor(config.stream_delays, device=device)[:, None],
            config.special_token,
        )

    @property
    def n_copies(self) -> int:
        """Return the rows of a sequence: 1, 2 with guidance, 3 with a negative text."""
        return len(self.n_prefix) // len(self.at)


class Backend(ABC):
    """R rows of a batch: `prepare` gives one its text, `prefill` its first positions, `step` all of them one more.

    `advance` makes of this a step of the sequences, from codes to codes.
    """

    bucket: ClassVar[int] = 1  # a batch has room for a multiple of so many steps …
    keeps_batches: ClassVar[bool] = False  # … and serves further requests for which it has

    def __init__(self, model: AudioLanguageModel, n_rows: int, n_columns: int, n_text: int, dtype: torch.dtype) -> None:
        """model: as `load` left it. n_columns: the most positions of a row. n_text: the longest text, in positions.
        dtype: of keys and values."""
        config: LMConfig = model.config
        self.model, self.n_rows = model, n_rows
        self.cache_shape = config.n_heads, config.dim // config.n_heads  # H, E

    @staticmethod
    @abstractmethod
    def load(model: AudioLanguageModel, dtype: str) -> int:
        """Convert a model to the form that this backend runs; return the maximum number of rows of a step."""

    @staticmethod
    def choose_cache_dtype(dtype: str) -> torch.dtype:
        """Return the dtype of keys and values beside weights of this dtype."""
        return getattr(torch, dtype)

    @staticmethod
    def folds(config: LMConfig, n_text: int) -> bool:
        """Return whether a text of n_text positions takes the memory of a row and head, for each head."""
        return False

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
    def read_text(self, row: int, vectors: Tensor, mask: Tensor) -> None:
        """Let a row attend to a text, from `CodeModel.project_text`: vectors [1, L, d], mask [1, L] bool."""

    @abstractmethod
    def prefill(self, row: int, x: Tensor) -> None:
        """Read a row's first positions at once, from their embeddings [1, C, d]; its cache then holds just these."""

    def record(self, state: BatchState) -> Callable[[int], None]:
        """Return the function of kv_length that advances a batch; a backend may record and replay it."""
        return partial(self.advance, state)

    def advance(self, state: BatchState, kv_length: int) -> None:
        """Read a step of every sequence and draw the unknown codes of its next one. kv_length: see `step`."""
        at = state.at[:, None, None].expand(-1, state.steps.shape[1], -1)  # [n, K, 1]
        local = state.at - state.start
        # Frames before the window are hidden behind the special token, as before the start of a clip.
        hidden = local[:, None, None] <= state.delays
        tokens = state.steps.gather(2, at).masked_fill_(hidden, state.special_token)
        logits = self.compute_logits(state, tokens, state.n_prefix + local.repeat(state.n_copies), kv_length)
        at = at + 1
        drawn = sample(logits, state.sampling, state.uniforms.gather(2, at)[..., 0])
        following = state.steps.gather(2, at)
        state.steps.scatter_(2, at, torch.where(following == UNKNOWN, drawn[..., None], following))
        state.at += state.active

    def compute_logits(self, state: BatchState, tokens: Tensor, positions: Tensor, kv_length: int) -> Tensor:
        """Compute guided logits [n, K, V] of the next step. tokens: [n, K, 1], each sequence's step; positions: [R]."""
        x = self.model.embedding(tokens)[:, 0].repeat(state.n_copies, 1) + state.positions[positions]  # [R, d]
        return guide_rows(self.step(x, positions, kv_length), len(tokens), state.sampling.guidance)

    def prepare(self, row: int, vectors: Tensor | None) -> Tensor:
        """Restart a row with a text [L, D], or None for no text; return its prefix [L, d], L = 0 without one."""
        config, weight = self.model.config, self.model.null_text
        text = torch.zeros(1, 1, config.text_width) if vectors is None or not len(vectors) else vectors[None]
        mask = torch.full(text.shape[:2], vectors is not None and len(vectors) > 0, device=weight.device)
        projected, mask = self.model.project_text(text.to(weight.device), mask)
        self.read_text(row, projected, mask)
        return projected[0, : projected.shape[1] * config.text_prefix]


class BlockBackend(Backend):
    """Texts and first positions through the model's own blocks."""

    def __init__(self, model: AudioLanguageModel, n_rows: int, n_columns: int, n_text: int, dtype: torch.dtype) -> None:
        super().__init__(model, n_rows, n_columns, n_text, dtype)
        self.cross_kv: list[list[CrossAttentionKV | None]] = [[] for _ in range(n_rows)]  # of every row and layer

    @abstractmethod
    def set_cross_kv(self, row: int, layers: Sequence[CrossAttentionKV]) -> None:
        """Set the text that a step of a row attends to."""

    def read_text(self, row: int, vectors: Tensor, mask: Tensor) -> None:
        self.cross_kv[row] = self.model.precompute_cross_kv(vectors, mask)
        self.set_cross_kv(row, [kv for kv in self.cross_kv[row] if kv])

    def prefill(self, row: int, x: Tensor) -> None:
        n_heads, size = self.cache_shape
        columns = torch.arange(x.shape[1], device=x.device)
        mask = additive_mask(columns[:, None] >= columns, x.dtype)
        layers = []
        for block, text in zip(self.model.blocks, self.cross_kv[row], strict=True):
            cache = KVCache(*(x.new_empty(1, n_heads, x.shape[1], size) for _ in range(2)))
            x = block(x, text, cache, 0, mask)
            layers.append((cache.key[0], cache.value[0]))
        self.fill(row, layers)


class TorchBackend(BlockBackend):
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
        model.precision = None
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
