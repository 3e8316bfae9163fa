"""What a codec is made of and how it is trained (sec. 3.1). Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from audiogen_cli.training.schedule import Schedule

STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class SEANetConfig:
    """The paper's encoder E and decoder G on the waveform (sec. 3.1). Defaults: x32."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    learns_from_audio: ClassVar[bool] = True  # by the losses on decoded audio, the adversarial ones among them
    kind: Literal["seanet"] = "seanet"
    channels: int = 32  # C; doubled by every block
    strides: tuple[int, ...] = (2, 2, 2, 4)
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    compress: int = 2  # a residual unit's hidden channels are channels / compress
    lstm_layers: int = 2
    norm: Literal["layer", "weight", "none"] = "layer"
    pad_mode: Literal["constant", "reflect"] = "constant"
    causal: bool = False

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return math.prod(self.strides)


@dataclass(frozen=True)
class FlowConfig:
    """The network that draws a spectral decoder's detail; ours, see `codec/flow.py`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    channels: tuple[int, int, int] = (64, 96, 128)  # with time and bands halved once, twice and three times
    dim: int = 256  # on frames of codes
    code_blocks: int = 2
    steps: int = 4  # from noise to detail, of two passes through the network each

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("steps must be at least 1")


@dataclass(frozen=True)
class SpectralConfig:
    """A cheaper pair of networks that work on STFT frames; ours, for models that must run on a laptop's CPU."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    learns_from_audio: ClassVar[bool] = False  # but by the distance of loudness, or of a flow's velocities
    kind: Literal["spectral"] = "spectral"
    n_fft: int = 640
    stft_hop: int = 160
    n_mels: int = 80  # bands of the mel scale whose loudness is coded
    frames_per_code: int = 8  # STFT frames that share one latent
    roughness: float = 1.0  # power of white noise's magnitudes in the sound: 0 hums, 1 is as rough as noise
    phase_rounds: int = 4  # of Griffin and Lim's algorithm
    start_crops: int = 512  # crops that the principal components are made from
    flow: FlowConfig | None = None  # draws the detail that codes leave out

    def __post_init__(self) -> None:
        if self.n_fft < self.stft_hop or (self.n_fft - self.stft_hop) % 2:
            raise ValueError("n_fft - stft_hop must be even and not negative")
        if self.flow and (self.n_mels % 8 or self.frames_per_code % 8):
            raise ValueError("a flow halves the picture three times: n_mels and frames_per_code must be multiples of 8")
        if min(self.roughness, self.phase_rounds) < 0:
            raise ValueError("roughness and phase_rounds must not be negative")

    @property
    def hop_length(self) -> int:
        """Samples per frame of codes."""
        return self.stft_hop * self.frames_per_code

    @property
    def n_bins(self) -> int:
        """Frequency bins of a frame."""
        return self.n_fft // 2 + 1


@dataclass(frozen=True)
class CodecConfig:
    """An encoder-decoder pair with a (residual) vector quantizer between them."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    network: Annotated[SEANetConfig | SpectralConfig, Field(discriminator="kind")] = field(default_factory=SEANetConfig)
    sample_rate: int = 16_000
    latent_dim: int = 128
    n_q: int = 1
    codebook_size: int = 2048

    def __post_init__(self) -> None:
        if not 2 <= self.codebook_size <= 1 << 16:
            raise ValueError("codebook_size must lie in 2 to 65536: shards store codes as uint16")

    @property
    def hop_length(self) -> int:
        """Samples per frame: the down-sampling factor (DSF) of Table 2."""
        return self.network.hop_length

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length


@dataclass(frozen=True)
class QuantizerConfig:
    """How codebooks are learnt; the paper leaves it open (ours: the habit since SoundStream)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    decay: float = 0.99  # of the moving averages of each code's cluster
    dead_below: float = 0.1  # a code used less than this share of the mean is replaced by a vector of the batch
    kmeans_iterations: int = 20
    kmeans_vectors: float = 8.0  # vectors per code that k-means wants
    start_step: int = 0  # the encoder learns unquantized for so many steps first
    # Each stream codes dimensions of the latent that are its own, instead of what the streams before left over: for
    # latents whose dimensions have little to do with each other, as principal components.
    split: bool = False

    def __post_init__(self) -> None:
        if self.split and (self.decay < 1 or self.dead_below):
            raise ValueError("split: true is for codebooks that stay where k-means put them: decay: 1, dead_below: 0")


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The multi-scale STFT discriminators (sec. 3.1)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    windows: tuple[int, ...] = (2048, 1024, 512, 256, 128)
    channels: int = 32
    # ours: the power that magnitudes are raised to before they are judged; 1 as in the paper, less and faint sounds
    # weigh more beside loud ones
    power: float = 1.0


@dataclass(frozen=True)
class LossConfig:
    """Weights λ of L_G and the scales of eq. 1. The paper gives no λ: these are EnCodec's published ones."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    time: float = 0.1
    mel: float = 1.0
    adversarial: float = 3.0
    feature: float = 3.0
    commitment: float = (
        0.05  # ours: EnCodec's 1 goes with its balancer of gradients; without it latents shrank to a point
    )
    # ours, after EnCodec's balancer: λ of the losses on decoded audio are shares of the gradient there, whatever the
    # size of each loss and of the discriminators' slopes, which a short training has no time to find out. Scaled for
    # each micro-batch and process by itself
    balance: bool = False
    spectrum: float = 1.0  # of the spectral networks' loudness, or flow; they have no other but commitment
    mel_scales: tuple[int, int] = (5, 11)  # windows 2^5 … 2^11
    mel_bins: int = 64
    mel_log: bool = False  # ours: compare log mel spectrograms, so that quiet sounds weigh as much as loud ones


@dataclass(frozen=True)
class CodecTrainConfig:
    """One codec training run: the recipe's keys."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    codec: CodecConfig = field(default_factory=CodecConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    losses: LossConfig = field(default_factory=LossConfig)
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
    adversary_start: int = 0  # step from which discriminators train and are listened to
    adversary_every: int = 1  # they train on every n-th step only, and are listened to on all
    grad_clip: float = 10.0
    precision: Literal["no", "bf16"] = "no"
    compile: bool = False  # encoder and decoder through torch.compile, for GPUs
    seed: int = 0
    workers: int = 2  # processes that read audio
    log_every: int = 50
    validate_every: int = 2_000
    validate_clips: int = 64
    save_every: int = 2_000
    keep_checkpoints: int = 2
    weights_dtype: Literal["float32", "float16"] = "float32"  # of the finished model folder
    licence: str = ""  # text put into the model folder's LICENSE

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.micro_batch < 0 or self.adversary_every < 1:
            raise ValueError("batch_size and adversary_every must be at least 1, micro_batch at least 0")
        if not (0 <= self.fill <= 1 and 0 <= self.mix <= 1 and 0 <= self.vary <= 0.5):
            raise ValueError("fill and mix must lie in [0, 1] and vary in [0, 0.5]")
        if self.crop_seconds * self.codec.sample_rate < 2 ** self.losses.mel_scales[1]:
            raise ValueError("crop_seconds is shorter than the longest mel window of losses.mel_scales")
