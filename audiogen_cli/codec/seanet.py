"""SEANet encoder E and decoder G on the waveform (sec. 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from audiogen_cli.codec.config import SEANetConfig

KERNEL_SIZE = 7  # sec. 3.1 for E's last convolution; EnCodec's for E's first and for G's two
RESIDUAL_KERNEL_SIZE = 3  # EnCodec's
COMPRESS = 2  # EnCodec's: a residual unit's hidden channels are its channels / COMPRESS


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of [B, C, T]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


def _normalise(layer: nn.Module, channels: int, norm: str) -> tuple[nn.Module, nn.Module]:
    """The layer with its weights normalised if asked, and what follows it."""
    if norm == "weight":
        return weight_norm(layer), nn.Identity()
    return layer, ChannelNorm(channels) if norm == "layer" else nn.Identity()


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
        self.conv, self.norm = _normalise(conv, outputs, config.norm if norm is None else norm)
        self.stride, self.total = stride, kernel_size - stride
        self.right = 0 if config.causal else self.total // 2
        self.pad_mode = config.pad_mode

    def forward(self, x: Tensor) -> Tensor:
        fill = -x.shape[-1] % self.stride
        x = pad(x, self.total - self.right, self.right + fill, self.pad_mode)
        return self.norm(self.conv(x))


def pad(x: Tensor, left: int, right: int, mode: str) -> Tensor:
    """Pad x [B, C, T] as F.pad does; what is too short to mirror is mirrored with zeros behind it."""
    if mode == "reflect" and x.shape[-1] <= max(left, right):
        fill = max(left, right) + 1 - x.shape[-1]
        return F.pad(F.pad(x, (0, fill)), (left, right), mode)[..., : x.shape[-1] + left + right]
    return F.pad(x, (left, right), mode)


class ConvTranspose1d(nn.Module):
    """A transposed convolution that maps [B, C, T] to [B, C', T · stride]."""

    def __init__(self, inputs: int, outputs: int, stride: int, config: SEANetConfig) -> None:
        super().__init__()
        conv = nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride)
        self.conv, self.norm = _normalise(conv, outputs, config.norm)
        self.right = stride if config.causal else stride // 2
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

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


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


class Encoder(nn.Module):
    """E: wav [B, 1, N] → latent [B, D, ceil(N / hop_length)]."""

    def __init__(self, config: SEANetConfig, latent_dim: int) -> None:
        super().__init__()
        channels = config.channels
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
        # ours: the last convolution is not layer-normalised, in G because one channel would become a constant,
        # in E because the quantizer should see latents of free length.
        last_norm = "none" if config.norm == "layer" else config.norm
        layers += [nn.ELU(), Conv1d(channels, latent_dim, KERNEL_SIZE, config, norm=last_norm)]
        self.layers = nn.Sequential(*layers)

    def forward(self, wav: Tensor) -> Tensor:
        latent: Tensor = self.layers(wav)
        return latent


class Decoder(nn.Module):
    """G: quantized latent [B, D, T] → wav [B, 1, T · hop_length]; mirrors E."""

    def __init__(self, config: SEANetConfig, latent_dim: int) -> None:
        super().__init__()
        channels = config.channels * 2 ** len(config.strides)
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
