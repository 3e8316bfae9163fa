"""Settings of a codec and of its training (sec. 3.1). Imports no torch.

The defaults are the paper's ×32 codec: `recipes/codec-x32.yaml` says the same numbers, each with its source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from audiogen_cli.errors import InputError
from audiogen_cli.training.recipe import (
    STRICT,
    Amount,
    Count,
    Few,
    Mean,
    Number,
    Positive,
    Rate,
    Schedule,
    Seed,
    Share,
    Streams,
    Width,
)

if TYPE_CHECKING:
    from audiogen_cli.codec.streaming import CodecNetwork

Stride = Annotated[int, Field(ge=1, le=1024)]
Strides = Annotated[tuple[Stride, ...], Field(min_length=1, max_length=10)]
Variation = Annotated[float, Field(ge=0, le=0.5)]
MEL_WINDOWS = tuple(2**i for i in range(5, 12))  # samples; eq. 1


@dataclass(frozen=True)
class SEANetConfig:
    """The paper's encoder E and decoder G on the waveform (sec. 3.1)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: Literal["seanet"] = "seanet"
    channels: Annotated[int, Field(ge=1, le=4096)] = 32  # C; doubled by every block
    strides: Strides = (2, 2, 2, 4)
    lstm_layers: Annotated[int, Field(ge=0, le=16)] = 2
    norm: Literal["layer", "weight", "none"] = "layer"
    pad_mode: Literal["constant", "reflect"] = "constant"
    causal: bool = False

    @property
    def hop_length(self) -> int:
        """Return the samples per frame."""
        return math.prod(self.strides)

    def build(self, latent_dim: int, sample_rate: int) -> tuple[CodecNetwork, CodecNetwork]:
        """Build an encoder and a decoder with fresh weights."""
        from audiogen_cli.codec.seanet import Decoder, Encoder

        return Encoder(self, latent_dim), Decoder(self, latent_dim)


@dataclass(frozen=True)
class FlowConfig:
    """Settings of the flow that draws the detail which codes leave out (`light/flow.py`)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    channels: tuple[Width, Width, Width] = (64, 96, 128)  # of the U-Net, at 1/2, 1/4 and 1/8 of the frames and mel bins
    dim: Width = 256  # width of the blocks between them, which run over frames of codes
    code_blocks: Few = 2  # number of those blocks
    steps: Count = 4  # from noise to detail, of one pass through the network each


@dataclass(frozen=True)
class SpectralConfig:
    """Encoder and decoder of log-mel frames; ours, for models that must run on a laptop's CPU."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: Literal["spectral"] = "spectral"
    n_fft: Width = 512
    stft_hop: Width = 160
    n_mels: Width = 80
    frames_per_code: Width = 8  # STFT frames that share one latent
    noise_power: Amount = 1.0  # exponent of the noise's magnitudes in the sound: 0 hums, 1 is as rough as noise
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


@dataclass(frozen=True)
class CodecConfig:
    """An encoder-decoder pair with a (residual) vector quantizer between them."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    network: Annotated[SEANetConfig | SpectralConfig, Field(discriminator="kind")] = field(default_factory=SEANetConfig)
    sample_rate: Rate = 16_000
    latent_dim: Width = 128  # D
    n_q: Streams = 1  # streams K, each with a codebook
    codebook_size: Annotated[int, Field(ge=2, le=1 << 16)] = 2048  # shards store codes as uint16

    @property
    def hop_length(self) -> int:
        """Return the samples per frame: the down-sampling factor (DSF) of Table 2."""
        return self.network.hop_length

    @property
    def frame_rate(self) -> float:
        """Return the frames per second."""
        return self.sample_rate / self.hop_length


def check_same_codes(codec: CodecConfig, other: Any, where: str) -> None:
    """Raise InputError, which begins with `where`, unless a model or shards hold codes as this codec makes them."""
    for name in ("n_q", "codebook_size", "frame_rate", "sample_rate"):
        if (found := getattr(other, name)) != (own := getattr(codec, name)):
            raise InputError(f"{where}: {name} is {found}, its codec's is {own}; copy the folder again")


@dataclass(frozen=True)
class QuantizerConfig:
    """Settings of learning the codebooks; the paper leaves it open (ours: as usual since SoundStream)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    decay: Share = 0.99  # of the moving averages of each code's cluster; 1 keeps codes where k-means put them
    dead_below: Share = 0.1  # a code used less than this share of the mean is replaced by a vector of the batch
    kmeans_iterations: Number = 20
    kmeans_vectors: Positive = 8.0  # vectors per code that k-means waits for
    start_step: Number = 0  # the encoder learns unquantized for so many steps first


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The multi-scale STFT discriminators (sec. 3.1)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    channels: Annotated[int, Field(ge=1, le=4096)] = 32


@dataclass(frozen=True)
class LossConfig:
    """Weights λ of L_G. The paper gives none: these are EnCodec's published ones, but for the commitment."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    time: Amount = 0.1
    mel: Amount = 1.0
    adversarial: Amount = 3.0
    feature: Amount = 3.0
    # ours: EnCodec's 1 goes with its balancer of gradients; without it the latents shrink to a point
    commitment: Amount = 0.05


@dataclass(frozen=True)
class CodecTrainConfig:
    """One codec training run: the recipe's keys."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    codec: CodecConfig = field(default_factory=CodecConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    pca_crops: Count = 512  # of a light codec: crops whose principal components its encoder starts from
    lr: Positive = 3e-4
    betas: tuple[Mean, Mean] = (0.5, 0.9)
    schedule: Schedule = "constant"
    warmup_steps: Number = 0
    max_steps: Count = 300_000
    batch_size: Count = 64  # crops per optimizer step over all processes
    micro_batch: Number = 0  # crops in memory at once; 0: all of a process's, on a CPU 8. Changes a flow's noise only
    crop_seconds: Annotated[float, Field(gt=0, le=3600)] = 1.0
    fill: Share = 0.0  # share of crops that are of clips which their sound fills, as `tokenize --fill` makes them
    mix: Share = 0.0  # share of crops into which another clip's is mixed (as sec. 4.1 does for the language model)
    vary: Variation = 0.0  # crops are at most so much (a share) slower or faster, as `tokenize --vary` makes them
    adversary_start: Number = 0  # first step of the discriminators, and of the losses l_g and l_feat that they give
    grad_clip: Positive = 10.0
    precision: Literal["no", "bf16"] = "bf16"
    seed: Seed = 0
    workers: Few = 4  # processes that read audio
    log_every: Count = 50
    validate_every: Count = 2_000
    validate_clips: Count = 64
    save_every: Count = 2_000
    weights_dtype: Literal["float32", "float16"] = "float32"  # of the finished model folder
    license: str = ""  # text of the model folder's LICENSE

    def __post_init__(self) -> None:
        if self.crop_seconds * self.codec.sample_rate < max(MEL_WINDOWS):
            raise ValueError(f"crop_seconds is shorter than the longest mel window, {max(MEL_WINDOWS)} samples")
