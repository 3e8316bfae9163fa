"""The language model's configuration and its training recipe. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from audiogen_cli.lm.sampling_config import Sampling
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

Pattern = Literal["parallel", "delay"]
DecoderName = Literal["autoregressive", "diffusion"]  # see `lm.decoder`
LOOKUP_ROWS = 1 << 15  # of a learned text table (text.kind: lookup), one a word piece
SIZES = ("tiny", "base", "large")  # of `train-lm --size`: recipes/lm-SIZE.yaml
Delays = tuple[Annotated[int, Field(ge=0, le=1000)], ...]  # frames
Bucket = Annotated[int, Field(ge=1, le=10_000)]
Layers = Annotated[int, Field(ge=1, le=512)]
Seconds = Annotated[float, Field(gt=0, le=3600)]


@dataclass(frozen=True)
class TextConfig:
    """Settings of the text encoder F (sec. 3.2): frozen, or a table that the model learns."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["t5", "clip", "static", "lookup"] = "t5"  # lookup: vectors of word pieces, learned with the model
    name: str | None = None  # hub name or folder; none: t5-base, CLIP ViT-B/32, our word vectors (lookup: their words)


@dataclass(frozen=True)
class DiffusionConfig:
    """Settings of the diffusion decoder (`lm.diffusion`): how a clip's codes are lost step by step."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    schedule: Literal["mask_uniform", "mask", "uniform"] = "mask_uniform"  # what a lost code becomes
    steps: Annotated[int, Field(ge=1, le=10_000)] = 100  # T, from a clip to nothing of it


@dataclass(frozen=True)
class LMConfig:
    """Everything that a model of codes and generating with it depend on; a model folder's `config.json`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    dim: Width
    n_layers: Layers
    n_heads: Width
    n_q: Streams  # streams, K
    codebook_size: Annotated[int, Field(ge=2, le=1 << 16)]  # V; token V is the special one: "no frame here"
    frame_rate: Annotated[float, Field(gt=0, le=1_000_000)]  # frames a second
    sample_rate: Rate  # Hz
    codec_fingerprint: str  # SHA-256 of the codec's weights that made the codes
    max_frames: Annotated[int, Field(ge=2, le=1_000_000)]  # the longest window seen in training
    text: TextConfig
    text_width: Width  # D of the encoder's vectors
    text_fingerprint: str | None = None  # SHA-256 of static word vectors; None for T5
    ff_scale: Annotated[int, Field(ge=1, le=64)] = 4  # width of the feed-forward layer / dim
    bias: bool = True  # in attention, feed-forward and heads; norms and the text projection always have one
    dropout: Mean = 0.0
    pattern: Pattern = "parallel"
    delays: Delays = ()  # delay of each stream in frames; () with `delay` means 0, 1, 2, …
    embedding: Literal["mean", "sum"] = "mean"  # how K embeddings make one input; the paper's is the mean
    text_prefix: bool = True  # text before the audio in the sequence
    cross_attention: bool = True  # from audio to text, in every block
    # zeros: cross-attention sees padding, and a missing text, as vectors of zeros (the public checkpoints)
    text_padding: Literal["masked", "zeros"] = "masked"
    text_processing: Literal["paper", "none"] = "paper"  # what becomes of a prompt before the encoder (sec. 4.1)
    decoder: DecoderName = "autoregressive"
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)  # of decoder: diffusion
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        _check_shape(self)
        if self.text_prefix and self.text_padding == "zeros":
            raise ValueError("text_padding: zeros belongs to models without text_prefix: a prefix has no padding")
        if self.pattern == "parallel" and any(self.delays):
            raise ValueError("delays belong to pattern: delay")
        if self.delays and (len(self.delays) != self.n_q or min(self.delays) != 0):
            raise ValueError(f"delays must be {self.n_q} numbers (one a stream), the smallest 0, got {self.delays}")

    @property
    def window_frames(self) -> int:
        """Return the most frames decoded at once: a sound as long as those trained on may end within one frame more."""
        return self.max_frames + 1

    @property
    def special_token(self) -> int:
        """Return the token for positions where a stream has no frame, before its start and after its end, and for codes
        that diffusion has masked."""
        return self.codebook_size

    @property
    def stream_delays(self) -> tuple[int, ...]:
        """Return the delay of each of the K streams in frames."""
        if self.pattern == "parallel":
            return (0,) * self.n_q
        return self.delays or tuple(range(self.n_q))


