"""Multi-scale STFT discriminators (sec. 3.1): five equal networks, each on one resolution of the complex STFT."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from audiogen_cli.codec.config import DiscriminatorConfig

WINDOWS = (2048, 1024, 512, 256, 128)  # samples (sec. 3.1)
SLOPE = 0.2  # of the leaky ReLU, as in EnCodec


def _normed(conv: nn.Conv2d) -> nn.Module:
    """Initialize a layer, with weight norm. PyTorch's own initialization halves a signal at every layer."""
    nn.init.kaiming_normal_(conv.weight, SLOPE)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return weight_norm(conv)


class FrequencyConv2d(nn.Module):
    """Conv2d over [B, C, time, frequency], kernel 3×8, padded so that time is kept and frequency divided."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1, stride: int = 1) -> None:
        super().__init__()
        conv = nn.Conv2d(inputs, outputs, (3, 8), (1, stride), padding=(dilation, 0), dilation=(dilation, 1))
        self.conv = _normed(conv)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (4, 3)))  # an even kernel cannot be centered: the odd one goes left


class STFTDiscriminator(nn.Module):
    """One scale: wav [B, 1, N] → (logits [B, 1, frames, bands], feature maps of every layer)."""

    stft_window: Tensor

    def __init__(self, window: int, channels: int) -> None:
        super().__init__()
        self.n_fft = window
        self.register_buffer("stft_window", torch.hann_window(window), persistent=False)
        self.layers = nn.ModuleList(
            [
                FrequencyConv2d(2, channels),
                *(FrequencyConv2d(channels, channels, dilation, stride=2) for dilation in (1, 2, 4)),
            ]
        )
        self.head = _normed(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, wav: Tensor) -> tuple[Tensor, list[Tensor]]:
        spectrum = torch.stft(
            wav[:, 0].float(),
            self.n_fft,
            self.n_fft // 4,
            window=self.stft_window,
            normalized=True,
            return_complex=True,
        )
        x = torch.stack([spectrum.real, spectrum.imag], 1).transpose(2, 3)  # [B, 2, time, frequency]
        x = x.contiguous(memory_format=torch.channels_last)  # up to a tenth faster on a CPU
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
            features.append(x)
        return self.head(x), features


class MultiScaleSTFTDiscriminator(nn.Module):
    """All D_k: wav [B, 1, N] → for each scale its logits and its feature maps."""

    def __init__(self, config: DiscriminatorConfig, windows: Sequence[int] = WINDOWS) -> None:
        super().__init__()
        self.scales = nn.ModuleList(STFTDiscriminator(window, config.channels) for window in windows)

    def forward(self, wav: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        return [scale(wav) for scale in self.scales]
