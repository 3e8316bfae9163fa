"""The quantizer Q: one codebook (sec. 3.1), or residual codebooks for several streams (sec. 3.2).

The paper leaves open how codebooks are learned. # ours: moving averages, k-means on the first batch, and codes that
fall out of use replaced by vectors of the batch, as SoundStream (Zeghidour 2021) does. Codebooks move once an optimizer
step, on the latents of all its micro-batches and processes: all see the same vectors and random numbers, so codebooks
stay equal up to the rounding of sums, whose order GPUs do not keep, and a batch in parts gives what the whole batch
would. That rounding does not grow: after k-means and at every checkpoint all take the first process's codebooks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from audiogen_cli.codec.config import QuantizerConfig

# Compared with all codes at once: 2 MB of 2048 distances each, which a processor's cache holds; on a GPU 2 GB.
VECTORS_AT_ONCE, ON_GPU = 1 << 8, 1 << 18


@dataclass
class Quantized:
    """A quantized latent."""

    quantized: Tensor  # [B, D, T]; its gradient passes to the latent unchanged
    codes: Tensor  # [B, K, T] int64
    commitment: Tensor  # scalar: mean squared distance of latents to their codes, over streams


class VectorQuantizer(nn.Module):
    """One codebook of `codebook_size` vectors of `dim` numbers."""

    codebook: Tensor
    cluster_size: Tensor
    cluster_sum: Tensor

    def __init__(self, codebook_size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("codebook", torch.randn(codebook_size, dim))
        # Moving averages per code, for learning only: not part of the model that is shipped.
        self.register_buffer("cluster_size", torch.ones(codebook_size), persistent=False)
        self.register_buffer("cluster_sum", torch.zeros(codebook_size, dim), persistent=False)

    def nearest(self, vectors: Tensor) -> Tensor:
        """Find the nearest code of vectors [M, D]: [M] (squared Euclidean distance, the first on ties)."""
        lengths = (self.codebook**2).sum(1)
        with torch.autocast(vectors.device.type, enabled=False):  # bf16 takes another code for the nearest
            # Few at a time: an hour's distances to 2048 codes would take 15 GB.
            at_once = ON_GPU if vectors.device.type == "cuda" else VECTORS_AT_ONCE
            distances = (torch.addmm(lengths, few, self.codebook.T, alpha=-2) for few in vectors.split(at_once))
            return torch.cat([each.argmin(1) for each in distances])

    def encode(self, residual: Tensor) -> Tensor:
        """Encode residual [B, D, T] to codes [B, T]."""
        return self.nearest(_rows(residual)).view(residual.shape[0], -1)

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes [B, T] to vectors [B, D, T]."""
        return F.embedding(codes, self.codebook).transpose(1, 2)

    @torch.no_grad()
    def start(self, vectors: Tensor, iterations: int) -> None:
        """Put the codes where vectors [M, D] are."""
        self.codebook.copy_(kmeans(vectors, len(self.codebook), iterations))
        counts = torch.bincount(self.nearest(vectors), minlength=len(self.codebook))
        self.cluster_size.copy_(counts.clamp(min=1) / counts.clamp(min=1).float().mean())
        self.cluster_sum.copy_(self.codebook * self.cluster_size[:, None])

    @torch.no_grad()
    def learn(self, vectors: Tensor, codes: Tensor, learning: QuantizerConfig, seed: int) -> None:
        """Move each code to the running mean of the vectors [M, D] that chose it (codes [M]); replace dead ones.

        seed: of the vectors that replace them; not taken from the data, where rounding would change every draw.
        """
        size = len(self.codebook)
        counts = torch.bincount(codes, minlength=size).to(vectors.dtype)
        sums = torch.zeros_like(self.cluster_sum).index_add_(0, codes, vectors)
        # In units of the mean count, so that what is dead does not depend on the batch's size.
        share = size / len(vectors)
        self.cluster_size.lerp_(counts * share, 1 - learning.decay)
        self.cluster_sum.lerp_(sums * share, 1 - learning.decay)
        self.codebook.copy_(self.cluster_sum / self.cluster_size.clamp(min=1e-5)[:, None])
        dead = (self.cluster_size < learning.dead_below).nonzero()[:, 0]
        if len(dead):
            chosen = torch.randint(len(vectors), (size,), generator=_shared_generator(seed)).to(vectors.device)
            self.codebook[dead] = self.cluster_sum[dead] = vectors[chosen[dead]]
            self.cluster_size[dead] = 1.0


