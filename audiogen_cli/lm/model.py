"""The audio language model (sec. 3.2): a causal decoder over Z = [text; audio] with cross-attention to the text; and
what it shares with the diffusion model (`lm.diffusion`).

Codes go in and come out in K streams, all at once or with the delay pattern.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from audiogen_cli.lm.config import LOOKUP_ROWS, LMConfig
from audiogen_cli.lm.transformer import (
    Block,
    Blocks,
    CrossAttentionKV,
    ProjectedText,
    additive_mask,
    sinusoidal_positions,
)
from audiogen_cli.model_folder import build, find_model, load_config

if TYPE_CHECKING:
    from typing_extensions import Self


def delay(codes: Tensor, delays: Sequence[int], special_token: int) -> Tensor:
    """Lay out codes as the model reads them: a start step, then stream k's frames `delays[k]` steps late.

    codes: [B, K, T]; where a clip is shorter than T it holds the special token. Returns steps
    [B, K, 1 + T + max(delays)]: frame t of stream k stands at step 1 + t + delays[k], the special token elsewhere.
    """
    n_frames = codes.shape[-1]
    steps = codes.new_full((*codes.shape[:-1], 1 + n_frames + max(delays)), special_token)
    for k, n_late in enumerate(delays):
        steps[:, k, 1 + n_late : 1 + n_late + n_frames] = codes[:, k]
    return steps


def undelay(steps: Tensor, delays: Sequence[int]) -> Tensor:
    """Invert `delay`: steps [B, K, 1 + T + max(delays)], or with more dimensions behind, → codes [B, K, T]."""
    return align(steps[:, :, 1:], delays)


def align(x: Tensor, delays: Sequence[int]) -> Tensor:
    """Take the frames of every stream out of its steps: [B, K, T + max(delays), …] → [B, K, T, …]."""
    n_frames = x.shape[2] - max(delays)
    # Streams apart first: the gradient of a slice of all of x is as large as x, and there is one for each stream.
    return torch.stack([s[:, late : late + n_frames] for s, late in zip(x.unbind(1), delays, strict=True)], dim=1)


class StreamEmbedding(nn.Module):
    """K embedding tables of V + 1 vectors (the last is the special token's); their mean, or sum, is the input."""

    offsets: Tensor

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.reduce = config.embedding
        self.table = nn.Embedding(config.n_q * (config.codebook_size + 1), config.dim)
        offsets = torch.arange(config.n_q) * (config.codebook_size + 1)
        self.register_buffer("offsets", offsets[:, None], persistent=False)  # [K, 1]

    def forward(self, steps: Tensor) -> Tensor:
        """Embed steps [B, K, S] in [0, V]: [B, S, d]."""
        vectors = self.table(steps + self.offsets)  # [B, K, S, d]
        return vectors.mean(1) if self.reduce == "mean" else vectors.sum(1)


class StreamHeads(nn.Module):
    """K independent output layers, held as one matrix whose row blocks are the heads; none emits the special token."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.shape = (config.n_q, config.codebook_size)
        self.linear = nn.Linear(config.dim, config.n_q * config.codebook_size, bias=config.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Compute logits [B, K, S, V] from hidden [B, S, d]."""
        return self.linear(hidden).unflatten(-1, self.shape).transpose(1, 2)


@dataclass
class LMOutput:
    """The model's prediction of every frame of every stream."""

    logits: Tensor  # [B, K, T, V]; [b, k, t] predicts codes[b, k, t]
    mask: Tensor  # [B, K, T] bool; False on padding


class WordTable(nn.Embedding):
    """Learned vectors of words in place of a text encoder's (sec. 3.2: a LUT)."""

    def forward(self, text: Tensor) -> Tensor:
        """Look up numbers of words [B, L, 1], which are floats as all texts: [B, L, d]."""
        return super().forward(text[..., 0].long())


def random_text(config: LMConfig, n: int, numbers: torch.Generator | None = None) -> Tensor:
    """Draw a text [n, D] that a model can read, to try or time it: vectors, or numbers of words."""
    if config.text.kind == "lookup":
        return torch.randint(LOOKUP_ROWS, (n, 1), generator=numbers).float()
    return torch.randn(n, config.text_width, generator=numbers)


class CodeModel(nn.Module, ABC):
    """The base of both decoders' models: K streams of codes in, K heads, and a text to attend to.

    `null_text` is the learned vector for "no text" (sec. 3.2, guidance).
    """

    def __init__(self, config: LMConfig, block: type[nn.Module]) -> None:
        """block: of the network; there are `n_layers` of them."""
        super().__init__()
        self.config = config
        self.precision: torch.dtype | None = None  # of the blocks' products where it is not that of the rest
        self.checkpointing = False  # in training: compute each block twice instead of keeping its activations
        self.embedding = StreamEmbedding(config)
        is_lookup = config.text.kind == "lookup"
        self.text_projection = (
            WordTable(LOOKUP_ROWS, config.dim) if is_lookup else nn.Linear(config.text_width, config.dim)
        )
        self.null_text = nn.Parameter(torch.zeros(config.dim))
        self.blocks = Blocks(block(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.dim)
        self.heads = StreamHeads(config)
        self.dropout = nn.Dropout(config.dropout)
        self.apply(_initialize)
        self._initialize_scaled()

    @abstractmethod
    def hidden_states(
        self, codes: Tensor, blocks: Collection[int], frames_mask: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """Return the outputs of some blocks for sounds that are read without a text.

        codes: [B, K, T] int64; frames_mask: [B, T] bool, False on padding at the end; None: no padding. blocks: their
        numbers, from 0. Returns, in the order of the blocks, [B, S, d] each, and [B, S] bool: whether a position
        holds a code at all.
        """

    def mixed_precision(self) -> AbstractContextManager[object]:
        """Return the context to run the model in: autocast if its blocks have another number format than the rest."""
        if self.precision is None:
            return nullcontext()
        return torch.autocast(self.null_text.device.type, self.precision)

    def project_text(self, text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Project the encoder's vectors to the model's width and put the null vector where there is no text.

        text: [B, L, D], mask: [B, L] bool. Returns [B, L, d] and the mask, in which every row now has a True.
        With `text_padding: zeros` the null vector and padding are zeros.
        """
        if self.config.text.kind != "lookup":  # whose numbers of words are exact in float32 only
            text = text.to(self.null_text.dtype)
        vectors = self.text_projection(text)
        empty = ~mask.any(1, keepdim=True)  # [B, 1]
        if self.config.text_padding == "zeros":
            vectors = vectors * mask[..., None]
        else:
            first = torch.where(empty, self.null_text.to(vectors.dtype), vectors[:, 0])
            vectors = torch.cat([first[:, None], vectors[:, 1:]], dim=1)
        return vectors, torch.cat([mask[:, :1] | empty, mask[:, 1:]], dim=1)

    def precompute_cross_kv(self, text: Tensor, mask: Tensor) -> list[CrossAttentionKV | None]:
        """Compute every layer's cross-attention keys and values (None without one) from `project_text`'s result."""
        projected = ProjectedText(text, key_mask(mask, text.dtype))
        layers = (block.cross_attention for block in cast("list[Block]", self.blocks))
        return [layer.precompute_kv(projected) if layer else None for layer in layers]

    def project_nothing(self, n_rows: int) -> tuple[Tensor, Tensor]:
        """Return what `project_text` does for rows without a text: [B, 1, d] and [B, 1] bool."""
        nothing = self.null_text.new_zeros(n_rows, 1, self.config.text_width)
        return self.project_text(nothing, torch.zeros_like(nothing[..., 0], dtype=torch.bool))

    def run_block(self, block: nn.Module, *inputs: object) -> Tensor:
        """Run a block; with `checkpointing` its activations are computed again for the backward pass."""
        if self.checkpointing and self.training:
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)

    def _initialize_scaled(self) -> None:
        """Initialize embeddings (# ours: inputs of RMS 0.5 beside positions' 0.71), and residual branches as GPT-2."""
        tables = self.config.n_q**0.5 if self.config.embedding == "mean" else self.config.n_q**-0.5
        nn.init.normal_(self.embedding.table.weight, std=0.5 * tables)
        nn.init.normal_(self.null_text, std=0.5)
        nn.init.normal_(self.text_projection.weight, std=0.5 * self.config.text_width**-0.5)
        for name, parameter in self.named_parameters():
            if name.endswith(("out.weight", "down.weight")):
                nn.init.normal_(parameter, std=0.02 * (3 * self.config.n_layers) ** -0.5)

    @classmethod
    def load(cls, model: str | Path, device: str | torch.device = "cpu") -> Self:
        """Read a model folder or checkpoint; float32, evaluation mode. Raises InputError if it is not one.

        model: as a str any name that `find_model` knows, such as embedded.
        """
        folder = find_model(model) if isinstance(model, str) else model
        config = load_config(folder, "lm", LMConfig)
        return build(lambda: cls(config), folder).to(device).eval()  # type: ignore[call-arg]  # as those below


class AudioLanguageModel(CodeModel):
    """p(codes | text), a frame after the other."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__(config, Block)

    def forward(self, codes: Tensor, text: Tensor, text_mask: Tensor, frames_mask: Tensor | None = None) -> LMOutput:
        """Predict every frame from those before it (teacher forcing, sec. 3.2 eq. 3).

        codes: [B, K, T] int64. text: [B, L, D] and text_mask [B, L] bool, padded on the right; a row without
        any True has no text. frames_mask: [B, T] bool, False on padding at the end; None: no padding.
        Raises ValueError if codes are not [B, K, T] int64.
        """
        config = self.config
        if codes.dtype != torch.long or codes.ndim != 3 or codes.shape[1] != config.n_q:
            raise ValueError(f"codes must be [B, {config.n_q}, T] int64, not {list(codes.shape)} {codes.dtype}")
        if frames_mask is None:
            frames_mask = torch.ones_like(codes[:, 0], dtype=torch.bool)
        steps = self._steps(codes, frames_mask)[..., :-1]  # the last step is only predicted, never read
        text, text_mask = self.project_text(text, text_mask)
        if config.text_padding == "zeros":
            text_mask = torch.ones_like(text_mask)  # as these models were trained: padding weakens the text
        hidden = self._decode(self.embedding(steps), text, text_mask)  # [B, S, d]
        logits = self.heads(self.norm(hidden))  # [B, K, S, V]; step s predicts step s + 1
        return LMOutput(align(logits, config.stream_delays), frames_mask[:, None].expand(codes.shape))

    def hidden_states(
        self, codes: Tensor, blocks: Collection[int], frames_mask: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor]:
        if frames_mask is None:
            frames_mask = torch.ones_like(codes[:, 0], dtype=torch.bool)
        steps = self._steps(codes, frames_mask)
        text, mask = self.project_nothing(len(codes))
        states = [x for number, x in enumerate(self._states(self.embedding(steps), text, mask)) if number in blocks]
        held = (steps != self.config.special_token).any(1)
        return [self._at_audio(state, mask, steps.shape[2]) for state in states], held

    def _steps(self, codes: Tensor, frames_mask: Tensor) -> Tensor:
        """Delay the codes: [B, K, S], with the special token where a stream has none."""
        padded = torch.where(frames_mask[:, None], codes, self.config.special_token)
        return delay(padded, self.config.stream_delays, self.config.special_token)

    def _decode(self, audio: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
        """Run the blocks on audio embeddings [B, S, d]; return the last output at the audio positions [B, S, d]."""
        for state in self._states(audio, text, text_mask):
            last = state
        return self._at_audio(last, text_mask, audio.shape[1])

    def _states(self, audio: Tensor, text: Tensor, text_mask: Tensor) -> Iterator[Tensor]:
        """Yield every block's output at all positions."""
        projected = ProjectedText(text, key_mask(text_mask, text.dtype)) if self.config.cross_attention else None
        x = _join(text, self._prefix(text_mask), audio) if self.config.text_prefix else audio  # Z
        positions = torch.arange(x.shape[1], device=x.device)
        x = self.dropout(x + sinusoidal_positions(positions, self.config.dim).to(x.dtype))
        yield from self.blocks.states(x, projected, self.run_block)

    def _at_audio(self, x: Tensor, text_mask: Tensor, n_steps: int) -> Tensor:
        """Take the S audio positions: x [B, L + S, d] (without a prefix [B, S, d]) → [B, S, d]."""
        if not self.config.text_prefix:
            return x
        return _gather_positions(x, self._prefix(text_mask)[:, None] + torch.arange(n_steps, device=x.device))

    def _prefix(self, text_mask: Tensor) -> Tensor:
        """Count the positions of each row's text before the audio: [B]."""
        return text_mask.sum(1)


def key_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a mask [B, L] bool into the one that cross-attention adds to its scores, [B, 1, 1, L]."""
    return additive_mask(mask, dtype)[:, None, None]


def _join(text: Tensor, lengths: Tensor, audio: Tensor) -> Tensor:
    """Join Z = [text; audio] of each row without a gap; the text's padding goes to the end, where causality hides it.

    text: [B, L, d], of which lengths [B] are real; audio: [B, S, d]. Returns [B, L + S, d].
    """
    n_text, n_audio = text.shape[1], audio.shape[1]
    column = torch.arange(n_text + n_audio, device=text.device)
    start, end = lengths[:, None], lengths[:, None] + n_audio
    source = torch.where(column < start, column, torch.where(column < end, column - start + n_text, column - n_audio))
    return _gather_positions(torch.cat([text.to(audio.dtype), audio], dim=1), source)


def _gather_positions(x: Tensor, columns: Tensor) -> Tensor:
    """Take row b's positions columns[b]: x [B, S, d], columns [B, R] → [B, R, d]."""
    rows = torch.arange(len(x), device=x.device)[:, None] * x.shape[1]
    index = (columns + rows).flatten()[:, None].expand(-1, x.shape[2])  # expanded: torch's fast path, both ways
    return x.flatten(0, 1).gather(0, index).unflatten(0, columns.shape)


def _initialize(module: nn.Module) -> None:
    """Initialize as GPT-2 does: normal with 0.02, biases zero."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
