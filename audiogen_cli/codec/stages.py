"""The networks prepared for inference: stages that take a signal block by block (sec. 3.1).

A stage turns the next frames of a signal into the frames that can be told from them. What it needs of the past, and
what must wait for the future, it keeps in the signal's memory; so a whole file is one last block, and an hour goes
through in the memory of a block. Frames are [B, T, C], channels last: there a convolution and LayerNorm run fastest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen_cli.codec import seanet, spectral

Memory = dict["Stage", Any]  # of one signal (or batch of signals): what each stage keeps between blocks


class Stage(ABC):
    """Part of a network that runs over blocks of frames; holds no state of its own."""

    @abstractmethod
    def __call__(self, x: Tensor, memory: Memory, last: bool) -> Tensor:
        """The next frames [B, T, C] of a signal, T ≥ 0 → the output frames that are now known [B, T', C'].

        memory: {} at a signal's beginning, then what was handed in before. last: nothing follows.
        """


class Chain(Stage):
    """Stages one after another."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = stages

    def __call__(self, x: Tensor, memory: Memory, last: bool) -> Tensor:
        for stage in self.stages:
            x = stage(x, memory, last)
        return x


class ELU(Stage):
    """The activation."""

    def __call__(self, x: Tensor, memory: Memory, last: bool) -> Tensor:
        return F.elu(x)


class ChannelNorm(Stage):
    """LayerNorm of each frame."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        self.norm = norm

    def __call__(self, x: Tensor, memory: Memory, last: bool) -> Tensor:
        return F.layer_norm(x, self.norm.normalized_shape, self.norm.weight, self.norm.bias, self.norm.eps)


class Padding(Stage):
    """What `seanet.Conv1d` puts around a signal. Mirroring holds `right + stride` frames back: they may be the last."""

    def __init__(self, layer: seanet.Conv1d) -> None:
        self.left, self.right, self.stride = layer.total - layer.right, layer.right, layer.stride
        self.mode = layer.pad_mode

    def __call__(self, x: Tensor, memory: Memory, last: bool) -> Tensor:
        n_frames, held = memory.get(self, (0, None))
        n_frames += x.shape[1]
        right = self.right + -n_frames % self.stride
        if self.mode == "reflect":
            return self._mirror(x if held is None else torch.cat([held, x], 1), n_frames, right, memory, last)
        left = self.left if self not in memory else 0
        memory[self] = n_frames, None
        return F.pad(x, (0, 0, left, right if last else 0))

    def _mirror(self, x: Tensor, n_frames: int, right: int, memory: Memory, last: bool) -> Tensor:
        begun = x.shape[1] < n_frames
        if not (begun or last or n_frames > self.left + self.right + self.stride):
            memory[self] = n_frames, x
            return x[:, :0]
        if last:
            frames = x.transpose(1, 2)
            return seanet.pad(frames, 0 if begun else self.left, right, self.mode).transpose(1, 2)
        n_known = x.shape[1] - self.right - self.stride
        memory[self] = n_frames, x[:, n_known:]
        return x[:, :n_known] if begun else torch.cat([x[:, 1 : self.left + 1].flip(1), x[:, :n_known]], 1)


class Convolution(Stage):
    """A convolution over a padded signal."""

    def __init__(self, layer: seanet.Conv1d) -> None:
        conv = cast("nn.Conv1d", layer.conv)
        self.weight, self.bias = conv.weight.detach(), cast("Tensor", conv.bias).detach()
        self.stride, self.kernel_size = layer.stride, conv.kernel_size[0]

    def __call__(self, x: Tensor, memory: Memory, last: bool) -> Tensor:
        x = torch.cat([memory[self], x], 1) if self in memory else x
        n_frames = max(0, (x.shape[1] - self.kernel_size) // self.stride + 1)
        memory[self] = x[:, n_frames * self.stride :]
        if not n_frames:
            return x.new_zeros(len(x), 0, len(self.weight))
        return F.conv1d(x.transpose(1, 2), self.weight, self.bias, self.stride).transpose(1, 2)


class TransposedConvolution(Stage):
    """`seanet.ConvTranspose1d` without its norm: frame t of the input makes strides t and t + 1 of the output."""

    def __init__(self, layer: seanet.ConvTranspose1d) -> None:
        conv = cast("nn.ConvTranspose1d", layer.conv)
        self.weight, self.bias = conv.weight.detach(), cast("Tensor", conv.bias).detach()
        self.stride, self.left, self.right = conv.stride[0], layer.left, layer.right

    def __call__(self, x: Tensor, memory: Memory, last: bool) -> Tensor:
        begun = self in memory
        x = torch.cat([memory[self], x], 1) if begun else x
        if not x.shape[1]:
            return x.new_zeros(len(x), 0, self.weight.shape[1])
        memory[self] = x[:, -1:]
        y = F.conv_transpose1d(x.transpose(1, 2), self.weight, self.bias, self.stride).transpose(1, 2)
        # The ends lack a neighbour's share: the first stride was told before, the last must wait.
        end = y.shape[1] - (self.right if last else self.stride)
        return y[:, self.stride if begun else self.left : end]


class Residual(Stage):
    """A chain whose output is added to its input."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    def __call__(self, x: Tensor, memory: Memory, last: bool) -> Tensor:
        y = self.chain(x, memory, last)
        x = torch.cat([memory[self], x], 1) if self in memory else x
        memory[self] = x[:, y.shape[1] :]
        return x[:, : y.shape[1]] + y


