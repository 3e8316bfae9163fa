"""A light encoder and decoder on STFT frames: the embedded model's alternative to SEANet.

# ours: the waveform networks of sec. 3.1 spend most of their work at thousands of frames per second. Here an STFT
does the analysis and an inverse STFT the synthesis, and what is coded between them is loudness only: the log magnitudes
of a few frames, as their principal components. A few codes draw no more than a sound's outline, which alone makes rain
a hum: a flow (`codec/flow.py`) draws the detail, or the sound is as rough as the white noise whose phases it starts
from. No phase is coded: a few rounds of Griffin and Lim's algorithm (1984) make them fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen_cli.codec.light.config import SpectralConfig
from audiogen_cli.codec.light.flow import Flow

FLOOR = 3e-4  # added to magnitudes before the logarithm: about -85 dB of a full-scale sine's
FAINT = 0.01  # of the magnitude wanted: what is fainter tells no phase
KNEE, CEILING = 0.7, 0.99  # of full scale, see `soft_limit`
NOISE_BLOCK = 1 << 14  # samples drawn at once
BLOCK, CONTEXT = 64, 16  # frames of codes that a flow draws at once, and sees to either side of them
GRIFFIN_LIM_ITERS = 4  # Griffin and Lim 1984
DETAIL_SEED = 1  # of the noise that detail is made of
MAX_LOG_MAGNITUDE = 4.0  # e^4 is above any bin of full-scale audio at these window lengths


class Frames(nn.Module):
    """STFT and inverse whose frames tile the signal: N samples, a multiple of the hop, are N / hop frames."""

    window: Tensor

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.margin = (n_fft - hop) // 2
        self.overlap = -(-self.margin // hop)  # frames to either side of one that share samples with it
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


class Loudness(nn.Module):
    """Log magnitudes of STFT frames, averaged over bands of the mel scale.

    Squared distances between such frames weigh frequencies as the mel spectrograms of eq. 1 do, and the bands of the
    treble average what a noisy sound's single bins do at random.
    """

    bands: Tensor
    centres: Tensor

    def __init__(self, config: SpectralConfig, sample_rate: int) -> None:
        super().__init__()
        self.hop_length, self.step = config.hop_length, config.frames_per_code
        self.noise_power, self.griffin_lim_iters = config.noise_power, GRIFFIN_LIM_ITERS
        self.frames = Frames(config.n_fft, config.stft_hop)
        bands, centres = mel_bands(config.n_mels, config.n_bins, sample_rate)
        self.register_buffer("bands", bands, persistent=False)  # [M, bins], rows that sum to 1
        self.register_buffer("centres", between(centres, config.n_bins), persistent=False)  # [bins, M]

    def forward(self, wav: Tensor) -> Tensor:
        """wav [B, 1, N] → patches [B, ceil(N / hop_length), frames_per_code · n_mels]."""
        wav = F.pad(wav[:, 0].float(), (0, -wav.shape[-1] % self.hop_length))
        with exactly(wav):
            loudness = (self.bands @ self.frames.analyse(wav).abs() + FLOOR).log().transpose(1, 2)
        return loudness.unflatten(1, (-1, self.step)).flatten(2)

    @property
    def reach(self) -> int:
        """Frames to either side of a sample that `to_wav` makes it of."""
        return 1 + 2 * self.frames.overlap * (1 + self.griffin_lim_iters)

    def to_frames(self, patches: Tensor) -> Tensor:
        """Patches [B, T, frames_per_code · n_mels] → the log magnitudes of the bands [B, F, M]."""
        return patches.unflatten(2, (self.step, -1)).flatten(1, 2)

    def to_bins(self, loudness: Tensor) -> Tensor:
        """Log magnitudes of the bands [B, F, M] → of the bins [B, n_bins, F]."""
        with exactly(loudness):
            return (self.centres @ loudness.transpose(1, 2)).clamp(max=MAX_LOG_MAGNITUDE)

    def excitation(self, noise: Tensor) -> Tensor:
        """Spectrum [1 or B, n_bins, F] of white noise [N] or [B, N], variance 1, scaled to a median magnitude of 1."""
        median = (self.frames.window.square().mean() * math.log(2)).sqrt()  # Rayleigh's
        return self.frames.analyse(noise.view(-1, noise.shape[-1]).to(median.device)) / median

    def to_wav(self, patches: Tensor, noise: Tensor) -> Tensor:
        """Patches [B, T, frames_per_code · n_mels] → wav [B, 1, T · hop_length] of these magnitudes.

        noise: [T · hop_length], white, of variance 1: the phases to begin with. Every round makes phases fit the
        magnitudes, and one another, better.
        """
        excitation = self.excitation(noise)
        magnitude = (self.to_bins(self.to_frames(patches)).exp() - FLOOR).clamp(min=0.0)
        magnitude = magnitude * excitation.abs() ** self.noise_power
        spectrum = magnitude * _phases(excitation, 0.0)
        for _ in range(self.griffin_lim_iters):
            heard = self.frames.analyse(self.frames.synthesise(spectrum))
            spectrum = magnitude * _phases(heard, FAINT * magnitude)
        return soft_limit(self.frames.synthesise(spectrum)[:, None])


def exactly(x: Tensor) -> torch.autocast:
    """Where a bf16 training, too, computes in float32: it must see the loudness, and the codes, that will be."""
    return torch.autocast(x.device.type, enabled=False)


def _phases(spectrum: Tensor, least: Tensor | float) -> Tensor:
    """Complex numbers of absolute value 1, or less where the spectrum is not far above `least`: no phase is clear."""
    return spectrum / (spectrum.abs() + least).clamp(min=1e-8)


def mel_bands(n_mels: int, n_bins: int, sample_rate: int) -> tuple[Tensor, Tensor]:
    """Triangular bands of equal width on the HTK mel scale that average n_bins from 0 Hz to Nyquist.

    Returns [n_mels, n_bins], whose rows sum to 1, and their centres in bins [n_mels]. A band narrower than a bin is
    its nearest bin; torchaudio's would be empty, and its import takes time before a first sound.
    """
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, n_mels + 2) / 2595) - 1) / (sample_rate / 2) * (n_bins - 1)
    low, centre, high = (edges[i : i + n_mels, None] for i in range(3))
    bins = torch.arange(n_bins)
    bands = torch.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clamp(min=0.0)
    nearest = F.one_hot(centre[:, 0].round().long(), n_bins).float()
    bands = torch.where(high - low < 2, nearest, bands)
    return bands / bands.sum(1, keepdim=True), (bands * bins).sum(1) / bands.sum(1)


def between(centres: Tensor, n_bins: int) -> Tensor:
    """[n_bins, M]: linear interpolation of values at ascending `centres` [M], which need not be distinct, in bins."""
    bins = torch.arange(n_bins, dtype=centres.dtype)
    above = torch.searchsorted(centres, bins).clamp(1, len(centres) - 1)
    low, high = centres[above - 1], centres[above]
    share = ((bins - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)[:, None]
    return (1 - share) * F.one_hot(above - 1, len(centres)) + share * F.one_hot(above, len(centres))


class WhiteNoise:
    """The noise that every sound is made of, from its beginning: a clip sounds the same whatever its batch."""

    def __init__(self, seed: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._drawn = torch.empty(0)

    def take(self, n_samples: int) -> Tensor:
        """The next samples [n_samples], float32 on the CPU."""
        # Drawn in whole blocks: what randn gives depends on how much it is asked for.
        n_blocks = max(0, -(-(n_samples - len(self._drawn)) // NOISE_BLOCK))
        blocks = [torch.randn(NOISE_BLOCK, generator=self._generator) for _ in range(n_blocks)]
        noise, self._drawn = torch.cat([self._drawn, *blocks]).tensor_split([n_samples])
        return noise


def soft_limit(wav: Tensor) -> Tensor:
    """Bend what lies above KNEE so that it stays below CEILING: noise peaks higher than the sound it stands for."""
    room = CEILING - KNEE
    bent = KNEE + room * ((wav.abs() - KNEE) / room).tanh()
    return torch.where(wav.abs() > KNEE, bent * wav.sign(), wav)


class SpectralEncoder(nn.Module):
    """wav [B, 1, N] → latent [B, D, ceil(N / hop_length)]."""

    def __init__(self, config: SpectralConfig, latent_dim: int, sample_rate: int) -> None:
        super().__init__()
        self.loudness = Loudness(config, sample_rate)
        self.project = nn.Linear(config.frames_per_code * config.n_mels, latent_dim)
        # ours: it stays at the principal components. Trained with the rest it drifted away from them, and fewer of
        # the reconstructed sounds were recognised.
        self.project.requires_grad_(False)

    def forward(self, wav: Tensor) -> Tensor:
        with exactly(wav):
            latent: Tensor = self.project(self.loudness(wav))
        return latent.transpose(1, 2)


class SpectralDecoder(nn.Module):
    """Quantized latent [B, D, T] → wav [B, 1, T · hop_length]."""

    def __init__(self, config: SpectralConfig, latent_dim: int, sample_rate: int) -> None:
        super().__init__()
        self.loudness = Loudness(config, sample_rate)
        self.expand = nn.Linear(latent_dim, config.frames_per_code * config.n_mels)
        self.flow: Flow | None = None
        if config.flow:
            self.flow = Flow(config.flow, latent_dim, config.n_mels)
            self.expand.requires_grad_(False)  # the outline that the detail is drawn on

    def outline(self, latent: Tensor) -> Tensor:
        """latent [B, D, T] → patches [B, T, frames_per_code · n_mels] as `Loudness` has them."""
        patches: Tensor = self.expand(latent.transpose(1, 2)).float()
        return patches

    def draw(self, latent: Tensor, noise: Tensor) -> Tensor:
        """latent [B, D, T] and noise [T, frames_per_code, n_mels] → patches as `outline` gives them, with detail."""
        assert self.flow is not None
        outline = self.loudness.to_frames(self.outline(latent))
        loudness: Tensor = self.flow(outline, latent.transpose(1, 2), noise.flatten(0, 1).to(latent.device))
        return loudness.unflatten(1, (-1, self.loudness.step)).flatten(2)

    def forward(self, latent: Tensor) -> Tensor:
        n_samples = latent.shape[-1] * self.loudness.hop_length
        return self.loudness.to_wav(Drawing(self)(latent, last=True), WhiteNoise().take(n_samples))

    def loss(self, latent: Tensor, wav: Tensor) -> Tensor:
        """How far what is drawn is from wav [B, 1, N].

        Without a flow, L1 + root mean square distance (as eq. 1) between the patches of both.
        """
        with exactly(wav):
            wanted, outline = self.loudness(wav), self.outline(latent)
        difference = outline - wanted
        if self.flow is None:
            return difference.abs().mean() + (difference.square().mean() + 1e-12).sqrt()
        with exactly(wav), torch.no_grad():
            spread = (difference @ self.expand.weight).square().mean((0, 1)).sqrt()  # of the quantizer's error
            blur = torch.rand(len(wav), device=wav.device)
            blurred = latent + blur[:, None, None] * spread[:, None] * torch.randn_like(latent)
            outline = self.loudness.to_frames(self.outline(blurred))
        return self.flow.loss(self.loudness.to_frames(wanted), outline, blurred.transpose(1, 2), blur)


class Drawing:
    """The patches of one signal (or batch of signals) whose latents come block by block.

    A flow looks far, and at every step anew. So it draws BLOCK frames at a time, always the same ones of a signal, and
    sees CONTEXT more to either side.
    """

    def __init__(self, decoder: SpectralDecoder) -> None:
        self.decoder, self.noise = decoder, WhiteNoise(DETAIL_SEED)
        self.held: Tensor | None = None  # [B, D, T]
        self.shape = decoder.loudness.step, len(decoder.loudness.bands)  # of a frame's detail
        self.held_noise = torch.empty(0, *self.shape)
        self.n_past = 0  # frames held that are drawn

    def __call__(self, latent: Tensor, last: bool) -> Tensor:
        """The next latents [B, D, t], t ≥ 0 → the patches [B, t', frames_per_code · n_mels] that are now known."""
        if self.decoder.flow is None:
            return self.decoder.outline(latent)
        noise = self.noise.take(latent.shape[2] * math.prod(self.shape)).view(-1, *self.shape)
        self.held_noise = torch.cat([self.held_noise, noise])
        self.held = latent if self.held is None else torch.cat([self.held, latent], 2)
        patches = [self.decoder.outline(latent[..., :0])]
        while self.held.shape[2] >= self.n_past + BLOCK + CONTEXT or (last and self.held.shape[2] > self.n_past):
            seen, known = self.n_past + BLOCK + CONTEXT, min(self.n_past + BLOCK, self.held.shape[2])
            drawn = self.decoder.draw(self.held[..., :seen], self.held_noise[:seen])
            patches.append(drawn[:, self.n_past : known])
            forgotten = max(0, known - CONTEXT)
            self.held, self.held_noise = self.held[..., forgotten:].clone(), self.held_noise[forgotten:].clone()
            self.n_past = known - forgotten
        return torch.cat(patches, 1)


@torch.no_grad()
def init_from_pca(encoder: SpectralEncoder, decoder: SpectralDecoder, batches: Iterable[Tensor]) -> None:
    """Set both linear maps to the principal components of the patches of some batches of wav [B, 1, N]."""
    patches = torch.cat([encoder.loudness(wav).flatten(0, 1) for wav in batches])
    centre = patches.mean(0)
    centred = patches - centre
    _, vectors = torch.linalg.eigh((centred.T @ centred / len(patches)).double())
    components = vectors.flip(1)[:, : encoder.project.out_features].T.to(patches.dtype)  # [D, patch]
    encoder.project.weight.copy_(components)
    encoder.project.bias.copy_(-components @ centre)
    decoder.expand.weight.copy_(components.T)
    decoder.expand.bias.copy_(centre)
