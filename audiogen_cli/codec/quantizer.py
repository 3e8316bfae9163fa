"""The quantizer Q: one codebook (sec. 3.1), or residual codebooks for several streams (sec. 3.2).

The paper leaves open how codebooks are learnt. # ours: moving averages, k-means on the first batch, and codes that
fall out of use replaced by vectors of the batch, as SoundStream (Zeghidour 2021) does. Under several processes all
see the gathered batch and the same random numbers, so their codebooks stay equal without being sent around.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from audiogen_cli.codec.config import QuantizerConfig


@dataclass
class Quantized:
    """What Q makes of a latent."""

    quantized: Tensor  # [B, D, T]; its gradient passes to the latent unchanged
    codes: Tensor  # [B, K, T] int64
    commitment: Tensor  # scalar: mean squared distance of latents to their codes, over streams


class VectorQuantizer(nn.Module):
    """One codebook of `codebook_size` vectors of `dim` numbers."""

    codebook: Tensor
    cluster_size: Tensor
    cluster_sum: Tensor
    initialised: Tensor

    def __init__(self, codebook_size: int, dim: int) -> None:
        super().__init__()
        self.learning = QuantizerConfig()
        self.register_buffer("codebook", torch.randn(codebook_size, dim))
        # Training state: in checkpoints by `learning_state`, not part of the model that is shipped.
        self.register_buffer("cluster_size", torch.ones(codebook_size), persistent=False)
        self.register_buffer("cluster_sum", torch.zeros(codebook_size, dim), persistent=False)
        self.register_buffer("initialised", torch.tensor(False), persistent=False)

    def nearest(self, vectors: Tensor) -> Tensor:
        """vectors [M, D] → index of the nearest code [M] (squared Euclidean, the first on ties)."""
        distance = (self.codebook**2).sum(1) - 2 * vectors @ self.codebook.T
        return distance.argmin(1)

    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, T] → vectors [B, D, T]."""
        return F.embedding(codes, self.codebook).transpose(1, 2)

    def forward(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        """residual [B, D, T] → its codes [B, T] and their vectors [B, D, T]; learns while training."""
        vectors = residual.detach().transpose(1, 2).reshape(-1, residual.shape[1]).float()
        everyone = _gather(vectors) if self.training else vectors
        if self.training and not self.initialised:
            self._start(everyone)
        codes = self.nearest(vectors)
        stream_codes = codes.view(residual.shape[0], -1)
        quantized = self.decode(stream_codes)
        if self.training:
            self._learn(everyone, _gather(codes))
        return stream_codes, quantized

    def learning_state(self) -> dict[str, Tensor]:
        """What learning needs besides the codebook, to be saved with a checkpoint."""
        return {name: getattr(self, name) for name in ("cluster_size", "cluster_sum", "initialised")}

    def load_learning_state(self, state: dict[str, Tensor]) -> None:
        """Take up learning where `learning_state` left it."""
        for name, value in state.items():
            getattr(self, name).copy_(value)

    @torch.no_grad()
    def _start(self, vectors: Tensor) -> None:
        self.codebook.copy_(kmeans(vectors, len(self.codebook), self.learning.kmeans_iterations))
        self.cluster_sum.copy_(self.codebook)
        self.initialised.fill_(True)

    @torch.no_grad()
    def _learn(self, vectors: Tensor, codes: Tensor) -> None:
        size, decay = len(self.codebook), self.learning.decay
        counts = torch.bincount(codes, minlength=size).to(vectors.dtype)
        sums = torch.zeros_like(self.cluster_sum).index_add_(0, codes, vectors)
        self.cluster_size.lerp_(counts, 1 - decay)
        self.cluster_sum.lerp_(sums, 1 - decay)
        self.codebook.copy_(self.cluster_sum / self.cluster_size.clamp(min=1e-5)[:, None])
        # A batch of few vectors cannot keep every code above a fixed count: the threshold follows its size.
        threshold = min(self.learning.dead_below, 0.1 * len(vectors) / size)
        dead = (self.cluster_size < threshold).nonzero()[:, 0]
        if len(dead):
            chosen = torch.randint(len(vectors), (len(dead),), generator=_shared_generator(int(codes.sum())))
            fresh = vectors[chosen.to(vectors.device)]
            self.codebook[dead] = fresh
            self.cluster_sum[dead] = fresh
            self.cluster_size[dead] = 1.0


class ResidualVectorQuantizer(nn.Module):
    """Q with k codebooks: each encodes what the ones before left over; k = 1 is plain VQ."""

    def __init__(self, n_q: int, codebook_size: int, dim: int) -> None:
        super().__init__()
        self.streams = nn.ModuleList(VectorQuantizer(codebook_size, dim) for _ in range(n_q))

    def __iter__(self) -> Iterator[VectorQuantizer]:
        """The codebooks, coarsest first."""
        return iter(cast("list[VectorQuantizer]", list(self.streams)))

    def configure(self, learning: QuantizerConfig) -> None:
        """Set how the codebooks learn."""
        for stream in self:
            stream.learning = learning

    def forward(self, latent: Tensor) -> Quantized:
        """latent [B, D, T] → Quantized."""
        residual, total = latent.float(), torch.zeros_like(latent, dtype=torch.float32)
        codes, commitment = [], []
        for stream in self:
            stream_codes, vectors = stream(residual)
            commitment.append(F.mse_loss(residual, vectors))
            # The residual keeps its gradient to the latent, the code vectors have none.
            residual, total = residual - vectors, total + vectors
            codes.append(stream_codes)
        quantized = latent + (total - latent).detach()  # straight-through
        return Quantized(quantized, torch.stack(codes, 1), torch.stack(commitment).mean())

    def encode(self, latent: Tensor) -> Tensor:
        """latent [B, D, T] → codes [B, K, T]."""
        residual, codes = latent.float(), []
        for stream in self:
            stream_codes = stream.nearest(residual.transpose(1, 2).reshape(-1, residual.shape[1]))
            codes.append(stream_codes.view(residual.shape[0], -1))
            residual = residual - stream.decode(codes[-1])
        return torch.stack(codes, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, K, T] → quantized latent [B, D, T]."""
        return torch.stack([stream.decode(codes[:, k]) for k, stream in enumerate(self)]).sum(0)


@torch.no_grad()
def kmeans(vectors: Tensor, n_clusters: int, iterations: int) -> Tensor:
    """Lloyd's algorithm from a random start: vectors [M, D] → centres [n_clusters, D]. M may be below n_clusters."""
    generator = _shared_generator(n_clusters)
    order = torch.randperm(len(vectors), generator=generator).to(vectors.device)
    repeats = -(-n_clusters // len(vectors))
    centres = vectors[order].repeat(repeats, 1)[:n_clusters].clone()
    for _ in range(iterations):
        nearest = ((centres**2).sum(1) - 2 * vectors @ centres.T).argmin(1)
        counts = torch.bincount(nearest, minlength=n_clusters)
        sums = torch.zeros_like(centres).index_add_(0, nearest, vectors)
        used = counts > 0
        centres[used] = sums[used] / counts[used, None]
    return centres


def _gather(values: Tensor) -> Tensor:
    """The rows of all processes, in the order of their ranks."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    pieces = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
    distributed.all_gather(pieces, values.contiguous())
    return torch.cat(pieces)


def _shared_generator(seed: int) -> torch.Generator:
    """Random numbers that depend on the data alone, so that every process draws the same."""
    return torch.Generator().manual_seed(seed)
