"""A light encoder and decoder on STFT frames: the embedded model's alternative to SEANet.

# ours: the waveform networks of sec. 3.1 spend most of their work at thousands of frames per second. Here an STFT
does the analysis and an inverse STFT the synthesis. Only magnitudes are coded between them: the log-mel spectrogram of
a few frames at a time, as principal components. A few codes give only a sound's outline, which alone makes rain a hum.
A flow (`light/flow.py`) draws the detail; without one, the white noise whose phases a sound starts from makes it rough.
Phases are not coded: they begin as a tone's or noise's (`light/phases.py`), and an iteration of Griffin and Lim's
algorithm (1984) makes them fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen_cli.codec.config import SpectralConfig
from audiogen_cli.codec.light.flow import Flow
from audiogen_cli.codec.light.phases import tonality, tone_angles
from audiogen_cli.codec.streaming import CodecNetwork, StreamingLayer, StreamingSequential, StreamState

FLOOR = 3e-4  # added to magnitudes before the logarithm: about -85 dB of a full-scale sine's
FAINT = 0.01  # of the magnitude wanted: below it no phase is clear
UNCLEAR = 0.1  # of 1: nor where a tone and noise cancel each other
KNEE, CEILING = 0.7, 0.99  # of full scale, see `soft_limit`
NOISE_BLOCK = 1 << 14  # samples drawn at once
BLOCK, CONTEXT = 64, 16  # frames of codes that a flow draws at once, and reads on either side of them
DETAIL_SEED = 1  # of the noise that becomes detail
MAX_LOG_MAGNITUDE = 4.0  # e^4 is above any bin of full-scale audio at these window lengths


class STFT(nn.Module):
    """STFT and its inverse, with N / hop frames for N samples, a multiple of the hop."""

    window: Tensor

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.margin = (n_fft - hop) // 2
        self.overlap = -(-self.margin // hop)  # frames on either side of one that share samples with it
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def analyze(self, wav: Tensor) -> Tensor:
        """Transform wav [B, N] to a complex spectrum [B, n_fft/2 + 1, N / hop]."""
        padded = F.pad(wav, (self.margin, self.margin))
        frames = padded.unfold(-1, self.n_fft, self.hop) * self.window
        return torch.fft.rfft(frames, norm="ortho").transpose(1, 2)

    def synthesize(self, spectrum: Tensor) -> Tensor:
        """Transform a complex spectrum [B, n_fft/2 + 1, T] to wav [B, T · hop], by weighted overlap-add."""
        n_frames = spectrum.shape[-1]
        frames = torch.fft.irfft(spectrum.transpose(1, 2), self.n_fft, norm="ortho") * self.window
        energy = (self.window**2).expand(1, n_frames, -1)
        return self._overlap_add(frames) / self._overlap_add(energy).clamp(min=1e-6)

    def _overlap_add(self, frames: Tensor) -> Tensor:
        n_samples = (frames.shape[1] - 1) * self.hop + self.n_fft
        total = F.fold(frames.transpose(1, 2), (1, n_samples), (1, self.n_fft), stride=(1, self.hop))
        return total[:, 0, 0, self.margin : n_samples - self.margin]


class LogMel(nn.Module):
    """Log-mel spectrograms: log magnitudes of STFT frames, averaged over bands of the mel scale.

    Squared distances between them weigh frequencies as the mel spectrograms of eq. 1 do, and high bands average the
    random bins of a noisy sound.
    """

    bands: Tensor
    centers: Tensor

    def __init__(self, config: SpectralConfig, sample_rate: int) -> None:
        super().__init__()
        self.hop_length, self.step = config.hop_length, config.frames_per_code
        self.noise_power = config.noise_power
        self.stft = STFT(config.n_fft, config.stft_hop)
        bands, centers = mel_bands(config.n_mels, config.n_bins, sample_rate)
        self.register_buffer("bands", bands, persistent=False)  # [M, bins], rows that sum to 1
        self.register_buffer("centers", interpolation_matrix(centers, config.n_bins), persistent=False)  # [bins, M]

    def forward(self, wav: Tensor) -> Tensor:
        """Transform wav [B, 1, N] to patches [B, ceil(N / hop_length), frames_per_code · n_mels]."""
        wav = F.pad(wav[:, 0].float(), (0, -wav.shape[-1] % self.hop_length))
        with no_autocast(wav):
            log_mel = (self.bands @ self.stft.analyze(wav).abs() + FLOOR).log().transpose(1, 2)
        return log_mel.unflatten(1, (-1, self.step)).flatten(2)

    @property
    def reach(self) -> int:
        """Return the number of frames on either side of a sample that `to_wav` computes it from."""
        return 1 + 4 * self.stft.overlap

    def to_frames(self, patches: Tensor) -> Tensor:
        """Unfold patches [B, T, frames_per_code · n_mels] to the log magnitudes of the bands [B, F, M]."""
        return patches.unflatten(2, (self.step, -1)).flatten(1, 2)

    def to_bins(self, log_mel: Tensor) -> Tensor:
        """Interpolate log magnitudes of the bands [B, F, M] to those of the bins [B, n_bins, F]."""
        with no_autocast(log_mel):
            return (self.centers @ log_mel.transpose(1, 2)).clamp(max=MAX_LOG_MAGNITUDE)

    def excitation(self, noise: Tensor) -> Tensor:
        """Return the spectrum [1 or B, n_bins, F] of white noise [N] or [B, N], scaled to a median magnitude of 1."""
        median = (self.stft.window.square().mean() * math.log(2)).sqrt()  # Rayleigh's
        return self.stft.analyze(noise.view(-1, noise.shape[-1]).to(median.device)) / median

    def to_wav(self, patches: Tensor, noise: Tensor, angles: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Synthesize patches [B, T, frames_per_code · n_mels] to wav [B, 1, T · hop_length].

        noise: [T · hop_length], white, of variance 1; its phases are the first ones where there is no tone. An
        iteration makes them fit the magnitudes, and one another, better. angles: of tones in the frame before the
        first, [B, n_bins]; none: 0. Returns those of every frame [B, n_bins, F], too.
        """
        excitation = self.excitation(noise)
        magnitude = (self.to_bins(self.to_frames(patches)).exp() - FLOOR).clamp(min=0.0)
        angles = magnitude.new_zeros(magnitude.shape[:2]) if angles is None else angles
        angles = tone_angles(magnitude, math.tau * self.stft.hop / self.stft.n_fft, angles)
        tonal = tonality(magnitude)
        # A frame's middle is half a window behind its first sample: half a turn a bin.
        tone = torch.polar(tonal, angles + math.pi * torch.arange(tonal.shape[1], device=tonal.device)[:, None])
        first = tone + (1 - tonal) * _phases(excitation, 0.0)
        magnitude = magnitude * excitation.abs() ** (self.noise_power * (1 - tonal))
        spectrum = magnitude * _phases(first, UNCLEAR)
        possible = self.stft.analyze(self.stft.synthesize(spectrum))
        spectrum = magnitude * _phases(possible, FAINT * magnitude)
        return soft_limit(self.stft.synthesize(spectrum)[:, None]), angles


