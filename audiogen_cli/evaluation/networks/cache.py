"""Embeddings on disk: computed once per audio content and network, reused by every later run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiogen_cli.files import is_there, note, replacing


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

    def __init__(self, folder: Path, name: str, sha256: str, version: int, dim: int) -> None:
        self.dim = dim
        self.folder = folder / "embeddings" / f"{name}-{sha256[:16]}-{version}"

    def get(self, key: str) -> ClipEmbedding | None:
        """Read the embedding of a key; None if there is none or its file is damaged, which the user is shown."""
        path = self._path(key)
        if not is_there(path):
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = (file["embeddings"], file["logits"], file["probabilities"])
                found = ClipEmbedding(*arrays, bool(file["near_silent"]), float(file["peak"]))
            if self._fits(found):
                return found
        except Exception:  # whatever numpy and zipfile make of damaged files
            pass
        note(f"{path}: was damaged and is computed again")
        return None

    def _fits(self, found: ClipEmbedding) -> bool:
        rows, logits, probabilities = found.embeddings, found.logits, found.probabilities
        types = [rows.dtype, logits.dtype, probabilities.dtype] == [np.float32, np.float32, np.float64]
        shapes = rows.ndim == 2 and len(rows) > 0 and rows.shape[1] == self.dim
        shapes = shapes and logits.ndim == 1 and logits.shape == probabilities.shape
        return types and shapes and all(np.isfinite(each).all() for each in (rows, logits, probabilities, found.peak))

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