class ResidualVectorQuantizer(nn.Module):
    """Q with k codebooks: each encodes what the ones before left over; k = 1 is plain VQ.

    In training `forward` remembers what it saw and `learn` moves the codebooks. They start by k-means, by default as
    soon as enough vectors have been seen (a batch of the paper's size is enough); until then latents pass unquantized,
    so that residual streams do not start from nothing.
    """

    pool: Tensor
    passes: Tensor
    started: Tensor

    def __init__(self, n_q: int, codebook_size: int, dim: int) -> None:
        super().__init__()
        self.learning = QuantizerConfig()
        self.streams = nn.ModuleList(VectorQuantizer(codebook_size, dim) for _ in range(n_q))
        self.seen: list[tuple[Tensor, Tensor]] = []  # latents [M, D] and codes [M, K] since the last `learn`
        self.register_buffer("pool", torch.zeros(0, dim), persistent=False)
        self.register_buffer("passes", torch.tensor(0), persistent=False)
        self.register_buffer("started", torch.tensor(False), persistent=False)

    def __iter__(self) -> Iterator[VectorQuantizer]:
        """Iterate over the codebooks, coarsest first."""
        return iter(cast("list[VectorQuantizer]", list(self.streams)))

    def forward(self, latent: Tensor) -> Quantized:
        """Quantize latent [B, D, T]; while training, remember what `learn` needs."""
        residual = latent.float()
        rows = _rows(residual.detach())
        if self.training and not self.started:
            codes = torch.zeros(len(latent), len(self.streams), latent.shape[2], dtype=torch.long, device=latent.device)
            self.seen.append((rows, _rows(codes)))
            return Quantized(latent, codes, latent.new_zeros(()))
        total = torch.zeros_like(residual)
        streams, commitment = [], []
        for stream in self:
            streams.append(stream.encode(residual.detach()))
            vectors = stream.decode(streams[-1])
            commitment.append(F.mse_loss(residual, vectors))
            # The residual keeps its gradient to the latent, the code vectors have none.
            residual, total = residual - vectors, total + vectors
        codes = torch.stack(streams, 1)
        if self.training:
            self.seen.append((rows, _rows(codes)))
        quantized = latent + (total - latent).detach()  # straight-through
        return Quantized(quantized, codes, torch.stack(commitment).mean())

    @torch.no_grad()
    def learn(self) -> None:
        """Move the codebooks by what all processes have seen since the last call; call it once an optimizer step."""
        vectors, codes = (_gather(torch.cat(pieces)) for pieces in zip(*self.seen, strict=True))
        self.seen.clear()
        self.passes += 1
        if not self.started:
            return self._collect(vectors)
        if self.learning.decay == 1:
            return
        for k, stream in enumerate(self):
            residual, vectors = vectors, vectors - stream.codebook[codes[:, k]]
            stream.learn(residual, codes[:, k], self.learning, seed=int(self.passes) * len(self.streams) + k)

    def forget(self) -> None:
        """Drop what was seen since the last `learn`; call it instead, in a step that changes no weights."""
        self.seen.clear()

    @torch.no_grad()
    def broadcast(self) -> None:
        """Take the first process's codebooks and running means; every process must call it."""
        if distributed.is_available() and distributed.is_initialized():
            for stream in self:
                for buffer in stream.buffers():
                    distributed.broadcast(buffer, 0)

    @torch.no_grad()
    def settle(self) -> None:
        """Take the codebooks as they are for learned, without k-means."""
        for stream in self:
            stream.cluster_size.fill_(1.0)
            stream.cluster_sum.copy_(stream.codebook)
        self.started.fill_(True)

    def encode(self, latent: Tensor) -> Tensor:
        """Encode latent [B, D, T] to codes [B, K, T]."""
        residual, codes = latent.float(), []
        for stream in self:
            codes.append(stream.encode(residual))
            residual = residual - stream.decode(codes[-1])
        return torch.stack(codes, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes [B, K, T] to a quantized latent [B, D, T]."""
        return torch.stack([stream.decode(codes[:, k]) for k, stream in enumerate(self)]).sum(0)

    def learning_state(self) -> dict[str, Tensor]:
        """Return what learning needs besides the codebooks, to be saved with a checkpoint."""
        return {name: value for name, value in self.named_buffers() if not name.endswith("codebook")}

    def load_learning_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `learning_state` returned. Raises ValueError if it is of another quantizer."""
        own = self.learning_state()
        for name in own.keys() | state.keys():
            if name not in ("pool", *own) or (name != "pool" and state[name].shape != own[name].shape):
                raise ValueError(f"{name} of its quantizer has another shape")
        if state["pool"].shape[1:] != self.pool.shape[1:]:
            raise ValueError("the pool of its quantizer has another shape")
        self.pool = state["pool"]
        for name, buffer in self.named_buffers():
            if name in state:
                buffer.copy_(state[name])

    @torch.no_grad()
    def _collect(self, vectors: Tensor) -> None:
        """Keep vectors [M, D] until there are enough for k-means, then start the codebooks."""
        enough = round(self.learning.kmeans_vectors * len(next(iter(self)).codebook))
        self.pool = torch.cat([self.pool, vectors])[-enough:]
        if len(self.pool) < enough or self.passes <= self.learning.start_step:
            return
        residual = self.pool
        for stream in self:
            stream.start(residual, self.learning.kmeans_iterations)
            residual = residual - stream.codebook[stream.nearest(residual)]
        self.broadcast()
        self.pool = self.pool[:0]
        self.started.fill_(True)


@torch.no_grad()
def kmeans(vectors: Tensor, n_clusters: int, iterations: int) -> Tensor:
    """Run Lloyd's algorithm from a random start: vectors [M, D] → centers [n_clusters, D]; M < n_clusters is fine."""
    generator = _shared_generator(n_clusters)
    order = torch.randperm(len(vectors), generator=generator).to(vectors.device)
    repeats = -(-n_clusters // len(vectors))
    centers = vectors[order].repeat(repeats, 1)[:n_clusters].clone()
    for _ in range(iterations):
        distance, nearest = ((centers**2).sum(1) - 2 * vectors @ centers.T).min(1)
        counts = torch.bincount(nearest, minlength=n_clusters)
        sums = torch.zeros_like(centers).index_add_(0, nearest, vectors)
        used = counts > 0
        centers[used] = sums[used] / counts[used, None]
        # Equal vectors, silence say, share one center: the others go to the worst served.
        free = (~used).nonzero()[: len(vectors), 0]
        centers[free] = vectors[(distance + (vectors**2).sum(1)).topk(len(free)).indices]
    return centers


def _rows(latent: Tensor) -> Tensor:
    """List the vectors of [B, D, T]: [B · T, D]."""
    return latent.transpose(1, 2).reshape(-1, latent.shape[1])


def _gather(values: Tensor) -> Tensor:
    """Gather the rows of all processes, in the order of their ranks."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    pieces = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
    distributed.all_gather(pieces, values.contiguous())
    return torch.cat(pieces)


def _shared_generator(seed: int) -> torch.Generator:
    """Return a generator of its own, so that every process draws the same."""
    return torch.Generator().manual_seed(seed)
