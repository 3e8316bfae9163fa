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

from audiogen_cli.codec import seanet
from audiogen_cli.codec.light import spectral
from audiogen_cli.codec.recurrence import run_lstm

PIECE = 16_000  # samples, about: 2 MB between stages of the paper's width

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


class Pieces(Chain):
    """Stages one after another, on few frames at a time: what passes between them stays in the processor's cache."""

    def __init__(self, stages: Sequence[Stage], n_frames: int) -> None:
        super().__init__(stages)
        self.n_frames = n_frames

    def __call__(self, x: Tensor, memory: Memory, last: bool) -> Tensor:
        *pieces, end = x.split(self.n_frames, 1)
        outputs = [super(Pieces, self).__call__(piece, memory, False) for piece in pieces]
        return torch.cat([*outputs, super().__call__(end, memory, last)], 1)


class ELU(Stage):
    """The activation."""

    def __call__(self, x: Tensor, memory: Memory, last: bool) -> Tensor:
        # Eight times as fast as F.elu on a CPU, whose expm1 is slow; exp(x) - 1 is off by 6e-8 at most.
        negative = x.clamp(max=0).exp_().sub_(1)
        return torch.maximum(x, negative, out=negative)


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
        ends = 0 if self in memory else self.left, right if last else 0
        memory[self] = n_frames, None
        return F.pad(x, (0, 0, *ends)) if any(ends) else x

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
    """A convolution over a padded signal, kernel 2 · stride where there is a stride.

    Strides are cut into frames of their own first, so that one kind of convolution remains: stride 1, channels last.
    """

    def __init__(self, layer: seanet.Conv1d) -> None:
        conv = cast("nn.Conv1d", layer.conv)
        weight, self.bias = conv.weight.detach(), cast("Tensor", conv.bias).detach()  # [C', C, kernel]
        self.stride = layer.stride
        strides = weight.unflatten(2, (-1, self.stride))  # [C', C, kernel / stride, stride]
        self.weight = _channels_last(strides.permute(0, 3, 1, 2).flatten(1, 2))

    def __call__(self, x: Tensor, memory: Memory, last: bool) -> Tensor:
        if self in memory and memory[self].shape[1]:
            x = torch.cat([memory[self], x], 1)
        n_kept = self.weight.shape[-1] - 1
        n_strides = x.shape[1] // self.stride
        memory[self] = x[:, max(0, n_strides - n_kept) * self.stride :].clone()  # lets go of the rest
        if n_strides <= n_kept:
            return x.new_zeros(len(x), 0, len(self.weight))
        return _convolve(x[:, : n_strides * self.stride].reshape(len(x), n_strides, -1), self.weight, self.bias)