class Recurrence(Stage):
    """`seanet.ResidualLSTM`."""

    def __init__(self, layer: seanet.ResidualLSTM) -> None:
        self.lstm = layer.lstm

    def __call__(self, x: Tensor, memory: Memory, last: bool) -> Tensor:
        if not x.shape[1]:
            return x
        y, memory[self] = self.lstm(x.transpose(0, 1), memory.get(self))
        return y.transpose(0, 1) + x


class SpectralEncoder(Stage):
    """`spectral.Encoder`, which looks half a window ahead: run on new patches with a margin of old ones."""

    def __init__(self, encoder: spectral.Encoder) -> None:
        self.encoder, self.hop_length = encoder, encoder.loudness.hop_length
        self.margin = -(-encoder.loudness.frames.margin // self.hop_length)  # patches

    def __call__(self, x: Tensor, memory: Memory, last: bool) -> Tensor:
        n_past, old = memory.get(self, (0, x[:, :0]))
        x = torch.cat([old, x], 1)
        n_known = -(-x.shape[1] // self.hop_length) if last else x.shape[1] // self.hop_length - self.margin
        if n_known <= n_past:
            memory[self] = n_past, x
            return x.new_zeros(len(x), 0, self.encoder.project.out_features)
        n_kept = min(n_known, self.margin)
        memory[self] = n_kept, x[:, (n_known - n_kept) * self.hop_length :]
        return self.encoder(x.transpose(1, 2)).transpose(1, 2)[:, n_past:n_known]


class SpectralDecoder(Stage):
    """`spectral.Decoder`: run on new frames with a margin of old ones, as far as any sample hears them."""

    def __init__(self, decoder: spectral.Decoder) -> None:
        self.decoder, self.hop_length = decoder, decoder.loudness.hop_length
        frames = decoder.loudness.frames
        overlap = -(-frames.margin // frames.hop)  # STFT frames on either side that share a sample
        blocks = spectral.REACH * len(decoder.blocks)
        self.margin = -(-(1 + overlap + max(blocks, overlap)) // decoder.step)  # frames of codes

    def __call__(self, x: Tensor, memory: Memory, last: bool) -> Tensor:
        noise, n_past, old, old_noise = memory.get(self, (None, 0, x[:, :0], None))
        if noise is None:
            noise = spectral.WhiteNoise()
            old_noise = noise.take(0)
        x, sound = torch.cat([old, x], 1), torch.cat([old_noise, noise.take(x.shape[1] * self.hop_length)])
        n_known = x.shape[1] if last else x.shape[1] - self.margin
        if n_known <= n_past:
            memory[self] = noise, n_past, x, sound
            return x.new_zeros(len(x), 0, 1)
        n_kept = min(n_known, self.margin)
        forgotten = n_known - n_kept
        memory[self] = noise, n_kept, x[:, forgotten:], sound[forgotten * self.hop_length :]
        wav = self.decoder(x.transpose(1, 2), sound).transpose(1, 2)
        return wav[:, n_past * self.hop_length : n_known * self.hop_length]


def prepare(network: nn.Module) -> Stage:
    """A codec's encoder (wav [B, N, 1] → latent [B, T, D]) or decoder as a stage, right until its weights change."""
    if isinstance(network, spectral.Encoder):
        return SpectralEncoder(network)
    if isinstance(network, spectral.Decoder):
        return SpectralDecoder(network)
    assert isinstance(network, (seanet.Encoder, seanet.Decoder))
    return Chain([stage for layer in network.layers for stage in _stages(layer)])


def _stages(layer: nn.Module) -> list[Stage]:
    if isinstance(layer, nn.ELU):
        return [ELU()]
    if isinstance(layer, seanet.Conv1d):
        return [Padding(layer), Convolution(layer), *_norm(layer.norm)]
    if isinstance(layer, seanet.ConvTranspose1d):
        return [TransposedConvolution(layer), *_norm(layer.norm)]
    if isinstance(layer, seanet.ResidualUnit):
        return [Residual(Chain([stage for part in layer.block for stage in _stages(part)]))]
    assert isinstance(layer, seanet.ResidualLSTM)
    return [Recurrence(layer)]


def _norm(norm: nn.Module) -> list[Stage]:
    return [ChannelNorm(norm)] if isinstance(norm, nn.LayerNorm) else []
