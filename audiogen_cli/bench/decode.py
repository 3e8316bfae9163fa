"""Speed of decoding, beside the bytes that must be read and beside transformers' MusicGen of the same size.

Every round measures the engine, the memory's bandwidth and the peer in turn; a step's time is the median over all
rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from audiogen_cli.bench.timing import Timings, run_in_turn, step_seconds, time_in_turn
from audiogen_cli.errors import InputError
from audiogen_cli.lm.config import SIZES, LMConfig, TextConfig, TrainConfig
from audiogen_cli.lm.decoding.continuous_batch import BatchShape, ContinuousBatch
from audiogen_cli.lm.decoding.cpu_model import GraphBlocks
from audiogen_cli.lm.decoding.engine import Engine, choose_dtype
from audiogen_cli.lm.decoding.requests import DecodingRequest
from audiogen_cli.lm.decoding.rounding import ROUNDED
from audiogen_cli.lm.model import AudioLanguageModel, random_text
from audiogen_cli.lm.sampling import SamplingRows, guide_rows, sample
from audiogen_cli.training.recipe import load_recipe

CODES = 2048  # of all streams together (sec. 3.1: 1 × 2048, 2 × 1024, 4 × 512)
FRAME_RATE = 500.0  # of one stream; so many times lower with K of them
SECONDS = 10.0  # the trained window
TEXT_LENGTH = 16
TEXT_WIDTHS = {"tiny": 256, "base": 768, "large": 1024}  # of the word vectors, T5-base and T5-large
WARM_STEPS = 3
# Bytes that the bandwidth's probe reads, and how often in a row: a GPU works on one while the next is launched.
PROBE_BYTES, GPU_PROBE_BYTES, GPU_PROBES = 1 << 29, 1 << 31, 10


@dataclass(frozen=True)
class Setup:
    """The model and batch to measure.

    cached: frames that every sample already has before the first measured step; shape: of a model, in place of size
    and streams.
    """

    size: str = "base"
    streams: int = 1
    batch_size: int = 1
    steps: int = 40
    dtype: str = "auto"
    repeats: int = 3
    cached: int = 0
    peer: bool = True
    shape: LMConfig | None = None

    def __post_init__(self) -> None:
        if self.streams not in (1, 2, 4):
            raise InputError(f"--streams {self.streams}: 1, 2 or 4")
        if self.size not in SIZES:
            raise InputError(f"--size {self.size}: one of {', '.join(SIZES)}")
        room, passes = self.config.max_frames, self.config.decoder == "diffusion"  # of the whole window each
        if not passes and not 0 <= self.cached <= room - self.steps - WARM_STEPS:
            raise InputError(
                f"--cached {self.cached} with --steps {self.steps}: of the window's {room} frames {WARM_STEPS} warm up"
            )

    @property
    def config(self) -> LMConfig:
        """Return the configuration of the model to measure."""
        if self.shape:
            return self.shape
        shape = load_recipe(TrainConfig, f"lm-{self.size}").model
        settings = {name: getattr(shape, name) for name in ("dim", "n_layers", "n_heads", "bias")}
        room = round(SECONDS * FRAME_RATE / self.streams)
        return configure(settings, self.streams, room, TextConfig("static"), TEXT_WIDTHS[self.size])


def configure(
    settings: Mapping[str, Any], streams: int, max_frames: int, text: TextConfig, text_width: int
) -> LMConfig:
    """Return the configuration of a model on the paper's codes. settings: its shape, by names of `LMConfig`."""
    return LMConfig(
        **settings,
        n_q=streams,
        codebook_size=CODES // streams,
        frame_rate=FRAME_RATE / streams,
        sample_rate=16_000,
        codec_fingerprint="",
        max_frames=max_frames,
        text=text,
        text_width=text_width,
    )