class TransposedConvolution(Stage):
    """`seanet.ConvTranspose1d` without its norm: frames t - 1 and t of the input make stride t of the output."""

    def __init__(self, layer: seanet.ConvTranspose1d) -> None:
        conv = cast("nn.ConvTranspose1d", layer.conv)
        self.stride, self.left, self.right = conv.stride[0], layer.left, layer.right
        strides = conv.weight.detach().unflatten(2, (2, -1))  # [C, C', 2, stride]
        self.weight = _channels_last(strides.permute(3, 1, 0, 2).flatten(0, 1).flip(2))
        self.bias = cast("Tensor", conv.bias).detach().repeat(self.stride)

    def __call__(self, x: Tensor, memory: Memory, last: bool) -> Tensor:
        if not (x.shape[1] or self in memory):
            return x.new_zeros(len(x), 0, len(self.bias) // self.stride)
        before = memory.get(self)
        x = torch.cat([x.new_zeros(len(x), 1, x.shape[2]) if before is None else before, x], 1)
        memory[self] = x[:, -1:].clone()
        if last:
            x = F.pad(x, (0, 0, 0, 1))
        if x.shape[1] < 2:
            return x.new_zeros(len(x), 0, len(self.bias) // self.stride)
        y = _convolve(x, self.weight, self.bias).reshape(len(x), (x.shape[1] - 1) * self.stride, -1)
        return y[:, self.left if before is None else 0 : y.shape[1] - (self.right if last else 0)]


def _channels_last(weight: Tensor) -> Tensor:
    """[C', C, k] as `_convolve` takes it."""
    return weight[:, :, None].contiguous(memory_format=torch.channels_last)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x [B, T, C] → [B, T - k + 1, C']; the weight [C', C, 1, k] has channels last, too."""
    if x.shape[2] == 1:  # of one channel nothing is last: a matrix product over windows
        return F.linear(x[:, :, 0].unfold(1, weight.shape[-1], 1), weight[:, 0, 0], bias)
    if weight.shape[-1] == 1:
        return F.linear(x, weight[:, :, 0, 0], bias)
    return F.conv2d(x.transpose(1, 2)[:, :, None], weight, bias)[:, :, 0].transpose(1, 2)


class Residual(Stage):
    """A chain whose output is added to its input."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    def __call__(self, x: Tensor, memory: Memory, last: bool) -> Tensor:
        y = self.chain(x, memory, last)
        x = torch.cat([memory[self], x], 1) if self in memory else x
        memory[self] = x[:, y.shape[1] :].clone()
        return x[:, : y.shape[1]] + y


class Recurrence(Stage):
    """`seanet.ResidualLSTM`."""

    def __init__(self, layer: seanet.ResidualLSTM) -> None:
        self.layers = [_one_layer(layer.lstm, number) for number in range(layer.lstm.num_layers)]

    def __call__(self, x: Tensor, memory: Memory, last: bool) -> Tensor:
        if not x.shape[1]:
            return x
        states = memory.get(self, [None] * len(self.layers))
        memory[self] = []
        y = x.transpose(0, 1)
        for layer, state in zip(self.layers, states, strict=True):
            y, state = run_lstm(layer, y, state)
            memory[self].append(state)
        return y.transpose(0, 1) + x


def _one_layer(lstm: nn.LSTM, number: int) -> nn.LSTM:
    layer = nn.LSTM(lstm.hidden_size, lstm.hidden_size).requires_grad_(False)
    layer.to(next(lstm.parameters()).device)
    for name, weight in layer.named_parameters():
        weight.copy_(lstm.get_parameter(name.replace("_l0", f"_l{number}")))
    return layer


class SpectralEncoder(Stage):
    """`spectral.SpectralEncoder`, which looks half a window ahead: run on new patches with a margin of old ones."""

    def __init__(self, encoder: spectral.SpectralEncoder) -> None:
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
        memory[self] = n_kept, x[:, (n_known - n_kept) * self.hop_length :].clone()
        return self.encoder(x.transpose(1, 2)).transpose(1, 2)[:, n_past:n_known]


class Drawing(Stage):
    """`spectral.Drawing`: latents [B, T, D] → patches."""

    def __init__(self, decoder: spectral.SpectralDecoder) -> None:
        self.decoder = decoder

    def __call__(self, x: Tensor, memory: Memory, last: bool) -> Tensor:
        if self not in memory:
            memory[self] = spectral.Drawing(self.decoder)
        patches: Tensor = memory[self](x.transpose(1, 2), last)
        return patches


class Synthesis(Stage):
    """`spectral.Loudness.to_wav`: run on new patches with a margin of old ones, as far as any sample hears them."""

    def __init__(self, loudness: spectral.Loudness) -> None:
        self.loudness = loudness
        self.margin = -(-loudness.reach // loudness.step)  # patches

    def __call__(self, x: Tensor, memory: Memory, last: bool) -> Tensor:
        hop_length = self.loudness.hop_length
        source, n_past, old, old_noise = memory.get(self) or (spectral.WhiteNoise(), 0, x[:, :0], torch.empty(0))
        noise = torch.cat([old_noise, source.take(x.shape[1] * hop_length)])
        x = torch.cat([old, x], 1)
        n_known = x.shape[1] if last else x.shape[1] - self.margin
        if n_known <= n_past:
            memory[self] = source, n_past, x, noise
            return x.new_zeros(len(x), 0, 1)
        n_kept = min(n_known, self.margin)
        forgotten = n_known - n_kept
        memory[self] = source, n_kept, x[:, forgotten:].clone(), noise[forgotten * hop_length :].clone()
        wav = self.loudness.to_wav(x, noise).transpose(1, 2)
        return wav[:, n_past * hop_length : n_known * hop_length]


@torch.no_grad()
def prepare(network: nn.Module, hop_length: int) -> Stage:
    """A codec's encoder (wav [B, N, 1] → latent [B, T, D]) or decoder as a stage, right until its weights change."""
    if isinstance(network, spectral.SpectralEncoder):
        return SpectralEncoder(network)
    if isinstance(network, spectral.SpectralDecoder):
        return Chain([Drawing(network), Synthesis(network.loudness)])
    assert isinstance(network, (seanet.Encoder, seanet.Decoder))
    stages = [stage for layer in network.layers for stage in _stages(layer)]
    middle = next((at for at, stage in enumerate(stages) if isinstance(stage, Recurrence)), len(stages))
    n_frames = max(1, PIECE // hop_length)
    before = n_frames * hop_length if isinstance(network, seanet.Encoder) else n_frames
    # The recurrence is faster on many frames, see `run_lstm`, the convolutions are on few.
    return Chain(
        [Pieces(stages[:middle], before), *stages[middle : middle + 1], Pieces(stages[middle + 1 :], n_frames)]
    )


def _stages(layer: nn.Module) -> list[Stage]:
    if isinstance(layer, nn.ELU):
        return [ELU()]
    if isinstance(layer, seanet.Conv1d):
        return [*([Padding(layer)] if layer.total else []), Convolution(layer), *_norm(layer.norm)]
    if isinstance(layer, seanet.ConvTranspose1d):
        return [TransposedConvolution(layer), *_norm(layer.norm)]
    if isinstance(layer, seanet.ResidualUnit):
        return [Residual(Chain([stage for part in layer.block for stage in _stages(part)]))]
    assert isinstance(layer, seanet.ResidualLSTM)
    return [Recurrence(layer)]


def _norm(norm: nn.Module) -> list[Stage]:
    return [ChannelNorm(norm)] if isinstance(norm, nn.LayerNorm) else []
