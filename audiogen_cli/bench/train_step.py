"""`audiogen bench lm --train`: a training step's speed, in turn with a plain GPT-2 of transformers.

Same width, depth, heads, vocabulary, sequence length, batch, precision, dropout and optimizer. Ours does more for each
token (cross-attention in every block, text before the audio); the peer has neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from audiogen_cli.bench.decode import FRAME_RATE, configure
from audiogen_cli.bench.timing import time_in_turn
from audiogen_cli.devices import choose_device, reuse_memory
from audiogen_cli.lm.config import LMConfig, TrainConfig
from audiogen_cli.lm.flops import training_flops
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.text.encoders import TextEncoder
from audiogen_cli.lm.training.batches import encode_texts
from audiogen_cli.lm.training.cpu_kernels import use_cpu_kernels
from audiogen_cli.lm.training.datasets import Batch
from audiogen_cli.lm.training.state import build_state
from audiogen_cli.lm.training.step import GRAD_CLIP, train_step
from audiogen_cli.training.launch import start_accelerator
from audiogen_cli.training.recipe import load_recipe
from audiogen_cli.training.throughput import peak_flops, peak_memory

TEXT_WIDTH, TEXT_LENGTH = 768, 8
CPU_BATCHES = {"tiny": (16, 250), "base": (8, 250), "large": (1, 125)}  # (samples, frames) that take seconds there


class _Texts(TextEncoder):
    """A stand-in for an encoder whose texts are cached: the same vectors for all."""

    width = TEXT_WIDTH

    def compute(self, texts: Sequence[str]) -> list[Tensor]:
        return [torch.ones(TEXT_LENGTH, TEXT_WIDTH)] * len(texts)


def measure_training(
    size: str,
    streams: int = 1,
    batch_size: int | None = None,
    n_frames: int | None = None,
    repeats: int = 5,
    device_name: str = "auto",
    peer: bool = True,
) -> dict[str, Any]:
    """Measure a training step, ours and the peer's in turn; return medians.

    size: a packaged recipe, whose micro-batch of its longest samples is measured, on a CPU a smaller one. tokens_per_s
    counts codes (frames × streams); peer_ratio is the peer's time over ours for as many positions; mfu (of operations
    that are needed, not of those done twice), peak memory and the days that the paper's 200k steps would take are None
    without a GPU.
    """
    config = load_recipe(TrainConfig, f"lm-{size}")
    accelerator = start_accelerator(config.precision, cpu=choose_device(device_name).type == "cpu")
    device = accelerator.device
    if device.type != "cuda":  # where compiling takes minutes and gains little
        config = load_recipe(TrainConfig, f"lm-{size}", ["compile=false"])
        reuse_memory()  # as a training does; for both
    samples, frames = recipe_step(config, streams) if device.type == "cuda" else CPU_BATCHES[size]
    samples, frames = batch_size or samples, n_frames or frames
    lm_config = configure(config.model.settings(), streams, frames, config.text, TEXT_WIDTH)
    steps = {"ours": _our_step(config, lm_config, samples, frames, accelerator)}
    steps["ours"]()
    memory = peak_memory(device) / 1e9 if device.type == "cuda" else None
    if peer:
        steps["peer"] = _peer_step(config, lm_config, samples, frames, accelerator)
        steps["peer"]()  # both have taken their memory before the rounds begin
    time_in_turn(steps, 1, device)  # a round that does not count
    timings = time_in_turn(steps, repeats, device)
    seconds = timings.median("ours")
    rate = samples * frames / seconds  # frames a second
    peak = peak_flops(device)
    flops = samples * training_flops(lm_config, frames, TEXT_LENGTH)
    return {
        "size": size,
        "streams": streams,
        "batch_size": samples,
        "n_frames": frames,
        "tokens_per_s": rate * streams,
        "step_seconds": seconds,
        "peer_step_seconds": timings.median("peer") if peer else None,
        "peer_ratio": timings.ratio("peer", "ours"),
        "tflops": flops / seconds / 1e12,
        "mfu": flops / seconds / peak if peak else None,
        "peak_memory_gb": memory,
        "days_on_64_gpus": projected_days(config, 64 * rate, lm_config.frame_rate) if peak else None,
        "days_on_128_gpus": projected_days(config, 128 * rate, lm_config.frame_rate) if peak else None,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "dtype": {"bf16": "bfloat16", "no": "float32"}[accelerator.mixed_precision],
        "repeats": repeats,
    }


def recipe_step(config: TrainConfig, streams: int) -> tuple[int, int]:
    """Return the samples of a recipe's micro-batch and the frames of its longest sample, on the paper's codes."""
    return config.optim.micro_batch, round(config.crop_seconds * FRAME_RATE / streams)


def projected_days(config: TrainConfig, frames_per_s: float, frame_rate: float) -> float:
    """Compute the days that a recipe takes at so many frames a second on all GPUs together.

    Clips are as long as the recipe's crops; GPUs do not wait for one another.
    """
    frames = config.max_steps * config.optim.batch_size * config.crop_seconds * frame_rate
    return frames / frames_per_s / 86_400


def _our_step(
    config: TrainConfig, lm_config: LMConfig, samples: int, n_frames: int, accelerator: Accelerator
) -> Callable[[], object]:
    """Return the step of `train-lm` itself."""
    torch.manual_seed(0)
    model = AudioLanguageModel(lm_config).to(accelerator.device)
    use_cpu_kernels(model)
    state = build_state(model, config, accelerator)
    codes = torch.randint(lm_config.codebook_size, (samples, lm_config.n_q, n_frames))
    read = Batch([""] * samples, codes, torch.ones(samples, n_frames, dtype=torch.bool), ["text"] * samples)
    batch = encode_texts(read, _Texts(), lm_config, accelerator.device)
    return lambda: train_step(state, [batch], samples * n_frames, config, accelerator)


def _peer_step(
    config: TrainConfig, lm_config: LMConfig, samples: int, n_frames: int, accelerator: Accelerator
) -> Callable[[], object]:
    """Return a step of transformers' GPT-2, trained as its documentation shows: loss, backward, clip, Adam.

    Compiled where ours is.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    dropout = config.model.dropout
    shape = GPT2Config(
        vocab_size=lm_config.codebook_size,
        n_positions=n_frames,
        n_embd=lm_config.dim,
        n_layer=lm_config.n_layers,
        n_head=lm_config.n_heads,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=0.0,  # as ours
        use_cache=False,
    )
    optim = config.optim
    model = accelerator.prepare_model(GPT2LMHeadModel(shape).to(accelerator.device).train())
    if config.compile:
        model.compile()
    fused = accelerator.device.type in ("cpu", "cuda")
    optimizer = torch.optim.AdamW(
        model.parameters(), optim.lr, optim.betas, weight_decay=optim.weight_decay, fused=fused
    )
    tokens = torch.randint(lm_config.codebook_size, (samples, n_frames)).to(accelerator.device)

    def step() -> None:
        loss = model(input_ids=tokens, labels=tokens).loss
        accelerator.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()  # logged, as ours is

    return step
