"""SEANet encoder E and decoder G on the waveform (sec. 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from audiogen_cli.codec.config import SEANetConfig
from audiogen_cli.codec.streaming import (
    ChunkedSequential,
    CodecNetwork,
    StreamingConv,
    StreamingConvTranspose,
    StreamingELU,
    StreamingLayer,
    StreamingLayerNorm,
    StreamingLSTM,
    StreamingPadding,
    StreamingResidual,
    StreamingSequential,
    pad,
)

KERNEL_SIZE = 7  # sec. 3.1 for E's last convolution; EnCodec's for E's first and for G's two
RESIDUAL_KERNEL_SIZE = 3  # EnCodec's
COMPRESS = 2  # EnCodec's: a residual unit's hidden channels are its channels / COMPRESS
QUIET = 0.1  # scale of the last convolution's weights in a quiet decoder
FLOOR = 0.01  # standard deviation of the first convolution's biases: -40 dB beside a full-scale sound
CHUNK = 16_000  # samples, about, that streaming convolutions take at once: 2 MB between layers of the paper's width


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of [B, C, T]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


def _normalize(layer: nn.Module, channels: int, norm: str) -> tuple[nn.Module, nn.Module]:
    """Return the layer, its weights normalized if `norm` says so, and the norm that follows it."""
    if norm == "weight":
        return weight_norm(layer), nn.Identity()
    return layer, ChannelNorm(channels) if norm == "layer" else nn.Identity()


class RowEnds:
    """Ends of the rows of [B, C, T], some before T: a convolution is to read padding behind them, as behind T."""

    def __init__(self, lengths: Sequence[int], width: int, device: torch.device) -> None:
        """width: T."""
        self.lengths, self.first, self.width = lengths, min(lengths), width
        self.end = torch.tensor(lengths, device=device)[:, None]  # [B, 1]
        self.beyond = (torch.arange(self.first, width, device=device) >= self.end)[:, None]  # [B, 1, T - first]

    def after(self, stride: int) -> RowEnds:
        """Return the ends behind a convolution with a stride."""
        lengths = [-(-length // stride) for length in self.lengths]
        return RowEnds(lengths, -(-self.width // stride), self.end.device) if stride > 1 else self

    def pad_(self, x: Tensor, left: int, right: int, mode: str) -> None:
        """Pad every row behind its end, in place. x: `left` positions, T, and padding; right: positions at most."""
        if mode == "constant":
            x[..., left + self.first : left + self.width].masked_fill_(self.beyond, 0.0)
            return
        end = self.end + left
        distance = torch.arange(right, device=x.device).minimum(x.shape[-1] - 1 - end)  # [B, right], -1: no room
        mirrored = torch.where(distance < 0, end + distance, end - 2 - distance)
        rows = torch.arange(len(x), device=x.device)[:, None]
        x[rows, :, end + distance] = x[rows, :, mirrored]


class Conv1d(nn.Module):
    """A convolution that maps [B, C, T] to [B, C', ceil(T / stride)], its padding chosen to keep time aligned."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int,
        config: SEANetConfig,
        stride: int = 1,
        norm: str | None = None,
    ) -> None:
        super().__init__()
        conv = nn.Conv1d(inputs, outputs, kernel_size, stride)
        self.conv, self.norm = _normalize(conv, outputs, config.norm if norm is None else norm)
        self.stride, self.total = stride, kernel_size - stride
        self.right = 0 if config.causal else self.total // 2
        self.pad_mode = config.pad_mode

    def forward(self, x: Tensor, ends: RowEnds | None = None) -> Tensor:
        """Convolve; ends: where rows end before x does."""
        left, fill = self.total - self.right, -x.shape[-1] % self.stride
        x = pad(x, left, self.right + fill, self.pad_mode)
        if ends and self.total:
            ends.pad_(x, left, self.right + self.stride - 1, self.pad_mode)
        return self.norm(self.conv(x))


class ConvTranspose1d(nn.Module):
    """A transposed convolution that maps [B, C, T] to [B, C', T · stride]."""

    def __init__(self, inputs: int, outputs: int, stride: int, config: SEANetConfig) -> None:
        super().__init__()
        conv = nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride)
        self.conv, self.norm = _normalize(conv, outputs, config.norm)
        self.stride, self.right = stride, stride if config.causal else stride // 2
        self.left = stride - self.right

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.norm(x[..., self.left : x.shape[-1] - self.right])


class ResidualUnit(nn.Module):
    """Two convolutions and a skip: [B, C, T] → [B, C, T]."""

    def __init__(self, channels: int, config: SEANetConfig) -> None:
        super().__init__()
        hidden = channels // COMPRESS
        self.block = nn.Sequential(
            nn.ELU(),
            Conv1d(channels, hidden, RESIDUAL_KERNEL_SIZE, config),
            nn.ELU(),
            Conv1d(hidden, channels, 1, config),
        )

    def forward(self, x: Tensor, ends: RowEnds | None = None) -> Tensor:
        y = x
        for layer in self.block:
            y = layer(y, ends) if isinstance(layer, Conv1d) else layer(y)
        return x + y


class ResidualLSTM(nn.Module):
    """An LSTM over frames whose output is added to its input: [B, C, T] → [B, C, T].

    In float32, whatever autocast says: it would run cuDNN's LSTM in float16, where most gradients vanish.
    """

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, layers)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            frames = x.permute(2, 0, 1).to(next(self.lstm.parameters()).dtype)
            return (self.lstm(frames)[0] + frames).permute(1, 2, 0)


