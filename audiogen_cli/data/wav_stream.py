"""Sound written while it is made: a WAV file that is whole at every moment, or raw samples into a pipe."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol

import numpy as np

from audiogen_cli.data.audio import pcm16
from audiogen_cli.errors import AudiogenError

HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
MAX_SAMPLES = (2**32 - HEADER.size) // 2  # RIFF counts bytes in 32 bits: 37 hours at 16 kHz


class Sink(Protocol):
    """Where samples [n] go, block after block."""

    def write(self, wav: np.ndarray) -> None:
        """Take the next samples, clamped to [-1, 1]."""


class GrowingWav:
    """A mono 16-bit WAV file under its final name. Its header is right after every block, so that a player may open it
    at any time. Left by an exception the file is removed: one that stays is complete."""

    def __init__(self, path: Path, sample_rate: int) -> None:
        self.path, self.sample_rate, self.n_samples = path, sample_rate, 0

    def __enter__(self) -> GrowingWav:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = self.path.open("wb", buffering=0)
            self._write_header()
        except OSError as error:
            raise AudiogenError(f"{self.path}: cannot be written: {error.strerror or error}") from None
        return self

    def write(self, wav: np.ndarray) -> None:
        """Append samples [n] in [-1, 1], rounded as `write_audio` does. Raises AudiogenError if the disk refuses."""
        try:
            self._file.seek(0, os.SEEK_END)
            self._file.write(_bytes(wav, self.path))
            self.n_samples += len(wav)
            self._write_header()
        except OSError as error:
            raise AudiogenError(f"{self.path}: cannot be written: {error.strerror or error}") from None

    def _write_header(self) -> None:
        size, rate = 2 * self.n_samples, self.sample_rate
        riff = (b"RIFF", HEADER.size - 8 + size, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data", size)
        self._file.seek(0)
        self._file.write(HEADER.pack(*riff))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is not None:
            self.path.unlink(missing_ok=True)


class RawPipe:
    """16-bit little-endian samples without a header. A reader that has gone raises BrokenPipeError."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def write(self, wav: np.ndarray) -> None:
        """Send samples [n] on at once."""
        self.file.write(_bytes(wav, Path("-")))
        self.file.flush()


def _bytes(wav: np.ndarray, path: Path) -> bytes:
    if not np.isfinite(wav).all():
        raise AudiogenError(f"{path}: not written: samples are not finite numbers")
    return pcm16(wav).astype("<i2").tobytes()
