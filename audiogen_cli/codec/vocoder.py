"""The spectral decoder's network: from the outline of a sound that codes give to its spectrum.

# ours: a few codes tell how loud each band of the mel scale is, not how the sound wavers within it, and neither phases.
Blocks of ConvNeXt (Liu 2022) on frames before an inverse STFT, as in Vocos (Siuzdak 2023), draw them. White noise under
one set of gains and tones of another are summed, as harmonic-plus-noise synthesis does (Serra and Smith 1990), so a
fresh network already sounds like shaped noise; the losses of sec. 3.1 teach it the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen_cli.codec.config import VocoderConfig

FAINT_TONES = -3.0  # log of a fresh network's tones over its noise
CENTRE, SPREAD = -4.0, 2.0  # about those of log magnitudes
RESIDUAL_SCALE = 0.2  # of a fresh block's output
MAX_CHANGE = 4.0  # of a log magnitude: e^4 is 35 dB


class Block(nn.Module):
    """ConvNeXt over frames [B, T, C]: a convolution along time for each channel, then two layers over the channels."""

    def __init__(self, dim: int, kernel_size: int, expansion: int) -> None:
        super().__init__()
        self.along_time = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, expansion * dim)
        self.narrow = nn.Linear(expansion * dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), RESIDUAL_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.along_time(x.transpose(1, 2)).transpose(1, 2))
        return x + self.scale * self.narrow(F.gelu(self.widen(y)))


class Vocoder(nn.Module):
    """Latents and the log magnitudes they stand for → the spectrum to synthesise.

    Some blocks run on frames of codes, where they see far, the others on the STFT's frames.
    """

    def __init__(self, config: VocoderConfig, latent_dim: int, n_mels: int, n_bins: int, step: int) -> None:
        super().__init__()
        self.config, self.step = config, step
        dim = config.dim
        self.enter = nn.Linear(latent_dim, dim)
        self.far = nn.Sequential(*self._blocks(config.code_blocks))
        self.place = nn.Parameter(0.02 * torch.randn(step, dim))  # of an STFT frame within its frame of codes
        self.loudness = nn.Linear(n_mels, dim)
        self.noise = nn.Linear(2 * n_bins, dim)
        self.enter_norm = nn.LayerNorm(dim)
        self.near = nn.Sequential(*self._blocks(config.frame_blocks))
        self.leave_norm = nn.LayerNorm(dim)
        self.leave = nn.Linear(dim, 3 * n_bins)
        nn.init.normal_(self.leave.weight, std=0.02)
        nn.init.zeros_(self.leave.bias)
        nn.init.constant_(self.leave.bias[n_bins : 2 * n_bins], FAINT_TONES)

    def _blocks(self, number: int) -> list[Block]:
        return [Block(self.config.dim, self.config.kernel_size, self.config.expansion) for _ in range(number)]

    @property
    def reach(self) -> int:
        """STFT frames to either side of one that its spectrum is made of."""
        half = self.config.kernel_size // 2
        return half * (self.config.frame_blocks + self.config.code_blocks * self.step) + self.step

    def forward(self, latent: Tensor, loudness: Tensor, wanted: Tensor, excitation: Tensor) -> Tensor:
        """Complex spectrum [B, n_bins, F] of F = T · step frames.

        latent: [B, D, T]. loudness: the log magnitudes of its bands [B, F, M]; wanted: those of its bins
        [B, n_bins, F]. excitation: complex spectrum of white noise [B or 1, n_bins, F], of median magnitude 1.
        """
        far = self.far(self.enter(latent.transpose(1, 2)))  # [B, T, C]
        x = (far[:, :, None] + self.place).flatten(1, 2)  # [B, F, C]
        x = x + self.loudness((loudness - CENTRE) / SPREAD)
        x = x + self.noise(torch.cat([excitation.real, excitation.imag], 1).transpose(1, 2))
        x = self.leave(self.leave_norm(self.near(self.enter_norm(x)))).float().transpose(1, 2)
        noise, tones, phase = x.chunk(3, 1)
        noise, tones = (wanted + MAX_CHANGE * (change / MAX_CHANGE).tanh() for change in (noise, tones))
        return noise.exp() * excitation + torch.polar(tones.exp(), phase)
