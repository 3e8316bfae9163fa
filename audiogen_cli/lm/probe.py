"""A linear probe that judges how well a sound fits a text, from the language model's own hidden states.

# ours: a model that has learned to continue sounds knows what they are; linear regression from its blocks' states to
text vectors finds that (cf. Alain and Bengio 2016). Likelihoods do not: of several candidates the one that the text
makes likeliest is not much more often recognized than the first. So a sound is compared with its text in one space for
vectors of both, as in contrastive models, at the cost of one matrix. `training.probe` makes probes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from audiogen_cli.errors import InputError
from audiogen_cli.lm.config import LMConfig
from audiogen_cli.lm.model import CodeModel
from audiogen_cli.model_folder import PROBE_FILE, compare_shapes, load_tensors, save_tensors

DEPTHS = 3  # blocks that are read, evenly spread; the last is one of them


@dataclass(frozen=True)
class Probe:
    """The linear map from features [F] of a sound to the vector [D] of a text that describes it."""

    weight: Tensor  # [D, F] float32
    bias: Tensor  # [D]
    center: Tensor  # [D], the mean of the training texts' vectors

    @torch.inference_mode()
    def score(self, model: CodeModel, codes: Tensor, text: Tensor, negative: Tensor | None = None) -> float:
        """Score how well a sound fits a text: the cosine of their vectors, in [-1, 1], less that of a negative text.

        codes: [K, T] int64; text, negative: [L, D], the encoder's vectors. Beyond the trained window, the mean over
        consecutive windows, weighted by their lengths.
        """
        wanted = F.normalize(text_vector(text) - self.center, dim=0)
        if negative is not None:
            wanted = wanted - F.normalize(text_vector(negative) - self.center, dim=0)
        total = 0.0
        for window in codes.to(model.null_text.device).split(model.config.window_frames, dim=1):
            with model.mixed_precision():
                found = self.weight @ features(model, window[None])[0].cpu() + self.bias
            total += float(F.normalize(found, dim=0) @ wanted) * window.shape[1]
        return total / codes.shape[1]

    def save(self, folder: Path) -> None:
        """Write the probe into a model folder, as float16."""
        tensors = {"weight": self.weight, "bias": self.bias, "centre": self.center}
        save_tensors(folder / PROBE_FILE, {name: tensor.half() for name, tensor in tensors.items()})

    @classmethod
    def load(cls, folder: Path, config: LMConfig | None = None) -> Probe | None:
        """Read a model folder's probe; None if it has none. Raises InputError if it is damaged.

        config: of the model that it must fit; None: any.
        """
        if not (folder / PROBE_FILE).is_file():
            return None
        tensors = load_tensors(folder / PROBE_FILE)
        found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        shape = found.get("weight", ())
        width, n_features = shape if len(shape) == 2 else (0, 0)
        if config:
            width, n_features = config.text_width, 2 * len(read_blocks(config.n_layers)) * config.dim
        wanted = {"weight": (width, n_features), "bias": (width,), "centre": (width,)}
        compare_shapes(wanted, found, str(folder / PROBE_FILE))
        if not all(tensor.is_floating_point() for tensor in tensors.values()):
            raise InputError(f"{folder / PROBE_FILE}: holds whole numbers in place of weights; copy the model again")
        return cls(tensors["weight"], tensors["bias"], tensors["centre"])


def features(model: CodeModel, codes: Tensor, frames_mask: Tensor | None = None) -> Tensor:
    """Compute features [B, F] of codes [B, K, T]: mean and maximum over time of some blocks' states, without text."""
    states, mask = model.hidden_states(codes, read_blocks(model.config.n_layers), frames_mask)
    mask = mask[..., None]
    means = [state.float().masked_fill(~mask, 0.0).sum(1) / mask.sum(1) for state in states]
    peaks = [state.float().masked_fill(~mask, -torch.inf).amax(1) for state in states]
    return torch.cat([*means, *peaks], dim=1)


def read_blocks(n_layers: int) -> list[int]:
    """Return the numbers of the blocks whose states are read."""
    return sorted({max(1, n_layers * depth // DEPTHS) - 1 for depth in range(1, DEPTHS + 1)})


def text_vector(text: Tensor) -> Tensor:
    """Average token vectors [L, D], scaled to length 1: [D]."""
    return F.normalize(text.float().mean(0), dim=0)
