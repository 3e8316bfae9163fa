"""The network of the diffusion decoder: transformer blocks without causal mask, whose norms know the time t (AdaLN).

# ours: a position is a frame, as in the language model: its K codes are embedded together and predicted by K heads. The
published network has one position for each code of a grid of frequencies, with learned rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen_cli.lm.config import LMConfig
from audiogen_cli.lm.model import CodeModel, LMOutput, key_mask
from audiogen_cli.lm.transformer import CrossAttention, CrossAttentionKV, ProjectedText, attend, sinusoidal_positions

# Shapes: B rows, K streams, T frames, d the width, H heads, E = d / H.


class AdaptiveNorm(nn.Module):
    """AdaLN: a layer norm whose scale and shift follow from the time; at first it is a plain one."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.modulation = nn.Linear(dim, 2 * dim)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Normalize x [B, T, d] for a time vector [B, d]."""
        scale, shift = self.modulation(time)[:, None].chunk(2, -1)
        return self.norm(x) * (1 + scale) + shift


class BidirectionalAttention(nn.Module):
    """Self-attention of every frame to all frames."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.qkv = nn.Linear(config.dim, 3 * config.dim, bias=config.bias)  # rows: queries, keys, values
        self.out = nn.Linear(config.dim, config.dim, bias=config.bias)
        self.attend: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = attend  # training may put a faster one here

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Attend over x: [B, T, d] → [B, T, d]; mask: [B, 1, 1, T], added to the scores."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(self.attend(query, key, value, mask).transpose(1, 2).flatten(2))


class DiffusionBlock(nn.Module):
    """Pre-norm: x + self-attention, x + cross-attention, x + feed-forward; the norms of both attentions know the time.

    # ours: the exact GELU in place of x·σ(1.702x).
    """

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.norm_self = AdaptiveNorm(config.dim)
        self.attention = BidirectionalAttention(config)
        self.norm_cross = AdaptiveNorm(config.dim)
        self.cross_attention = CrossAttention(config)
        self.norm_ff = nn.LayerNorm(config.dim)
        self.up = nn.Linear(config.dim, config.ff_scale * config.dim, bias=config.bias)
        self.gelu = nn.GELU()
        self.down = nn.Linear(config.ff_scale * config.dim, config.dim, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, text: CrossAttentionKV | ProjectedText, time: Tensor, mask: Tensor) -> Tensor:
        """Run the block: x [B, T, d] → [B, T, d]. time: [B, d]; mask: see `BidirectionalAttention.forward`."""
        x = x + self.dropout(self.attention(self.norm_self(x, time), mask))
        x = x + self.dropout(self.cross_attention(self.norm_cross(x, time), text))
        return x + self.dropout(self.down(self.gelu(self.up(self.norm_ff(x)))))


class DiffusionModel(CodeModel):
    """p(x_0 | x_t, text): the original codes, from those after t steps; see also `NoiseSchedule.weigh`.

    # ours: `known` marks frames that are given as they are, which a training shows, too (see `objective`): to continue
    a sound, or to fill a gap in one.
    """

    def __init__(self, config: LMConfig) -> None:
        super().__init__(config, DiffusionBlock)
        self.times = nn.Embedding(config.diffusion.steps + 1, config.dim)
        self.known = nn.Parameter(torch.empty(config.dim))
        nn.init.normal_(self.known, std=0.5)
        with torch.no_grad():  # neighboring times begin alike
            self.times.weight.copy_(sinusoidal_positions(torch.arange(config.diffusion.steps + 1), config.dim))
        for block in cast("list[DiffusionBlock]", self.blocks):
            for norm in (block.norm_self, block.norm_cross):
                nn.init.zeros_(norm.modulation.weight)

    def forward(
        self,
        codes: Tensor,
        times: Tensor,
        text: Tensor,
        text_mask: Tensor,
        frames_mask: Tensor | None = None,
        known: Tensor | None = None,
    ) -> LMOutput:
        """Predict the original of every code.

        codes: x_t, [B, K, T] in [0, V], V a mask; times: t, [B]; known: [B, T] bool, frames that are original; other
        arguments: as in `AudioLanguageModel.forward`.
        """
        if frames_mask is None:
            frames_mask = torch.ones_like(codes[:, 0], dtype=torch.bool)
        text, text_mask = self.project_text(text, text_mask)
        texts = [ProjectedText(text, key_mask(text_mask, text.dtype))] * len(self.blocks)
        logits = self.predict(codes, times, texts, frames_mask, known)
        return LMOutput(logits, frames_mask[:, None].expand(codes.shape))

    def predict(
        self,
        codes: Tensor,
        times: Tensor,
        texts: Sequence[CrossAttentionKV | ProjectedText],
        frames_mask: Tensor,
        known: Tensor | None = None,
    ) -> Tensor:
        """Compute logits [B, K, T, V]; texts: of every block. Other arguments: see `forward`."""
        for state in self._states(codes, times, texts, frames_mask, known):
            last = state
        return self.heads(self.norm(last))

    def hidden_states(
        self, codes: Tensor, blocks: Collection[int], frames_mask: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor]:
        if frames_mask is None:
            frames_mask = torch.ones_like(codes[:, 0], dtype=torch.bool)
        text, mask = self.project_nothing(len(codes))
        texts = [ProjectedText(text, key_mask(mask, text.dtype))] * len(self.blocks)
        times = torch.ones(len(codes), dtype=torch.long, device=codes.device)
        states = self._states(codes, times, texts, frames_mask, frames_mask)
        return [state for number, state in enumerate(states) if number in blocks], frames_mask

    def _states(
        self,
        codes: Tensor,
        times: Tensor,
        texts: Sequence[CrossAttentionKV | ProjectedText],
        frames_mask: Tensor,
        known: Tensor | None,
    ) -> Iterator[Tensor]:
        """Yield every block's output [B, T, d]."""
        x = self.embedding(codes)
        positions = torch.arange(codes.shape[2], device=codes.device)
        x = x + sinusoidal_positions(positions, self.config.dim).to(x.dtype)
        if known is not None:
            x = x + self.known.to(x.dtype) * known[..., None]
        x, time = self.dropout(x), F.silu(self.times(times))
        visible = frames_mask | ~frames_mask.any(1, keepdim=True)  # attention to nothing at all would be NaN
        mask = key_mask(visible, x.dtype)
        for block, text in zip(self.blocks, texts, strict=True):
            x = self.run_block(block, x, text, time, mask)
            yield x
