"""A light encoder and decoder on STFT frames: the embedded model's alternative to SEANet.

# ours: the waveform networks of sec. 3.1 spend most of their work at thousands of frames per second. Here an STFT
does the analysis and an inverse STFT the synthesis; what is learnt between them runs at the rate of the frames and
is about magnitudes only, which makes training on a laptop possible. In training the decoder borrows the phase of
the audio it should return, so that every loss of sec. 3.1 applies to its waveform as it stands; when decoding,
phases come from the fast Griffin-Lim algorithm (Perraudin 2013).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen_cli.codec.config import SpectralConfig

FLOOR = 1e-4  # added to magnitudes before the logarithm: -80 dB of a full-scale sine's
MAX_LOG_MAGNITUDE = 4.0  # e^4 is above any bin of full-scale audio at these window lengths
MOMENTUM = 0.99  # of Griffin-Lim


class Block(nn.Module):
    """Depthwise convolution over time, then a two-layer perceptron per frame (ConvNeXt): [B, C, T] → [B, C, T]."""

    def __init__(self, dim: int, expansion: int) -> None:
        super().__init__()
        self.mix = nn.Conv1d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, expansion * dim)
        self.contract = nn.Linear(expansion * dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(self.mix(x).transpose(1, 2))
        hidden = self.contract(F.gelu(self.expand(hidden)))
        return x + (self.scale * hidden).transpose(1, 2)


def _blocks(n: int, dim: int, expansion: int) -> nn.Sequential:
    return nn.Sequential(*(Block(dim, expansion) for _ in range(n)))


class Frames(nn.Module):
    """STFT and inverse whose frames tile the signal: N samples, a multiple of the hop, are N / hop frames."""

    window: Tensor

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.margin = (n_fft - hop) // 2
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def analyse(self, wav: Tensor) -> Tensor:
        """wav [B, N] → complex spectrum [B, n_fft/2 + 1, N / hop]."""
        padded = F.pad(wav, (self.margin, self.margin))
        frames = padded.unfold(-1, self.n_fft, self.hop) * self.window
        return torch.fft.rfft(frames, norm="ortho").transpose(1, 2)

    def synthesise(self, spectrum: Tensor) -> Tensor:
        """Complex spectrum [B, n_fft/2 + 1, T] → wav [B, T · hop], by weighted overlap-add."""
        n_frames = spectrum.shape[-1]
        frames = torch.fft.irfft(spectrum.transpose(1, 2), self.n_fft, norm="ortho") * self.window
        energy = (self.window**2).expand(1, n_frames, -1)
        return self._overlap_add(frames) / self._overlap_add(energy).clamp(min=1e-6)

    def _overlap_add(self, frames: Tensor) -> Tensor:
        n_samples = (frames.shape[1] - 1) * self.hop + self.n_fft
        total = F.fold(frames.transpose(1, 2), (1, n_samples), (1, self.n_fft), stride=(1, self.hop))
        return total[:, 0, 0, self.margin : n_samples - self.margin]


class Encoder(nn.Module):
    """wav [B, 1, N] → latent [B, D, ceil(N / hop_length)]."""

    def __init__(self, config: SpectralConfig, latent_dim: int) -> None:
        super().__init__()
        self.hop_length = config.hop_length
        self.frames = Frames(config.n_fft, config.stft_hop)
        fine, coarse, step = config.fine_dim, config.coarse_dim, config.frames_per_code
        self.enter = nn.Conv1d(config.n_fft // 2 + 1, fine, 1)
        self.fine = _blocks(config.fine_blocks[0], fine, config.expansion)
        self.down = nn.Conv1d(fine, coarse, step, step)
        self.coarse = _blocks(config.coarse_blocks[0], coarse, config.expansion)
        self.leave = nn.Conv1d(coarse, latent_dim, 1)

    def forward(self, wav: Tensor) -> Tensor:
        wav = F.pad(wav[:, 0].float(), (0, -wav.shape[-1] % self.hop_length))
        loudness = (self.frames.analyse(wav).abs() + FLOOR).log()
        x = self.fine(self.enter(loudness / 4 + 1))  # about -1.3 (silence) to 1.5
        latent: Tensor = self.leave(self.coarse(self.down(x)))
        return latent


class Decoder(nn.Module):
    """Quantized latent [B, D, T] → wav [B, 1, T · hop_length]."""

    def __init__(self, config: SpectralConfig, latent_dim: int) -> None:
        super().__init__()
        self.hop_length = config.hop_length
        self.iterations = config.griffin_lim_iterations
        self.frames = Frames(config.n_fft, config.stft_hop)
        fine, coarse, step = config.fine_dim, config.coarse_dim, config.frames_per_code
        self.enter = nn.Conv1d(latent_dim, coarse, 3, padding=1)
        self.coarse = _blocks(config.coarse_blocks[1], coarse, config.expansion)
        self.up = nn.ConvTranspose1d(coarse, fine, step, step)
        self.fine = _blocks(config.fine_blocks[1], fine, config.expansion)
        self.norm = nn.LayerNorm(fine)
        self.leave = nn.Linear(fine, config.n_fft // 2 + 1)

    def magnitude(self, latent: Tensor) -> Tensor:
        """latent [B, D, T] → STFT magnitudes [B, n_fft/2 + 1, T · frames_per_code]."""
        x = self.fine(self.up(self.coarse(self.enter(latent))))
        loudness = 4 * (self.leave(self.norm(x.transpose(1, 2))).float().transpose(1, 2) - 1)
        return (loudness.clamp(max=MAX_LOG_MAGNITUDE).exp() - FLOOR).clamp(min=0.0)

    def forward(self, latent: Tensor, phase_of: Tensor | None = None) -> Tensor:
        """phase_of: in training, the wav [B, 1, N] whose phase to borrow; the result has whole frames, N or more."""
        magnitude = self.magnitude(latent)
        if phase_of is None:
            return self.griffin_lim(magnitude)[:, None]
        wav = F.pad(phase_of[:, 0].float(), (0, -phase_of.shape[-1] % self.hop_length))
        return self.frames.synthesise(torch.polar(magnitude, self.frames.analyse(wav).angle()))[:, None]

    def griffin_lim(self, magnitude: Tensor) -> Tensor:
        """Magnitudes [B, F, T] → wav [B, N] whose STFT has them; always the same for the same magnitudes."""
        # The same noise for every row: a clip's phases do not depend on its batch.
        noise = torch.rand(magnitude.shape[1:], generator=torch.Generator().manual_seed(0)).to(magnitude.device)
        phase = torch.polar(torch.ones_like(noise), 2 * torch.pi * noise)
        before = torch.zeros_like(magnitude, dtype=phase.dtype)
        for _ in range(self.iterations):
            consistent = self.frames.analyse(self.frames.synthesise(magnitude * phase))
            phase = consistent + MOMENTUM * (consistent - before)
            phase = phase / (phase.abs() + 1e-9)
            before = consistent
        return self.frames.synthesise(magnitude * phase)