def _open_batch(engine: Engine, requests: Sequence[DecodingRequest]) -> ContinuousBatch:
    """Open a batch whose past is random keys and values: reading thousands of frames first would take minutes."""

    class Unread(engine.backend):  # type: ignore[name-defined]
        def prefill(self, row: int, x: Tensor) -> None:
            shape = engine.config.n_heads, x.shape[1], engine.config.dim // engine.config.n_heads
            past = [torch.randn(2, *shape, device=x.device) for _ in range(engine.config.n_layers)]
            self.fill(row, [(key, value) for key, value in past])

    shape = BatchShape.of(engine.config, requests, len(requests), engine.backend.bucket)
    batch = ContinuousBatch(Unread, engine.model, engine.cache_dtype, shape)
    batch.start(requests)
    return batch


def measure_lm(setup: Setup, device: torch.device) -> dict[str, Any]:
    """Measure the speeds of `audiogen bench lm`, with guidance: two rows a sample.

    tokens_per_s counts every stream and sample; real_time_factor: seconds of computing per second of sound, of all
    samples together; bytes_per_step: weights and cached keys and values, each read once; bandwidth_gb_s: the fastest
    reading in any round, hence floor_ratio is no flattery; peer_ratio: the peer's step time over ours, the peer in
    float32 on a CPU and in bfloat16 elsewhere; None without a peer. formats: the same by number format, of all that
    took turns: with `auto` on a CPU all that it computes in.
    """
    config = setup.config
    names = _list_formats(setup.dtype, config, device)
    engines = {name: Engine(_random_model(config, device), name) for name in names}
    requests = [_request(setup, config, seed) for seed in range(setup.batch_size)]
    peer = _peer(setup, config, device) if setup.peer else None
    runs: dict[str, Callable[[], list[float]]] = {
        name: partial(_engine_seconds, engine, requests, setup, device) for name, engine in engines.items()
    }
    runs["bandwidth"] = lambda: [read_bandwidth(device)]
    if peer:
        runs["peer"] = lambda: _step_seconds(peer(), setup, device)
    numbers = run_in_turn(runs, setup.repeats)
    bandwidth, timings = max(numbers.pop("bandwidth")), Timings(numbers)
    n_frames = setup.cached + WARM_STEPS + setup.steps // 2

    def describe(name: str) -> dict[str, Any]:
        seconds, n_bytes = timings.median(name), step_bytes(engines[name], setup.batch_size, n_frames)
        return {
            "tokens_per_s": setup.batch_size * config.n_q / seconds,
            "steps_per_s": 1 / seconds,
            "real_time_factor": seconds * config.frame_rate / setup.batch_size,
            "bytes_per_step": n_bytes,
            "read_gb_s": n_bytes / seconds / 1e9,
            "floor_ratio": min(1.0, n_bytes / bandwidth / seconds),
            "peer_ratio": timings.ratio("peer", name),
        }

    return {
        "size": "model" if setup.shape else setup.size,
        "streams": config.n_q,
        "batch_size": setup.batch_size,
        "steps": setup.steps,
        "cached": setup.cached,
        **describe(names[0]),
        "bandwidth_gb_s": bandwidth / 1e9,
        "peer_steps_per_s": 1 / timings.median("peer") if peer else None,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "dtype": names[0],
        "repeats": setup.repeats,
        "formats": {name: describe(name) for name in names},
    }


def _list_formats(asked: str, config: LMConfig, device: torch.device) -> list[str]:
    """List the number formats to measure, the chosen one first."""
    chosen = choose_dtype(asked, config, device)
    if asked != "auto" or device.type != "cpu":
        return [chosen]
    return list(dict.fromkeys([chosen, "float32", *ROUNDED]))


def step_bytes(engine: Engine, n_samples: int, n_frames: int) -> int:
    """Count the bytes that a guided step reads after n_frames: weights, keys and values of both attentions."""
    config, size = engine.config, engine.cache_dtype.itemsize
    prefix = TEXT_LENGTH if config.text_prefix else 0
    memory = TEXT_LENGTH if config.cross_attention else 0
    unread: tuple[str, ...] = (".key_value",)  # read once, by the text
    if engine.backend.folds(config, TEXT_LENGTH):  # into those of every head, but for rows without a text
        memory, unread = TEXT_LENGTH * config.n_heads // 2, (*unread, "cross_attention.query", "cross_attention.out")
    n_bytes = 2 * 2 * n_samples * (prefix + n_frames + memory) * config.dim * size * config.n_layers
    for name, layer in engine.model.named_modules():
        if name == "text_projection" or name.endswith(unread):
            continue
        if isinstance(layer, GraphBlocks):
            n_bytes += layer.n_bytes
        elif isinstance(layer, nn.Linear):
            n_bytes += layer.weight.nbytes
    return n_bytes


