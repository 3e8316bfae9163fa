"""What networks heard, kept on disk: once per content of a sound and per network, for every later run."""

from __future__ import annotations

import hashlib
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiogen_cli.files import replacing

VARIABLE = "AUDIOGEN_CACHE"


def cache_folder() -> Path:
    """AUDIOGEN_CACHE, else audiogen/ in XDG_CACHE_HOME, else ~/.cache/audiogen. Its content may be deleted any time."""
    if given := os.environ.get(VARIABLE):
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "audiogen"


@dataclass(frozen=True)
class Heard:
    """What a network made of one clip. C = 0 for a network without classes."""

    embeddings: np.ndarray  # [n, D] float32
    logits: np.ndarray  # [C] float32, the mean over windows
    probabilities: np.ndarray  # [C] float64, the mean over windows of each one's softmax
    near_silent: bool


class EmbeddingCache:
    """`Heard` by key, in a folder per network: its name, its file's hash and our front end's version.

    Safe under parallel runs: a file appears whole, and what two runs write under one key is the same. A folder that
    cannot be written costs time, not the run.
    """

    def __init__(self, folder: Path, name: str, sha256: str, version: int) -> None:
        self.folder = folder / "embeddings" / f"{name}-{sha256[:16]}-{version}"

    def get(self, key: str) -> Heard | None:
        """What was kept under a key, or None; a damaged file counts as absent."""
        try:
            with np.load(self._path(key), allow_pickle=False) as file:
                return Heard(file["embeddings"], file["logits"], file["probabilities"], bool(file["near_silent"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def put(self, key: str, heard: Heard) -> None:
        """Keep what was heard."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **vars(heard))
        except OSError:
            return

    def _path(self, key: str) -> Path:
        digest = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest}.npz"
