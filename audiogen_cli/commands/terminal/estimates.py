"""Size, memory and time of a stage before it begins: parameters counted without weights, the rest from a short trial.

The times are rough: they say whether to wait, to sleep or to look for another machine. The bar knows better soon; a
training tries its first micro-batch (`training/throughput.py`) and says what that took.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

    from audiogen_cli.codec.config import CodecConfig
    from audiogen_cli.lm.config import LMConfig, TrainConfig

TRIAL_SECONDS = 0.25  # of sound that a codec is timed on
WINDOW_SECONDS = 10.0  # that are encoded at once
FILE_SECONDS, COPY_SECONDS = 0.003, 0.05  # to open a file of some seconds, and to decode, resample and write it
BYTES = 16  # a parameter in training: weight, gradient and Adam's two moments, float32


def lm_training(recipe: TrainConfig, codec: CodecConfig, base: LMConfig | None = None) -> tuple[int, int | None, float]:
    """Return parameters, those of the text encoder (None: unknown), and the least bytes in each process.

    base: of the model to begin with.
    """
    from torch import nn

    from audiogen_cli.devices import count_processes
    from audiogen_cli.interop.describe import text_encoder_parameters, text_width
    from audiogen_cli.lm.decoder import find_decoder
    from audiogen_cli.lm.training.preflight import build_config
    from audiogen_cli.model_folder import outline

    config = build_config(recipe, codec, text_width(recipe.text) or recipe.model.dim, base=base)
    with outline():
        model = find_decoder(config).build(config)
    size = count_parameters(model)
    widths = sum(sum(each.weight.shape) for each in model.blocks.modules() if isinstance(each, nn.Linear))
    encoder, processes = text_encoder_parameters(recipe.text), count_processes()
    share = processes if recipe.distributed == "fsdp" else 1
    trained = recipe.lora.rank * widths or size
    memory = (trained * (BYTES - 4 + 4 * bool(recipe.ema_decay)) + 4 * size) / share + 4 * (encoder or 0)
    return size, encoder, memory


def codec_parameters(config: CodecConfig) -> int:
    """Count a codec's parameters."""
    from audiogen_cli.codec.model import AudioCodec
    from audiogen_cli.model_folder import outline

    with outline():
        return count_parameters(AudioCodec(config))


def encoding(folder: Path, hours: float, device: torch.device) -> tuple[float, float]:
    """Return the seconds that a codec takes to encode so many hours on a device, and the bytes in each process."""
    import torch

    from audiogen_cli.codec.batch_encoder import RowEncoder
    from audiogen_cli.codec.model import AudioCodec
    from audiogen_cli.devices import count_processes
    from audiogen_cli.training.throughput import measure

    codec = AudioCodec.load(folder, device)
    encoder = RowEncoder(codec)
    rows = encoder.rows_at_once
    encoder.close()
    tried = 1 if device.type == "cpu" else rows  # a GPU takes hardly longer for all of them
    wav = torch.linspace(-0.5, 0.5, math.ceil(TRIAL_SECONDS * codec.sample_rate), device=device).expand(tried, 1, -1)
    with torch.inference_mode():
        needed, seconds = map(min, zip(*(measure(lambda: codec.encode(wav), device) for _ in range(2)), strict=True))
    total = 3600 * hours * seconds / TRIAL_SECONDS / tried / count_processes()
    return total, rows / tried * needed * WINDOW_SECONDS / TRIAL_SECONDS


def preparing(total: int, workers: int, copies: bool) -> float:
    """Return the seconds that `prep` takes for so many files that it has not seen before."""
    return total * (COPY_SECONDS if copies else FILE_SECONDS) / workers


def count_parameters(model: nn.Module) -> int:
    """Count a model's parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
