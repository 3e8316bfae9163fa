"""Sound written while it is generated: a WAV file that is valid after every block, or raw samples into a pipe."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import BinaryIO

import numpy as np

from audiogen_cli.data.audio import pcm16
from audiogen_cli.errors import AudiogenError, disk_errors

HEADER_BYTES = 44
MAX_SAMPLES = (2**32 - HEADER_BYTES) // 2  # RIFF counts bytes in 32 bits: 37 hours at 16 kHz


class StreamingWavWriter:
    """A mono 16-bit WAV file under its final name. Its header is valid after every block, so that a player may open it
    at any time. Left by an exception the file is removed: one that stays is complete."""

    def __init__(self, path: Path, sample_rate: int) -> None:
        self.path, self.sample_rate = path, sample_rate

    def __enter__(self) -> StreamingWavWriter:
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = self.path.open("wb", buffering=0)
            self._wav = wave.open(self._file, "wb")
            self._wav.setparams((1, 2, self.sample_rate, 0, "NONE", "not compressed"))
            self._wav.writeframes(b"")  # the header
        return self

    def write(self, wav: np.ndarray) -> None:
        """Append samples [n] in [-1, 1], rounded as `write_audio` does. Raises AudiogenError if the disk refuses."""
        samples = _to_pcm16(wav, self.path)
        with disk_errors(self.path):
            self._wav.writeframes(samples.tobytes())  # corrects the header, too

    def __exit__(self, kind: object, *_: object) -> None:
        with self._file:
            self._wav.close()
        if kind is not None:
            self.path.unlink(missing_ok=True)


class RawPipe:
    """16-bit little-endian samples without a header. Raises BrokenPipeError when the reader has gone."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def write(self, wav: np.ndarray) -> None:
        """Send samples [n], clamped to [-1, 1], at once."""
        self.file.write(_to_pcm16(wav, Path("-")).astype("<i2").tobytes())
        self.file.flush()


def _to_pcm16(wav: np.ndarray, path: Path) -> np.ndarray:
    if not np.isfinite(wav).all():
        raise AudiogenError(f"{path}: not written: samples are not finite numbers")
    return pcm16(wav)
