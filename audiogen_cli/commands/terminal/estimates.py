"""Size, memory and time of a stage before it begins: parameters counted without weights, time from a short trial.

The times are rough: they say whether to wait, to sleep or to look for another machine. The bar knows better soon.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

    from audiogen_cli.codec.config import CodecConfig, CodecTrainConfig
    from audiogen_cli.codec.model import AudioCodec
    from audiogen_cli.lm.config import LMConfig, TrainConfig

TRIAL_SECONDS = 0.25  # of sound that a codec is timed on
TRIAL_SIZE = 1024  # of the matrices that a device is timed on
# Measured with the recipes on two busy CPU cores: 4 and more passes with adversaries, 0.3 to 0.5 of a product's speed.
LM_SHARE = 0.4  # of the speed of one large product, that a training step reaches
STEP_PASSES = {"seanet": 4.0, "spectral": 3.0}  # a training step in passes through the codec: with its adversaries
BYTES = 16  # a parameter in training: weight, gradient and Adam's two moments, float32


def lm_training(
    recipe: TrainConfig, codec: CodecConfig, base: LMConfig | None = None
) -> tuple[int, int | None, float, float]:
    """Return parameters, those of the text encoder (None: unknown), bytes in each process, and seconds of all steps.

    base: of the model to begin with.
    """
    from torch import nn

    from audiogen_cli.devices import count_processes
    from audiogen_cli.interop.describe import text_encoder_parameters, text_width
    from audiogen_cli.lm.flops import training_flops
    from audiogen_cli.lm.model import AudioLanguageModel
    from audiogen_cli.lm.training.preflight import build_config
    from audiogen_cli.model_folder import outline

    config = build_config(recipe, codec, text_width(recipe.text) or recipe.model.dim, base=base)
    with outline():
        model = AudioLanguageModel(config)
    size = count_parameters(model)
    widths = sum(sum(each.weight.shape) for each in model.blocks.modules() if isinstance(each, nn.Linear))
    encoder, processes = text_encoder_parameters(recipe.text), count_processes()
    share = processes if recipe.distributed == "fsdp" else 1
    trained = recipe.lora.rank * widths or size
    memory = (trained * (BYTES - 4 + 4 * bool(recipe.ema_decay)) + 4 * size) / share + 4 * (encoder or 0)
    passes = 4 / 3 if recipe.checkpoint_activations else 1
    work = training_flops(config, config.max_frames) * recipe.optim.batch_size * recipe.max_steps * passes
    return size, encoder, memory, work / (LM_SHARE * operations_per_second(recipe.precision == "bf16") * processes)


def codec_training(recipe: CodecTrainConfig) -> tuple[int, float]:
    """Return parameters and seconds of all steps."""
    import torch

    from audiogen_cli.codec.model import AudioCodec
    from audiogen_cli.devices import count_processes

    with torch.random.fork_rng(devices=[]):  # the trial must not change what is trained
        codec = AudioCodec(recipe.codec).to(_device())
    sound = recipe.batch_size * recipe.crop_seconds * recipe.max_steps
    passes = STEP_PASSES[recipe.codec.network.kind]
    return count_parameters(codec), passes * sound * _seconds_per_second(codec) / count_processes()


def encoding(folder: Path, hours: float) -> float:
    """Return the seconds that a codec takes to encode so many hours."""
    from audiogen_cli.codec.model import AudioCodec
    from audiogen_cli.devices import count_processes

    codec = AudioCodec.load(folder, _device())
    return 3600 * hours * _seconds_per_second(codec) / count_processes()


def count_parameters(model: nn.Module) -> int:
    """Count a model's parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def operations_per_second(bf16: bool) -> float:
    """Return the floating-point operations per second of a large product on this machine's device."""
    import torch

    a = torch.ones(TRIAL_SIZE, TRIAL_SIZE, device=_device(), dtype=torch.bfloat16 if bf16 else torch.float32)
    return 2 * TRIAL_SIZE**3 / min(_time(lambda: a @ a) for _ in range(3))


def _seconds_per_second(codec: AudioCodec) -> float:
    """Time a codec on a slope of samples: seconds for each second of sound."""
    import torch

    wav = torch.linspace(-0.5, 0.5, math.ceil(TRIAL_SECONDS * codec.sample_rate), device=_device())[None, None]
    with torch.inference_mode():
        return min(_time(lambda: codec.encode(wav)) for _ in range(2)) / TRIAL_SECONDS


def _time(work: Callable[[], object]) -> float:
    import torch

    begun = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def _device() -> torch.device:
    import os

    from audiogen_cli.devices import choose_device

    return choose_device("cpu" if os.environ.get("ACCELERATE_USE_CPU") == "true" else "auto")
