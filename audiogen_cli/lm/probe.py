"""A linear probe: which text a sound fits, read off the language model's own hidden states.

# ours: what a model learns in order to go on with sounds tells what they are, too; linear regression from its blocks'
# states to text vectors finds it (cf. Alain and Bengio 2016). Likelihoods do not: of several takes the one that the
# text makes likeliest is not much more often recognised than the first. So a sound is compared with its text where
# vectors of sounds and of texts meet, as in contrastive models of both, at the cost of one matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.text.encoders import TextEncoder
from audiogen_cli.lm.training.datasets import Batch, Samples
from audiogen_cli.model_folder import PROBE_FILE, load_tensors, save_tensors

RIDGE = 0.05  # of the number of samples: what is added to the variances, which are all 1
DEPTHS = 3  # blocks that are read, evenly spread; the last is one of them


@dataclass(frozen=True)
class Probe:
    """The linear map from features [F] of a sound to the vector [D] of a text that says what it is."""

    weight: Tensor  # [D, F] float32
    bias: Tensor  # [D]
    centre: Tensor  # [D], the mean of the training texts' vectors

    @torch.inference_mode()
    def score(self, model: AudioLanguageModel, codes: Tensor, text: Tensor) -> float:
        """Score how well a sound fits a text: the cosine of their vectors, in [-1, 1].

        codes: [K, T] int64; text: [L, D], the encoder's vectors. Beyond the trained window, the mean over consecutive
        windows, by their lengths.
        """
        wanted = F.normalize(text_vector(text) - self.centre, dim=0)
        total = 0.0
        for window in codes.to(model.null_text.device).split(model.config.max_frames, dim=1):
            heard = self.weight @ features(model, window[None])[0].cpu() + self.bias
            total += float(F.normalize(heard, dim=0) @ wanted) * window.shape[1]
        return total / codes.shape[1]

    def save(self, folder: Path) -> None:
        """Write it into a model folder, as float16."""
        save_tensors(folder / PROBE_FILE, {name: tensor.half() for name, tensor in asdict(self).items()})

    @classmethod
    def load(cls, folder: Path) -> Probe | None:
        """A model folder's probe, or None if it has none. Raises InputError if it is damaged."""
        return cls(**load_tensors(folder / PROBE_FILE)) if (folder / PROBE_FILE).is_file() else None


def features(model: AudioLanguageModel, codes: Tensor, frames_mask: Tensor | None = None) -> Tensor:
    """codes [B, K, T] → [B, F] float32: mean and maximum over time of some blocks' states, read without a text."""
    states, mask = model.hidden_states(codes, read_blocks(model.config.n_layers), frames_mask)
    mask = mask[..., None]
    means = [state.float().masked_fill(~mask, 0.0).sum(1) / mask.sum(1) for state in states]
    peaks = [state.float().masked_fill(~mask, -torch.inf).amax(1) for state in states]
    return torch.cat([*means, *peaks], dim=1)


def read_blocks(n_layers: int) -> list[int]:
    """The numbers of the blocks whose states are read."""
    return sorted({max(1, n_layers * depth // DEPTHS) - 1 for depth in range(1, DEPTHS + 1)})


def text_vector(text: Tensor) -> Tensor:
    """Token vectors [L, D] → [D], their mean, of length 1."""
    return F.normalize(text.float().mean(0), dim=0)


@torch.inference_mode()
def train_probe(
    model: AudioLanguageModel, samples: Samples, encoder: TextEncoder, n_samples: int, micro_batch: int
) -> Probe | None:
    """Ridge regression, in closed form, from the features of the first `n_samples` samples to their texts' vectors.

    Each dimension of the features is first brought to variance 1. None if fewer than two samples have a text.
    """
    heard, told = [], []
    for batch in _batches(samples, n_samples, micro_batch):
        texts = encoder.encode([text or "" for text in batch.texts])
        rows = [row for row, text in enumerate(texts) if len(text) and batch.frames_mask[row].any()]
        if rows:
            codes, mask = (each[rows].to(model.null_text.device) for each in (batch.codes, batch.frames_mask))
            heard.append(features(model, codes, mask).cpu())
            told += [text_vector(texts[row]) for row in rows]
    return regress(torch.cat(heard), torch.stack(told)) if len(told) > 1 else None


def regress(heard: Tensor, told: Tensor) -> Probe:
    """The probe that ridge regression gives from features [n, F] to unit text vectors [n, D]."""
    x_mean, x_scale = heard.double().mean(0), heard.double().std(0, correction=0).clamp(min=1e-6)
    x = (heard - x_mean) / x_scale
    y_mean = told.double().mean(0)
    normal = x.T @ x + RIDGE * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    weight = torch.linalg.solve(normal, x.T @ (told - y_mean)).T / x_scale  # [D, F]
    return Probe(weight.float(), (-weight @ x_mean).float(), y_mean.float())


def _batches(samples: Samples, n_samples: int, size: int) -> Iterator[Batch]:
    """The first samples of a training, up to one epoch, `size` at a time."""
    numbers = range(min(n_samples, len(samples)))
    for start in range(0, len(numbers), size):
        read: Sequence[object] = [samples[number] for number in numbers[start : start + size]]
        yield samples.finish(samples.gather(read))
