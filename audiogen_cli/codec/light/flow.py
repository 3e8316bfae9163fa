"""A flow that draws the detail which a few codes leave out of a sound's log-mel spectrogram.

# ours: codes give each band's outline and nothing of how a sound changes within it: the patter of rain, the ticks of a
clock. An outline alone sounds like a hum. Many details are right for one outline, so one is drawn: flow matching
(Lipman 2023, Liu 2023) turns white noise into it, along velocities that a U-Net computes from the picture of time and
mel bands. The network must bear errors of generated codes, so it learns on outlines blurred by a share of the
quantizer's error, and gets the share as an input (conditioning augmentation: Ho 2022, sec. 4).
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen_cli.codec.config import FlowConfig

CENTER, SPREAD = -4.0, 2.0  # mean and standard deviation of log magnitudes, about
DETAIL = 0.5  # standard deviation of what an outline leaves out, in nats, about
N_WAVES, EMBEDDING = 16, 128  # of a number that every block gets
HALVINGS = 3  # of the picture's time and bands
RESIDUAL_SCALE = 0.2  # of a fresh block's output


# The names of parameters (`told`, `tell`, `far_in`, …) are those of saved weights.


class FourierEmbedding(nn.Module):
    """Fourier features and an MLP for the flow time and the noise level: [B, n] in [0, 1] → [B, EMBEDDING]."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * N_WAVES * n, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING))

    def forward(self, numbers: Tensor) -> Tensor:
        rates = torch.exp(torch.linspace(0, math.log(200), N_WAVES, device=numbers.device))
        angles = (numbers[..., None] * rates).flatten(1)
        embedding: Tensor = F.silu(self.layers(torch.cat([angles.sin(), angles.cos()], 1)))
        return embedding


class ResidualConvBlock(nn.Module):
    """Two convolutions over time and bands, added to their input: [B, C, F, M] → [B, C, F, M]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(dim, dim, 3, padding=1) for _ in range(2))
        self.first_norm, self.second_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.tell = nn.Linear(EMBEDDING, 2 * dim)
        self.scale = nn.Parameter(torch.full((dim, 1, 1), RESIDUAL_SCALE))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        y = self.first(F.silu(_norm(self.first_norm, x)))
        gain, bias = self.tell(embedding)[..., None, None].chunk(2, 1)
        y = self.second(F.silu(_norm(self.second_norm, y) * (1 + gain) + bias))
        return x + self.scale * y


def _norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Normalize over the channels of [B, C, F, M]."""
    y: Tensor = norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return y


class ConvNeXtBlock(nn.Module):
    """ConvNeXt (Liu 2022) over frames of codes [B, T, C]."""

    def __init__(self, dim: int, kernel_size: int = 7, expansion: int = 3) -> None:
        super().__init__()
        self.along_time = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.tell = nn.Linear(EMBEDDING, dim)
        self.widen = nn.Linear(dim, expansion * dim)
        self.narrow = nn.Linear(expansion * dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), RESIDUAL_SCALE))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        y = self.norm(self.along_time(x.transpose(1, 2)).transpose(1, 2)) + self.tell(embedding)[:, None]
        return x + self.scale * self.narrow(F.gelu(self.widen(y)))


