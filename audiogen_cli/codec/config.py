"""Settings of a codec and of its training (sec. 3.1). Imports no torch.

The defaults are the paper's ×32 codec: `recipes/codec-x32.yaml` says the same numbers, each with its source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from audiogen_cli.training.recipe import Schedule

if TYPE_CHECKING:
    from audiogen_cli.codec.streaming import CodecNetwork

STRICT = ConfigDict(extra="forbid")
MEL_WINDOWS = tuple(2**i for i in range(5, 12))  # samples; eq. 1


@dataclass(frozen=True)
class SEANetConfig:
    """The paper's encoder E and decoder G on the waveform (sec. 3.1)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: Literal["seanet"] = "seanet"
    channels: int = 32  # C; doubled by every block
    strides: tuple[int, ...] = (2, 2, 2, 4)
    lstm_layers: int = 2
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
    channels: tuple[int, int, int] = (64, 96, 128)  # of the U-Net, at 1/2, 1/4 and 1/8 of the frames and mel bins
    dim: int = 256  # width of the blocks between them, which run over frames of codes
    code_blocks: int = 2  # number of those blocks
    steps: int = 4  # from noise to detail, of two passes through the network each

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("steps must be at least 1")


@dataclass(frozen=True)
class SpectralConfig:
    """Encoder and decoder of log-mel frames; ours, for models that must run on a laptop's CPU."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: Literal["spectral"] = "spectral"
    n_fft: int = 512
    stft_hop: int = 160
    n_mels: int = 80
    frames_per_code: int = 8  # STFT frames that share one latent
    noise_power: float = 1.0  # of white noise's magnitudes in the sound: 0 hums, 1 is as rough as noise
    flow: FlowConfig | None = None  # draws the detail that codes leave out; None: no detail

    def __post_init__(self) -> None:
        if self.n_fft < self.stft_hop or (self.n_fft - self.stft_hop) % 2:
            raise ValueError("n_fft - stft_hop must be even and not negative")
        if self.flow and (self.n_mels % 8 or self.frames_per_code % 8):
            raise ValueError(
                "a flow halves frames and mel bins three times: n_mels and frames_per_code must be multiples of 8"
            )
        if self.noise_power < 0:
            raise ValueError("noise_power must not be negative")

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
    sample_rate: int = 16_000
    latent_dim: int = 128  # D
    n_q: int = 1  # streams K, each with a codebook
    codebook_size: int = 2048

    def __post_init__(self) -> None:
        if not 2 <= self.codebook_size <= 1 << 16:
            raise ValueError("codebook_size must lie in 2 to 65536: shards store codes as uint16")

    @property
    def hop_length(self) -> int:
        """Return the samples per frame: the down-sampling factor (DSF) of Table 2."""
        return self.network.hop_length

    @property
    def frame_rate(self) -> float:
        """Return the frames per second."""
        return self.sample_rate / self.hop_length


@dataclass(frozen=True)
class QuantizerConfig:
    """Settings of learning the codebooks; the paper leaves it open (ours: as usual since SoundStream)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    decay: float = 0.99  # of the moving averages of each code's cluster; 1 keeps codes where k-means put them
    dead_below: float = 0.1  # a code used less than this share of the mean is replaced by a vector of the batch
    kmeans_iterations: int = 20
    kmeans_vectors: float = 8.0  # vectors per code that k-means waits for
    start_step: int = 0  # the encoder learns unquantized for so many steps first


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The multi-scale STFT discriminators (sec. 3.1)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    channels: int = 32


@dataclass(frozen=True)
class LossConfig:
    """Weights λ of L_G. The paper gives none: these are EnCodec's published ones, but for the commitment."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    time: float = 0.1
    mel: float = 1.0
    adversarial: float = 3.0
    feature: float = 3.0
    # ours: EnCodec's 1 goes with its balancer of gradients; without it the latents shrink to a point
    commitment: float = 0.05


@dataclass(frozen=True)
class CodecTrainConfig:
    """One codec training run: the recipe's keys."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    codec: CodecConfig = field(default_factory=CodecConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    pca_crops: int = 512  # of a light codec: crops whose principal components its encoder starts from
    lr: float = 3e-4
    betas: tuple[float, float] = (0.5, 0.9)
    schedule: Schedule = "constant"
    warmup_steps: int = 0
    max_steps: int = 300_000
    batch_size: int = 64  # crops per optimizer step over all processes
    micro_batch: int = 0  # crops that a process holds in memory at once; 0: its whole share. Changes no result
    crop_seconds: float = 1.0
    fill: float = 0.0  # share of crops that are of clips which their sound fills, as `tokenize --fill` makes them
    mix: float = 0.0  # share of crops into which another clip's is mixed (as sec. 4.1 does for the language model)
    vary: float = 0.0  # crops are at most so much (a share) slower or faster, as `tokenize --vary` makes them
    adversary_start: int = 0  # first step of the discriminators, and of the losses l_g and l_feat that they give
    grad_clip: float = 10.0
    precision: Literal["no", "bf16"] = "bf16"
    seed: int = 0
    workers: int = 4  # processes that read audio
    log_every: int = 50
    validate_every: int = 2_000
    validate_clips: int = 64
    save_every: int = 2_000
    weights_dtype: Literal["float32", "float16"] = "float32"  # of the finished model folder
    license: str = ""  # text of the model folder's LICENSE

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.micro_batch < 0:
            raise ValueError("batch_size must be at least 1, micro_batch at least 0")
        if not (0 <= self.fill <= 1 and 0 <= self.mix <= 1 and 0 <= self.vary <= 0.5):
            raise ValueError("fill and mix must lie in [0, 1] and vary in [0, 0.5]")
        if self.crop_seconds * self.codec.sample_rate < max(MEL_WINDOWS):
            raise ValueError(f"crop_seconds is shorter than the longest mel window, {max(MEL_WINDOWS)} samples")
