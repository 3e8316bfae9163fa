"""Encoded texts kept on disk: a large text encoder reads each text once, not once a run and process."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audiogen_cli.errors import disk_errors
from audiogen_cli.files import check_folder, note, replacing
from audiogen_cli.lm.text.encoders import TextEncoder

MOST_TEXTS = 1 << 18  # in a folder, about: 13 GB of t5-base's for captions


class CachedTexts(TextEncoder):
    """An encoder that looks into `folder` first, and leaves there what it had to compute.

    One .npy file (float32 [L, D]) a text, named by SHA-256 of the encoder's identity and the text; processes and
    machines may share the folder; once it holds MOST_TEXTS, others are computed every time. Raises InputError if it
    cannot be written to.
    """

    def __init__(self, encoder: TextEncoder, folder: Path) -> None:
        super().__init__()
        check_folder(folder)
        self._encoder, self._folder, self._identity = encoder, folder, encoder.identity()
        self.width, self.fingerprint = encoder.width, encoder.fingerprint
        self._room = MOST_TEXTS - sum(1 for _ in folder.glob("??/*.npy"))

    def identity(self) -> str:
        """Return the encoder's identity."""
        return self._identity

    def compute(self, texts: Sequence[str]) -> list[Tensor]:
        """Read what is there, compute the rest. Raises AudiogenError if the disk refuses."""
        found = {text: self._read(text) for text in texts}
        missing = [text for text, vectors in found.items() if vectors is None]
        for text, computed in zip(missing, self._encoder.compute(missing) if missing else [], strict=True):
            if self._room > 0:
                self._write(text, computed)
                self._room -= 1
            found[text] = computed
        return [vectors for text in texts if (vectors := found[text]) is not None]

    def _path(self, text: str) -> Path:
        name = hashlib.sha256(f"{self._identity}\n{text}".encode()).hexdigest()
        return self._folder / name[:2] / f"{name}.npy"

    def _read(self, text: str) -> Tensor | None:
        path = self._path(text)
        if not path.is_file():
            return None
        try:
            vectors = np.array(np.load(path, mmap_mode="r", allow_pickle=False))  # mapped: no more than the file holds
            if vectors.dtype == np.float32 and vectors.ndim == 2 and vectors.shape[1] == self.width:
                return torch.from_numpy(vectors)
        except Exception:  # whatever numpy makes of damaged files
            pass
        note(f"{path}: was damaged and is computed again")
        return None

    def _write(self, text: str, vectors: Tensor) -> None:
        path = self._path(text)
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.save(file, vectors.numpy())