class Flow(nn.Module):
    """A U-Net (Ronneberger 2015) over pictures of log magnitudes [B, F, M], F frames of M mel bands.

    Its middle runs over frames of codes, so that it sees a long context.
    """

    def __init__(self, config: FlowConfig, latent_dim: int, n_mels: int) -> None:
        super().__init__()
        self.config = config
        near, middle, coarse = config.channels
        bands = [n_mels >> halvings for halvings in range(1, HALVINGS + 1)]
        self.told = FourierEmbedding(2)
        self.enter = nn.Conv2d(2 * 4, near, 3, padding=1)  # detail and outline, two frames by two bands of each
        # Convolutions do not know where they are; what a band sounds like depends on which it is.
        self.places = nn.ParameterList(
            nn.Parameter(0.02 * torch.randn(dim, 1, n)) for dim, n in zip((near, middle, coarse), bands, strict=True)
        )
        self.near_in = nn.ModuleList([ResidualConvBlock(near)])
        self.to_middle = nn.Conv2d(near, middle, 2, 2)
        self.middle_in = nn.ModuleList(ResidualConvBlock(middle) for _ in range(2))
        self.to_far = nn.Conv2d(middle, coarse, 2, 2)
        self.far_in = ResidualConvBlock(coarse)
        self.latent = nn.Linear(latent_dim, config.dim)
        self.to_codes = nn.Linear(coarse * bands[2], config.dim)
        self.codes_norm = nn.LayerNorm(config.dim)
        self.codes = nn.ModuleList(ConvNeXtBlock(config.dim) for _ in range(config.code_blocks))
        self.from_codes = nn.Linear(config.dim, coarse * bands[2])
        self.far_out = ResidualConvBlock(coarse)
        self.from_far = nn.ConvTranspose2d(coarse, middle, 2, 2)
        self.middle_out = nn.ModuleList(ResidualConvBlock(middle) for _ in range(2))
        self.from_middle = nn.ConvTranspose2d(middle, near, 2, 2)
        self.near_out = nn.ModuleList(ResidualConvBlock(near) for _ in range(2))
        self.leave_norm = nn.LayerNorm(near)
        self.leave = nn.Conv2d(near, 4, 3, padding=1)
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)

    def velocity(self, x: Tensor, outline: Tensor, latent: Tensor, numbers: Tensor) -> Tensor:
        """Compute the velocity of detail x [B, F, M]: [B, F, M].

        outline: log magnitudes [B, F, M]; latent: [B, T, D], F = T · frames per code. numbers: [B, 2], the flow time
        from noise (0) to detail (1), and the share of the quantizer's error that outline and latent are blurred by.
        """
        embedding = self.told(numbers)
        picture = F.pixel_unshuffle(torch.stack([x, (outline - CENTER) / SPREAD], 1), 2)
        x = self.enter(picture.contiguous(memory_format=torch.channels_last)) + self.places[0]
        for block in self.near_in:
            x = block(x, embedding)
        near = x
        x = self.to_middle(x) + self.places[1]
        for block in self.middle_in:
            x = block(x, embedding)
        middle = x
        x = self.far_in(self.to_far(x) + self.places[2], embedding)  # [B, C, F / 8, M / 8]
        y = self.to_codes(x.permute(0, 2, 3, 1).flatten(2))
        y = self.codes_norm(y + _stretch(self.latent(latent), y.shape[1]))
        for block in self.codes:
            y = block(y, embedding)
        y = self.from_codes(y).unflatten(2, (x.shape[3], -1)).permute(0, 3, 1, 2)
        x = self.far_out(x + y, embedding)
        x = self.from_far(x) + middle
        for block in self.middle_out:
            x = block(x, embedding)
        x = self.from_middle(x) + near
        for block in self.near_out:
            x = block(x, embedding)
        x = self.leave(F.silu(_norm(self.leave_norm, x)))
        return F.pixel_shuffle(x, 2)[:, 0].float()

    def loss(self, log_mel: Tensor, outline: Tensor, latent: Tensor, blur: Tensor) -> Tensor:
        """Compute the mean squared error of the velocities (Lipman 2023, eq. 9, on straight paths).

        log_mel, outline: log magnitudes [B, F, M], of the sound and of its codes; latent: [B, T, D]. blur: [B], the
        share of the quantizer's error in outline and latent.
        """
        detail = (log_mel - outline) / DETAIL
        noise = torch.randn_like(detail)
        time = torch.rand(len(detail), 1, 1, device=detail.device)
        numbers = torch.stack([time[:, 0, 0], blur], 1)
        return F.mse_loss(self.velocity(noise.lerp(detail, time), outline, latent, numbers), detail - noise)

    def forward(self, outline: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
        """Draw detail: outline [B, F, M], latent [B, T, D] and noise [F, M] → log magnitudes [B, F, M]."""
        # Adams and Bashforth's rule: second order at one pass a step. The first step is Euler's, so the steps grow.
        times = [(number / self.config.steps) ** 1.5 for number in range(self.config.steps + 1)]
        x, unblurred, old, old_size = noise.expand_as(outline), noise.new_zeros(len(outline)), noise, math.inf
        for begin, end in itertools.pairwise(times):
            velocity = self.velocity(x, outline, latent, torch.stack([unblurred + begin, unblurred], 1))
            x = x + (end - begin) * (velocity + (end - begin) / (2 * old_size) * (velocity - old))
            old, old_size = velocity, end - begin
        return outline + DETAIL * x


def _stretch(x: Tensor, n_frames: int) -> Tensor:
    """Repeat every frame n_frames / T times: [B, T, C] → [B, n_frames, C]."""
    return x.repeat_interleave(n_frames // x.shape[1], 1)