def read_bandwidth(device: torch.device) -> float:
    """Measure the bytes a second that torch's threads, or a GPU, read from memory: the best of five measurements."""
    n_bytes, passes = (GPU_PROBE_BYTES, GPU_PROBES) if device.type == "cuda" else (PROBE_BYTES, 1)
    numbers = torch.ones(n_bytes // 4, device=device)

    def read() -> None:
        for _ in range(passes):
            numbers.sum()

    return n_bytes * passes / min(time_in_turn({"read": read}, 5, device).seconds["read"])


def _random_model(config: LMConfig, device: torch.device) -> AudioLanguageModel:
    torch.manual_seed(0)
    return AudioLanguageModel(config).to(device).requires_grad_(False)


def _request(setup: Setup, config: LMConfig, seed: int) -> DecodingRequest:
    numbers = torch.Generator().manual_seed(seed)
    text = random_text(config, TEXT_LENGTH, numbers)
    prompt = torch.randint(config.codebook_size, (config.n_q, setup.cached), generator=numbers)
    n_frames = setup.cached + WARM_STEPS + setup.steps
    sampling = replace(config.sampling, guidance=3.0, negative="")  # two rows, whatever is the model's own
    return DecodingRequest(text, n_frames, seed, sampling, prompt if setup.cached else None)


def _peer(setup: Setup, config: LMConfig, device: torch.device) -> Callable[[], Iterator[Tensor]]:
    """Return steps of transformers' MusicGen decoder with its own cache, sampled as ours are."""
    from transformers import DynamicCache, EncoderDecoderCache, MusicgenForCausalLM
    from transformers.models.musicgen.configuration_musicgen import MusicgenDecoderConfig

    shape = MusicgenDecoderConfig(
        vocab_size=config.codebook_size,
        hidden_size=config.dim,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.n_heads,
        ffn_dim=config.ff_scale * config.dim,
        num_codebooks=config.n_q,
        pad_token_id=None,  # the default ones lie outside of a small vocabulary
        bos_token_id=None,
    )
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    model: Any = MusicgenForCausalLM(shape)
    model.to(device, dtype).eval().requires_grad_(False)
    rows = SamplingRows.empty(setup.batch_size, device)
    n_rows, uniform = 2 * setup.batch_size, torch.full((setup.batch_size, config.n_q), 0.5, device=device)
    text = torch.randn(n_rows, TEXT_LENGTH, config.dim, device=device, dtype=dtype)
    kept = "cache" if "cache" in signature(model.forward).parameters else "past_key_values"  # new and old name
    size = (n_rows, config.n_heads, setup.cached, config.dim // config.n_heads)

    @torch.inference_mode()
    def steps() -> Iterator[Tensor]:
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        for layer in range(config.n_layers if setup.cached else 0):
            past = torch.randn(size, device=device, dtype=dtype)
            cache.self_attention_cache.update(past, past.clone(), layer)
        tokens = torch.zeros(setup.batch_size, config.n_q, dtype=torch.long, device=device)
        while True:
            ids = tokens.repeat(2, 1).view(-1, 1)
            output = model(input_ids=ids, encoder_hidden_states=text, use_cache=True, **{kept: cache})
            logits = output.logits.view(n_rows, config.n_q, -1)
            tokens = sample(guide_rows(logits, setup.batch_size, rows.guidance), rows, uniform)
            yield tokens

    return steps


def _engine_seconds(
    engine: Engine, requests: Sequence[DecodingRequest], setup: Setup, device: torch.device
) -> list[float]:
    return _step_seconds(_open_batch(engine, requests).run_single(), setup, device)


@torch.inference_mode()
def _step_seconds(steps: Iterator[Any], setup: Setup, device: torch.device) -> list[float]:
    return step_seconds(steps, WARM_STEPS, setup.steps, device)
