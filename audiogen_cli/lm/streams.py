"""Streams of codes: K embedding tables in, K heads out (sec. 3.2, multi-stream), and the delay pattern."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from audiogen_cli.lm.config import LMConfig


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
    n_frames = steps.shape[2] - 1 - max(delays)
    return torch.stack([steps[:, k, 1 + n_late : 1 + n_late + n_frames] for k, n_late in enumerate(delays)], dim=1)


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
        """steps: [B, K, S] in [0, V]. Returns [B, S, d]."""
        vectors = self.table(steps + self.offsets)  # [B, K, S, d]
        return vectors.mean(1) if self.reduce == "mean" else vectors.sum(1)


class StreamHeads(nn.Module):
    """K independent output layers, held as one matrix whose row blocks are the heads; none emits the special token."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.shape = (config.n_q, config.codebook_size)
        self.linear = nn.Linear(config.dim, config.n_q * config.codebook_size, bias=config.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden: [B, S, d]. Returns logits [B, K, S, V]."""
        return self.linear(hidden).unflatten(-1, self.shape).transpose(1, 2)
