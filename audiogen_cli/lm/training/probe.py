"""Training of the probe (`lm.probe`): ridge regression from features of sounds to the vectors of their texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

import torch
from torch import Tensor

from audiogen_cli.devices import count_processes, gather_values, process_index
from audiogen_cli.lm.model import CodeModel
from audiogen_cli.lm.probe import Probe, features, text_vector
from audiogen_cli.lm.text.encoders import TextEncoder
from audiogen_cli.lm.training.datasets import Batch, ExampleSource

RIDGE = 0.05  # of the number of samples: what is added to the variances, which are all 1


@torch.inference_mode()
def train_probe(
    model: CodeModel, source: ExampleSource, encoder: TextEncoder, n_samples: int, micro_batch: int
) -> Probe | None:
    """Fit a probe, in closed form, to the first `n_samples` samples; None if fewer than two have a text.

    The processes of a launch share the samples, and each returns the probe. On a GPU that has bfloat16, features are
    computed in it.
    """
    device = model.null_text.device
    half = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    found: list[list[tuple[Tensor, Tensor]]] = []  # features and vector of each sample that has both, by batch
    for batch in _batches(source, n_samples, micro_batch):
        texts = encoder.encode([text or "" for text in batch.texts])
        rows = [row for row, text in enumerate(texts) if len(text) and batch.frames_mask[row].any()]
        found.append([])
        if rows:
            codes, mask = (each[rows].to(device) for each in (batch.codes, batch.frames_mask))
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                sounds = features(model, codes, mask).float().cpu()
            found[-1] = [(sound, text_vector(texts[row])) for sound, row in zip(sounds, rows, strict=True)]
    shares = gather_values(found)
    batches = [batch for turn in zip_longest(*shares, fillvalue=[]) for batch in turn]
    samples = [sample for batch in batches for sample in batch]
    return regress(*map(torch.stack, zip(*samples, strict=True))) if len(samples) > 1 else None


def regress(sounds: Tensor, vectors: Tensor) -> Probe:
    """Return the ridge regression from features [n, F], each first brought to variance 1, to unit vectors [n, D]."""
    x_mean, x_scale = sounds.double().mean(0), sounds.double().std(0, correction=0).clamp(min=1e-6)
    x = (sounds - x_mean) / x_scale
    y_mean = vectors.double().mean(0)
    normal = x.T @ x + RIDGE * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    weight = torch.linalg.solve(normal, x.T @ (vectors - y_mean)).T / x_scale  # [D, F]
    return Probe(weight.float(), (-weight @ x_mean).float(), y_mean.float())


def _batches(source: ExampleSource, n_samples: int, size: int) -> Iterator[Batch]:
    """Yield this process's share of the first samples of a training, up to one epoch, `size` at a time."""
    numbers = range(min(n_samples, len(source)))
    for start in range(size * process_index(), len(numbers), size * count_processes()):
        read: Sequence[object] = [source[number] for number in numbers[start : start + size]]
        yield source.finish(source.collate(read))