@dataclass(frozen=True)
class ModelShape:
    """The part of `LMConfig` that a recipe chooses; the rest is read from the shards, the codec and the encoder."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    dim: Width = 768
    n_layers: Layers = 24
    n_heads: Width = 16
    bias: bool = True
    dropout: Mean = 0.1
    pattern: Pattern | Delays = "parallel"  # or the delay of each stream in frames; `delay`: 0, 1, 2, …
    embedding: Literal["mean", "sum"] = "mean"
    text_prefix: bool = True
    cross_attention: bool = True
    text_processing: Literal["paper", "none"] = "paper"
    decoder: DecoderName = "autoregressive"
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)

    def __post_init__(self) -> None:
        _check_shape(self)

    def settings(self) -> dict[str, Any]:
        """Return the fields of `LMConfig` that these choices are."""
        delays = () if isinstance(self.pattern, str) else self.pattern
        return {**vars(self), "pattern": "delay" if delays else self.pattern, "delays": delays}

    @classmethod
    def of(cls, config: LMConfig) -> ModelShape:
        """Return the choices that make a model of this configuration."""
        own = {each.name: getattr(config, each.name) for each in fields(cls)}
        return cls(**{**own, "pattern": config.delays or config.pattern})


@dataclass(frozen=True)
class OptimConfig:
    """Adam and its schedule (sec. 4.1)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    lr: Positive = 5e-4
    betas: tuple[Mean, Mean] = (0.9, 0.999)
    weight_decay: Amount = 0.0  # decoupled (AdamW), on matrices only
    schedule: Schedule = "inverse_sqrt"
    warmup_steps: Number = 3000
    batch_size: Count = 256  # samples a step, over all processes
    micro_batch: Count = 8  # samples in memory at once, per process


@dataclass(frozen=True)
class LoRAConfig:
    """An adapter in place of changed weights: low-rank matrices beside those of blocks and heads (Hu et al. 2021)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    rank: Annotated[int, Field(ge=0, le=4096)] = 0  # of the matrices; 0 = no adapter, all weights are trained
    alpha: Width = 16  # what is learned is multiplied by alpha / rank


@dataclass(frozen=True)
class PreviewConfig:
    """Sounds generated during a training, to listen to: `<run>/samples/step-NNNNNN/*.wav`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    every: Number = 0  # steps; 0 = never
    prompts: tuple[str, ...] = ()  # as a user would write them
    duration: Seconds = 5.0  # seconds

    def __post_init__(self) -> None:
        if self.every and not self.prompts:
            raise ValueError("every is set, so give prompts")


@dataclass(frozen=True)
class TrainConfig:
    """One training run of the language model: a recipe file."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    model: ModelShape = field(default_factory=ModelShape)
    text: TextConfig = field(default_factory=TextConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    sampling: Sampling = field(default_factory=Sampling)  # the trained model's own defaults
    previews: PreviewConfig = field(default_factory=PreviewConfig)
    crop_seconds: Seconds = 10.0  # longest window; shorter clips are padded, the padding is no part of the loss
    text_dropout: Share = 0.1  # share of samples trained without text, for guidance
    text_noise: Amount = 0.0  # ours: the strongest noise on text vectors, as a multiple of their length; 0 = off
    mask_tags: bool = False  # DiffSound: rows without captions read their tags among [MASK]s; first those of one tag
    code_dropout: Share = 0.0  # mean share of input codes that are replaced by another sample's; targets stay
    mix: Share = 0.5  # share of samples mixed with another, on the fly; shards have their mixes already
    bucket_steps: Bucket = 1  # samples of so many steps are sorted by length: less padding
    max_steps: Count = 200_000
    seed: Seed = 0
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    freeze: tuple[str, ...] = ()  # parts of the model that stay as they are, by name: embedding, heads, blocks.0 …
    codebooks: bool = False  # ours: learn codes through the codec's own vectors for them; not with fsdp
    probe_samples: Number = 8192  # ours: that the probe is made from, which chooses among candidates; 0 = no probe
    ema_decay: Mean = 0.0  # running mean of the weights, saved in their place; 0 = off
    precision: Literal["no", "bf16"] = "no"  # bf16: autocast; weights and optimizer stay float32
    compile: bool = False  # torch.compile, block by block
    checkpoint_activations: bool = False  # compute each block twice rather than keep what it computed: less memory
    distributed: Literal["ddp", "fsdp"] = "ddp"  # fsdp: weights and optimizer are spread over the processes
    workers: Few = 0  # processes that read data ahead of the training; with 0 a thread does
    log_every: Count = 50
    validate_every: Count = 2000
    validate_samples: Count = 512
    save_every: Count = 2000
    weights_dtype: Literal["float32", "float16"] = "float32"  # of the final model folder
    license: str = ""  # text put into the model folder's LICENSE

    def __post_init__(self) -> None:
        if self.codebooks and self.distributed == "fsdp":
            raise ValueError("codebooks: true is for models that fit each process: choose distributed: ddp")
        if self.lora.rank and (self.codebooks or self.freeze or self.distributed == "fsdp"):
            raise ValueError("lora trains nothing but its own matrices: with distributed: ddp, no freeze, no codebooks")
        if self.text.kind == "lookup" and self.text_noise:
            raise ValueError("text_noise is for vectors; with text.kind: lookup the model reads numbers of words")


def _check_shape(shape: LMConfig | ModelShape) -> None:
    """Raise ValueError unless there can be a model of this shape, with the decoder that is wanted."""
    if shape.dim % shape.n_heads or shape.dim < 4 or shape.dim % 2:
        raise ValueError(f"dim ({shape.dim}) must be even, at least 4 and a multiple of n_heads ({shape.n_heads})")
    fits = shape.cross_attention and not shape.text_prefix and shape.pattern == "parallel"
    if shape.decoder == "diffusion" and not fits:
        raise ValueError(
            "decoder: diffusion attends to its text and predicts all streams at once: "
            "set text_prefix: false, cross_attention: true and pattern: parallel"
        )
    if not (shape.text_prefix or shape.cross_attention):
        raise ValueError("text_prefix and cross_attention are both off: no text could reach the model")