class Encoder(CodecNetwork):
    """E: wav [B, 1, N] → latent [B, D, ceil(N / hop_length)]."""

    def __init__(self, config: SEANetConfig, latent_dim: int) -> None:
        super().__init__()
        channels, self.hop_length = config.channels, config.hop_length
        self.shortest = KERNEL_SIZE if config.pad_mode == "reflect" else 1  # a row is mirrored, as far as it goes
        layers: list[nn.Module] = [Conv1d(1, channels, KERNEL_SIZE, config)]
        for stride in config.strides:
            layers += [
                ResidualUnit(channels, config),
                nn.ELU(),
                Conv1d(channels, 2 * channels, 2 * stride, config, stride),
            ]
            channels *= 2
        if config.lstm_layers:
            layers.append(ResidualLSTM(channels, config.lstm_layers))
        # ours: no LayerNorm after the last convolution: in G one channel would become a constant, in E the quantizer
        # should get latents of any length.
        last_norm = "none" if config.norm == "layer" else config.norm
        layers += [nn.ELU(), Conv1d(channels, latent_dim, KERNEL_SIZE, config, norm=last_norm)]
        self.layers = nn.Sequential(*layers)

    def forward(self, wav: Tensor, lengths: Sequence[int] = ()) -> Tensor:
        """Encode; lengths: of rows that end before wav does; their own frames are those of each row alone."""
        x, ends = wav, RowEnds(lengths, wav.shape[-1], wav.device) if lengths else None
        for layer in self.layers:
            x = layer(x, ends) if isinstance(layer, Conv1d | ResidualUnit) else layer(x)
            if ends and isinstance(layer, Conv1d):
                ends = ends.after(layer.stride)
        return x

    def streaming(self) -> StreamingLayer:
        n_frames = max(1, CHUNK // self.hop_length)
        return _stream(self.layers, n_frames * self.hop_length, n_frames)


class Decoder(CodecNetwork):
    """G: quantized latent [B, D, T] → wav [B, 1, T · hop_length]; mirrors E."""

    def __init__(self, config: SEANetConfig, latent_dim: int) -> None:
        super().__init__()
        channels, self.hop_length = config.channels * 2 ** len(config.strides), config.hop_length
        layers: list[nn.Module] = [Conv1d(latent_dim, channels, KERNEL_SIZE, config)]
        if config.lstm_layers:
            layers.append(ResidualLSTM(channels, config.lstm_layers))
        for stride in reversed(config.strides):
            layers += [
                nn.ELU(),
                ConvTranspose1d(channels, channels // 2, stride, config),
                ResidualUnit(channels // 2, config),
            ]
            channels //= 2
        last_norm = "none" if config.norm == "layer" else config.norm
        layers += [nn.ELU(), Conv1d(channels, 1, KERNEL_SIZE, config, norm=last_norm)]
        self.layers = nn.Sequential(*layers)

    def forward(self, latent: Tensor) -> Tensor:
        wav: Tensor = self.layers(latent)
        return wav

    def streaming(self) -> StreamingLayer:
        n_frames = max(1, CHUNK // self.hop_length)
        return _stream(self.layers, n_frames, n_frames)


@torch.no_grad()
def _stream(layers: nn.Sequential, n_before: int, n_after: int) -> StreamingLayer:
    """Turn a network's layers into a streaming one.

    Convolutions are faster on few frames at once, n_before in front of the LSTM and n_after behind it; the LSTM is
    faster on many.
    """
    middle = next((at for at, layer in enumerate(layers) if isinstance(layer, ResidualLSTM)), len(layers))
    before, lstm, after = (
        [stage for layer in part for stage in _stages(layer)]
        for part in (layers[:middle], layers[middle : middle + 1], layers[middle + 1 :])
    )
    return StreamingSequential([ChunkedSequential(before, n_before), *lstm, ChunkedSequential(after, n_after)])


def _stages(layer: nn.Module) -> list[StreamingLayer]:
    """Return the streaming layers that do what a layer of this file does."""
    if isinstance(layer, nn.ELU):
        return [StreamingELU()]
    if isinstance(layer, ResidualUnit):
        return [StreamingResidual(StreamingSequential([stage for part in layer.block for stage in _stages(part)]))]
    if isinstance(layer, ResidualLSTM):
        return [StreamingLSTM(layer.lstm)]
    assert isinstance(layer, Conv1d | ConvTranspose1d)
    norm = [StreamingLayerNorm(layer.norm)] if isinstance(layer.norm, nn.LayerNorm) else []
    weight, bias = cast("nn.Conv1d", layer.conv).weight, cast("Tensor", layer.conv.bias)
    if isinstance(layer, ConvTranspose1d):
        return [StreamingConvTranspose(weight, bias, layer.stride, layer.left, layer.right), *norm]
    padding = StreamingPadding(layer.total - layer.right, layer.right, layer.stride, layer.pad_mode)
    return [*([padding] if layer.total else []), StreamingConv(weight, bias, layer.stride), *norm]


def start_quietly(encoder: nn.Module, decoder: nn.Module, config: SEANetConfig) -> None:
    """Initialize fresh networks so that quiet sounds reach the latents and the decoder begins near silence.

    # ours: a LayerNorm over channels divides by what the convolution's random bias gave, beside which a sound of -30 dB
    is nothing; and a decoder that begins at full level teaches the encoder, first of all, to be still. Either way the
    latents shrink to a point within a hundred steps and a handful of codes is left. But without any bias digital
    silence stays zero up to the latents, and each LayerNorm of a zero multiplies the gradient by 316, thirteen times
    over. So the first convolution alone has biases, small ones: after its norm nothing is zero.
    """
    networks = (*encoder.modules(), *decoder.modules())
    layers = [layer for layer in networks if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d)]
    for layer in layers:
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    assert layers[0].bias is not None
    nn.init.normal_(layers[0].bias, std=FLOOR)
    if config.norm == "layer":
        with torch.no_grad():
            layers[-1].weight.mul_(QUIET)