def no_autocast(x: Tensor) -> torch.autocast:
    """Return a context that computes in float32 also in bf16 training, with the spectra and codes of inference."""
    return torch.autocast(x.device.type, enabled=False)


def _phases(spectrum: Tensor, least: Tensor | float) -> Tensor:
    """Scale complex numbers to an absolute value of 1, or less where they are not far above `least`."""
    return spectrum / (spectrum.abs() + least).clamp(min=1e-8)


def mel_bands(n_mels: int, n_bins: int, sample_rate: int) -> tuple[Tensor, Tensor]:
    """Build triangular bands of equal width on the HTK mel scale that average n_bins from 0 Hz to Nyquist.

    Returns [n_mels, n_bins], whose rows sum to 1, and their centers in bins [n_mels]. A band narrower than a bin is
    its nearest bin; torchaudio's would be empty, and its import takes time before a first sound.
    """
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, n_mels + 2) / 2595) - 1) / (sample_rate / 2) * (n_bins - 1)
    low, center, high = (edges[i : i + n_mels, None] for i in range(3))
    bins = torch.arange(n_bins)
    bands = torch.minimum((bins - low) / (center - low), (high - bins) / (high - center)).clamp(min=0.0)
    nearest = F.one_hot(center[:, 0].round().long(), n_bins).float()
    bands = torch.where(high - low < 2, nearest, bands)
    return bands / bands.sum(1, keepdim=True), (bands * bins).sum(1) / bands.sum(1)


