"""Settings of the light codec, whose networks work on STFT frames. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ConfigDict

from audiogen_cli.training.recipe import STRICT, Amount, Few, Width

if TYPE_CHECKING:
    from audiogen_cli.codec.streaming import CodecNetwork


@dataclass(frozen=True)
class FlowConfig:
    """Settings of the flow that draws the detail which codes leave out (`light/flow.py`)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    channels: tuple[Width, Width, Width] = (64, 96, 128)  # of the U-Net, at 1/2, 1/4 and 1/8 of the frames and mel bins
    dim: Width = 256  # width of the blocks between them, which run over frames of codes
    code_blocks: Few = 2  # number of those blocks
    steps: Few = 4  # from noise to detail, of two passes through the network each

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("steps must be at least 1")


@dataclass(frozen=True)
class SpectralConfig:
    """Encoder and decoder of log-mel frames; ours, for models that must run on a laptop's CPU."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: Literal["spectral"] = "spectral"
    n_fft: Width = 512
    stft_hop: Width = 160
    n_mels: Width = 80
    frames_per_code: Width = 8  # STFT frames that share one latent
    noise_power: Amount = 1.0  # of white noise's magnitudes in the sound: 0 hums, 1 is as rough as noise
    flow: FlowConfig | None = None  # draws the detail that codes leave out; None: no detail

    def __post_init__(self) -> None:
        if self.n_fft < self.stft_hop or (self.n_fft - self.stft_hop) % 2:
            raise ValueError("n_fft - stft_hop must be even and not negative")
        if self.flow and (self.n_mels % 8 or self.frames_per_code % 8):
            raise ValueError(
                "a flow halves frames and mel bins three times: n_mels and frames_per_code must be multiples of 8"
            )

    @property
    def hop_length(self) -> int:
        """Return the samples per frame of codes."""
        return self.stft_hop * self.frames_per_code

    def build(self, latent_dim: int, sample_rate: int) -> tuple[CodecNetwork, CodecNetwork]:
        """Build an encoder and a decoder with fresh weights."""
        from audiogen_cli.codec.light.spectral import SpectralDecoder, SpectralEncoder

        return SpectralEncoder(self, latent_dim, sample_rate), SpectralDecoder(self, latent_dim, sample_rate)

    @property
    def n_bins(self) -> int:
        """Return the frequency bins of an STFT frame."""
        return self.n_fft // 2 + 1
