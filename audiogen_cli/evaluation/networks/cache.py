"""Embeddings on disk: computed once per audio content and network, reused by every later run."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiogen_cli.files import replacing


@dataclass(frozen=True)
class ClipEmbedding:
    """A network's output for one clip. C = 0 for a network without classes."""

    embeddings: np.ndarray  # [n, D] float32
    logits: np.ndarray  # [C] float32, the mean over windows
    probabilities: np.ndarray  # [C] float64, the mean over windows of each one's softmax
    near_silent: bool
    peak: float = 0.0  # of full scale


class EmbeddingCache:
    """`ClipEmbedding` by key, in a folder per network: its name, its file's hash and our front end's version.

    Safe under parallel runs: a file appears whole, and two runs write the same under one key. A folder that cannot be
    written costs time, not the run.
    """

    def __init__(self, folder: Path, name: str, sha256: str, version: int) -> None:
        self.folder = folder / "embeddings" / f"{name}-{sha256[:16]}-{version}"

    def get(self, key: str) -> ClipEmbedding | None:
        """Read the embedding of a key; None if there is none or its file is damaged."""
        try:
            with np.load(self._path(key), allow_pickle=False) as file:
                levels = bool(file["near_silent"]), float(file["peak"])
                return ClipEmbedding(file["embeddings"], file["logits"], file["probabilities"], *levels)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def put(self, key: str, embedding: ClipEmbedding) -> None:
        """Write the embedding of a key, if the disk lets us."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **vars(embedding))
        except OSError:
            return

    def _path(self, key: str) -> Path:
        digest = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest}.npz"
