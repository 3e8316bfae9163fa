"""CLAP (Wu et al. 2023) through transformers: embeddings of sounds and texts.

The checkpoint decides the scale, so its name is in the metric's. The default, `laion/clap-htsat-unfused`, is not among
the checkpoints of published CLAP scores: it ranks systems within one table, beside the real recordings' score.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audiogen_cli.devices import choose_device
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.networks.base import AudioNetwork, MissingWeightsError, NetworkOutput, WeightSource
from audiogen_cli.evaluation.networks.torch_network import CLIPS_PER_BATCH
from audiogen_cli.files import hash_file

DEFAULT = "laion/clap-htsat-unfused"
VARIABLE = "AUDIOGEN_CLAP"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
TEXTS_PER_BATCH = 64


class Clap(AudioNetwork):
    """A CLAP model folder in transformers' form; one embedding per clip, no classes."""

    sample_rate, version = 48_000, 2
    min_duration = 0.1
    max_duration = 10.0  # a longer clip would be cropped at random
    license = "weights: LAION, see the model's card"

    def load(self, source: WeightSource) -> None:
        """Find the folder by path, by variable or in Hugging Face's cache; load the model and its processors."""
        folder, name = _find(source)  # before torch and transformers are loaded in vain
        import torch
        from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

        self.name = "clap_" + re.sub(r"[^a-z0-9]+", "_", name.lower().removeprefix("clap")).strip("_")
        try:
            self.path = next(folder / name for name in WEIGHTS if (folder / name).is_file())
            model: Any = ClapModel.from_pretrained(folder, local_files_only=True)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self.features: Any = ClapFeatureExtractor.from_pretrained(folder, local_files_only=True)
        except (StopIteration, OSError, ValueError, TypeError, RuntimeError) as error:
            reason = (str(error) or "no weights").splitlines()[0]
            raise InputError(f"{folder} is not a CLAP model folder of transformers: {reason[:160]}") from None
        self.sha256 = hash_file(self.path)
        self.device = choose_device(source.device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.dim = self.model.config.projection_dim
        self.batch_size = 1 if self.device == torch.device("cpu") else CLIPS_PER_BATCH

    def classify(self, wav: np.ndarray) -> NetworkOutput:
        """Embed wav [B, N] float32 at 48 kHz; embeddings [B, 1, D] of length 1."""
        import torch

        inputs = self.features(list(wav), sampling_rate=self.sample_rate, return_tensors="pt").to(self.device)
        # A fused model takes a clip of a batch, at random, for a longer one; alone, as in published scores, each is it.
        inputs["is_longer"][:] = self.features.truncation == "fusion"
        with torch.inference_mode():
            pooled = self.model.audio_model(**inputs).pooler_output
            embeddings = torch.nn.functional.normalize(self.model.audio_projection(pooled), dim=-1)
        return NetworkOutput(np.zeros((len(wav), 1, 0), np.float32), embeddings.cpu().numpy()[:, None])

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed captions as written: [n, D] of length 1."""
        import torch

        parts = []
        for start in range(0, len(texts), TEXTS_PER_BATCH):
            batch = list(texts[start : start + TEXTS_PER_BATCH])
            inputs = self.tokenizer(batch, padding=True, truncation=True, return_tensors="pt").to(self.device)
            with torch.inference_mode():
                pooled = self.model.text_model(**inputs).pooler_output
                parts.append(torch.nn.functional.normalize(self.model.text_projection(pooled), dim=-1).cpu().numpy())
        return np.concatenate(parts)


def is_here() -> bool:
    """Tell whether a model can be loaded without a download; does not import transformers."""
    try:
        _find(WeightSource())
    except MissingWeightsError:
        return False
    return True


def _find(source: WeightSource) -> tuple[Path, str]:
    """Find the model's folder and its name."""
    given = source.path or os.environ.get(VARIABLE)
    if given and Path(given).expanduser().exists():
        folder = Path(given).expanduser()
        folder = folder if folder.is_dir() else folder.parent
        return folder, folder.resolve().name
    name = str(given or DEFAULT)
    from huggingface_hub import snapshot_download

    try:
        files = ["*.json", "*.txt", *WEIGHTS]
        folder = Path(snapshot_download(name, allow_patterns=files, local_files_only=not source.download))
        if not any((folder / each).is_file() for each in WEIGHTS):  # its download was stopped
            raise FileNotFoundError(f"{folder} holds no weights")
    except Exception as error:  # the hub's own kinds, the network's, the disk's
        if source.download:
            raise InputError(f"{name} could not be fetched from Hugging Face: {str(error).splitlines()[0]}") from None
        raise MissingWeightsError(
            f"the weights of clap are not here: {name} (about 615 MB, Hugging Face) is not in its cache;"
            f" set {VARIABLE} to a model folder, or add --download"
        ) from None
    return folder, name.rpartition("/")[2]
