"""Micro-batches as the model takes them: with their texts encoded, of few shapes on a GPU, made ahead of their step.

Every new shape costs a GPU 0.1 to 1 s, in which kernels for it are chosen; examples have ever new lengths.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from audiogen_cli.lm.config import LMConfig
from audiogen_cli.lm.decoder import CodeBatch
from audiogen_cli.lm.text.encoders import TextEncoder
from audiogen_cli.lm.training.datasets import Batch

PAD_FRAMES, PAD_TEXT = 128, 8  # lengths on a GPU are multiples of these


def encode_texts(batch: Batch, encoder: TextEncoder, config: LMConfig, device: torch.device) -> CodeBatch:
    """Return a batch, still on the CPU, with its texts; for a GPU of one of few shapes, and pinned."""
    found = CodeBatch(batch.ids, batch.codes, batch.frames_mask, *encoder.batch(batch.texts), batch.failures)
    return pad_shapes(found, config).map(Tensor.pin_memory) if device.type == "cuda" else found


def pad_shapes(batch: CodeBatch, config: LMConfig) -> CodeBatch:
    """Pad frames and text to multiples of PAD_FRAMES (at most the window) and PAD_TEXT; no loss depends on padding."""
    n_frames, n_text = batch.frames_mask.shape[1], batch.text_mask.shape[1]
    frames = max(n_frames, min(-(-n_frames // PAD_FRAMES) * PAD_FRAMES, config.max_frames)) - n_frames
    # The models of `text_padding: zeros` do see the padding of their text.
    text = 0 if config.text_padding == "zeros" else -n_text % PAD_TEXT
    return CodeBatch(
        batch.ids,
        F.pad(batch.codes, (0, frames)),
        F.pad(batch.frames_mask, (0, frames)),
        F.pad(batch.text, (0, 0, 0, text)),
        F.pad(batch.text_mask, (0, text)),
        batch.failures,
    )


def code_batches(
    steps: Iterable[Sequence[Batch]], encoder: TextEncoder, config: LMConfig, device: torch.device
) -> Iterator[list[CodeBatch]]:
    """Yield each step's batches with their texts; to be iterated in one thread.

    On a GPU what is encoded meanwhile has a stream of its own: on the training's it would wait for all that is queued.
    """
    # Entered for the whole thread; it also makes the device the thread's current one.
    with torch.cuda.stream(torch.cuda.Stream(device)) if device.type == "cuda" else nullcontext():
        for batches in steps:
            yield [encode_texts(batch, encoder, config, device) for batch in batches]