def interpolation_matrix(centers: Tensor, n_bins: int) -> Tensor:
    """Build the matrix [n_bins, M] that interpolates values at ascending `centers` [M] (bins, not all distinct)."""
    bins = torch.arange(n_bins, dtype=centers.dtype)
    above = torch.searchsorted(centers, bins).clamp(1, len(centers) - 1)
    low, high = centers[above - 1], centers[above]
    share = ((bins - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)[:, None]
    return (1 - share) * F.one_hot(above - 1, len(centers)) + share * F.one_hot(above, len(centers))


class WhiteNoise:
    """Seeded noise that every sound starts from: a clip sounds the same whatever is decoded beside it."""

    def __init__(self, seed: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._drawn = torch.empty(0)

    def draw(self, n_samples: int) -> Tensor:
        """Draw the next samples [n_samples], float32 on the CPU."""
        # Drawn in whole blocks: what randn gives depends on how much it is asked for.
        n_blocks = max(0, -(-(n_samples - len(self._drawn)) // NOISE_BLOCK))
        blocks = [torch.randn(NOISE_BLOCK, generator=self._generator) for _ in range(n_blocks)]
        noise, self._drawn = torch.cat([self._drawn, *blocks]).tensor_split([n_samples])
        return noise


def soft_limit(wav: Tensor) -> Tensor:
    """Compress samples above KNEE to stay below CEILING: noise peaks higher than the sound it replaces."""
    room = CEILING - KNEE
    bent = KNEE + room * ((wav.abs() - KNEE) / room).tanh()
    return torch.where(wav.abs() > KNEE, bent * wav.sign(), wav)


class SpectralEncoder(CodecNetwork):
    """wav [B, 1, N] → latent [B, D, ceil(N / hop_length)]."""

    def __init__(self, config: SpectralConfig, latent_dim: int, sample_rate: int) -> None:
        super().__init__()
        self.log_mel = LogMel(config, sample_rate)
        self.project = nn.Linear(config.frames_per_code * config.n_mels, latent_dim)
        # ours: it stays at the principal components. Trained with the rest it moved away from them, and fewer of the
        # reconstructed sounds were recognized.
        self.project.requires_grad_(False)

    def forward(self, wav: Tensor, lengths: Sequence[int] = ()) -> Tensor:
        """Encode; what follows a row that ends before wav does is silence, as it is behind wav's own end."""
        with no_autocast(wav):
            latent: Tensor = self.project(self.log_mel(wav))
        return latent.transpose(1, 2)

    def streaming(self) -> StreamingLayer:
        return StreamingEncoder(self)


class SpectralDecoder(CodecNetwork):
    """Quantized latent [B, D, T] → wav [B, 1, T · hop_length]."""

    def __init__(self, config: SpectralConfig, latent_dim: int, sample_rate: int) -> None:
        super().__init__()
        self.log_mel = LogMel(config, sample_rate)
        self.expand = nn.Linear(latent_dim, config.frames_per_code * config.n_mels)
        self.flow: Flow | None = None
        if config.flow:
            self.flow = Flow(config.flow, latent_dim, config.n_mels)
            self.expand.requires_grad_(False)  # the outline that the detail is drawn on

    def outline(self, latent: Tensor) -> Tensor:
        """Compute latent [B, D, T] → patches [B, T, frames_per_code · n_mels], as `LogMel` has them, without detail."""
        patches: Tensor = self.expand(latent.transpose(1, 2)).float()
        return patches

    def draw(self, latent: Tensor, noise: Tensor) -> Tensor:
        """Compute patches as `outline` does, with detail. latent: [B, D, T]; noise: [T, frames_per_code, n_mels]."""
        assert self.flow is not None
        outline = self.log_mel.to_frames(self.outline(latent))
        log_mel: Tensor = self.flow(outline, latent.transpose(1, 2), noise.flatten(0, 1).to(latent.device))
        return log_mel.unflatten(1, (-1, self.log_mel.step)).flatten(2)

    def forward(self, latent: Tensor) -> Tensor:
        return self.streaming()(latent.transpose(1, 2), {}, last=True).transpose(1, 2)

    def streaming(self) -> StreamingLayer:
        return StreamingSequential([StreamingDetail(self), StreamingSynthesis(self.log_mel)])

    def loss(self, latent: Tensor, wav: Tensor) -> Tensor:
        """Compute the flow's loss for wav [B, 1, N].

        Without a flow: L1 + each clip's root mean square distance (as `MelLoss`) between the patches of wav and latent.
        """
        with no_autocast(wav):
            wanted, outline = self.log_mel(wav), self.outline(latent)
        difference = outline - wanted
        if self.flow is None:
            return difference.abs().mean() + (difference.square().mean((1, 2)) + 1e-12).sqrt().mean()
        with no_autocast(wav), torch.no_grad():
            spread = (difference @ self.expand.weight).square().mean((0, 1)).sqrt()  # of the quantizer's error
            blur = torch.rand(len(wav), device=wav.device)
            blurred = latent + blur[:, None, None] * spread[:, None] * torch.randn_like(latent)
            outline = self.log_mel.to_frames(self.outline(blurred))
        return self.flow.loss(self.log_mel.to_frames(wanted), outline, blurred.transpose(1, 2), blur)


class StreamingEncoder(StreamingLayer):
    """`SpectralEncoder`, which reads half a window ahead: run on new patches with a margin of old ones."""

    def __init__(self, encoder: SpectralEncoder) -> None:
        self.encoder, self.hop_length = encoder, encoder.log_mel.hop_length
        self.margin = -(-encoder.log_mel.stft.margin // self.hop_length)  # patches

    def __call__(self, x: Tensor, state: StreamState, last: bool) -> Tensor:
        n_past, old = state.get(self, (0, x[:, :0]))
        x = torch.cat([old, x], 1)
        n_known = -(-x.shape[1] // self.hop_length) if last else x.shape[1] // self.hop_length - self.margin
        if n_known <= n_past:
            state[self] = n_past, x
            return x.new_zeros(len(x), 0, self.encoder.project.out_features)
        n_kept = min(n_known, self.margin)
        state[self] = n_kept, x[:, (n_known - n_kept) * self.hop_length :].clone()
        return self.encoder(x.transpose(1, 2)).transpose(1, 2)[:, n_past:n_known]


class StreamingDetail(StreamingLayer):
    """Latents [B, T, D] → patches of `SpectralDecoder`, with detail if it has a flow.

    A flow reads a long context, and all of it again at every step. So it draws BLOCK frames at a time, always the same
    ones of a signal, and reads CONTEXT more on either side.
    """

    def __init__(self, decoder: SpectralDecoder) -> None:
        self.decoder = decoder
        self.shape = decoder.log_mel.step, len(decoder.log_mel.bands)  # of a frame's detail

    def __call__(self, x: Tensor, state: StreamState, last: bool) -> Tensor:
        latent = x.transpose(1, 2)
        if self.decoder.flow is None:
            return self.decoder.outline(latent)
        begin = WhiteNoise(DETAIL_SEED), torch.empty(0, *self.shape), latent[..., :0], 0
        source, old_noise, old, n_past = state.get(self, begin)  # n_past: old frames that are drawn
        noise = torch.cat([old_noise, source.draw(latent.shape[2] * math.prod(self.shape)).view(-1, *self.shape)])
        latent = torch.cat([old, latent], 2) if old.shape[2] else latent
        patches = [self.decoder.outline(latent[..., :0])]
        while latent.shape[2] >= n_past + BLOCK + CONTEXT or (last and latent.shape[2] > n_past):
            n_read, n_known = n_past + BLOCK + CONTEXT, min(n_past + BLOCK, latent.shape[2])
            patches.append(self.decoder.draw(latent[..., :n_read], noise[:n_read])[:, n_past:n_known])
            n_dropped = max(0, n_known - CONTEXT)
            latent, noise, n_past = latent[..., n_dropped:].clone(), noise[n_dropped:].clone(), n_known - n_dropped
        state[self] = source, noise, latent, n_past
        return torch.cat(patches, 1)


class StreamingSynthesis(StreamingLayer):
    """`LogMel.to_wav`: run on new patches with a margin of old ones, as many as samples are computed from."""

    def __init__(self, log_mel: LogMel) -> None:
        self.log_mel = log_mel
        self.margin = -(-log_mel.reach // log_mel.step)  # patches

    def __call__(self, x: Tensor, state: StreamState, last: bool) -> Tensor:
        hop_length = self.log_mel.hop_length
        source, n_past, old, old_noise, angles = state.get(self) or (WhiteNoise(), 0, x[:, :0], torch.empty(0), None)
        noise = torch.cat([old_noise, source.draw(x.shape[1] * hop_length)])
        x = torch.cat([old, x], 1)
        n_known = x.shape[1] if last else x.shape[1] - self.margin
        if n_known <= n_past:
            state[self] = source, n_past, x, noise, angles
            return x.new_zeros(len(x), 0, 1)
        n_kept = min(n_known, self.margin)
        n_dropped = n_known - n_kept
        wav, turned = self.log_mel.to_wav(x, noise, angles)
        angles = turned[..., n_dropped * self.log_mel.step - 1].clone() if n_dropped else angles
        state[self] = source, n_kept, x[:, n_dropped:].clone(), noise[n_dropped * hop_length :].clone(), angles
        return wav.transpose(1, 2)[:, n_past * hop_length : n_known * hop_length]


@torch.no_grad()
def init_from_pca(encoder: SpectralEncoder, decoder: SpectralDecoder, batches: Iterable[Tensor]) -> None:
    """Set both linear maps to the principal components of the patches of some batches of wav [B, 1, N]."""
    patches = torch.cat([encoder.log_mel(wav).flatten(0, 1) for wav in batches])
    center = patches.mean(0)
    centered = patches - center
    _, vectors = torch.linalg.eigh((centered.T @ centered / len(patches)).cpu().double())  # Apple's GPU has no float64
    components = vectors.flip(1)[:, : encoder.project.out_features].T.to(patches)  # [D, patch]
    encoder.project.weight.copy_(components)
    encoder.project.bias.copy_(-components @ center)
    decoder.expand.weight.copy_(components.T)
    decoder.expand.bias.copy_(center)
