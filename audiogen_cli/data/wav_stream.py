"""Sound written while it is generated: a WAV file that is valid after every block, or raw samples into a pipe."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from audiogen_cli.data.audio import TAG_BYTES, clean_tags, pcm16
from audiogen_cli.errors import AudiogenError, disk_errors
from audiogen_cli.files import delete, temporary_name

HEADER_BYTES = 44
MAX_SAMPLES = (2**32 - HEADER_BYTES - 8 * TAG_BYTES) // 2  # RIFF counts bytes in 32 bits: 37 hours at 16 kHz


_INFO = {"title": b"INAM", "comment": b"ICMT", "software": b"ISFT", "copyright": b"ICOP"}  # chunks of RIFF INFO


class StreamingWavWriter:
    """A mono 16-bit WAV file under its final name. Its header is valid after every block, so that a player may open it
    at any time. Left by an exception the file is removed, and what was there before comes back: one that stays is
    complete."""

    def __init__(self, path: Path, sample_rate: int, tags: Mapping[str, str] | None = None) -> None:
        self.path, self.sample_rate, self._info = path, sample_rate, _info_chunk(clean_tags(tags or {}))

    def __enter__(self) -> StreamingWavWriter:
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replaced = self.path.is_file() and not self.path.is_symlink()
            self._old = self.path.rename(temporary_name(self.path.parent)) if replaced else None
            try:
                # Buffered: a raw file may write less than it is given, and not say so.
                self._file: BinaryIO = self.path.open("wb")
                self._append(b"")
            except OSError:
                self._restore()
                raise
        return self

    def write(self, wav: np.ndarray) -> None:
        """Append samples [n] in [-1, 1], rounded as `write_audio` does. Raises AudiogenError if the disk refuses."""
        samples = _to_pcm16(wav, self.path)
        with disk_errors(self.path):
            self._append(samples.astype("<i2").tobytes())

    def __exit__(self, kind: object, *_: object) -> None:
        with suppress(OSError):  # what could not be written was said before
            self._file.close()
        if kind is not None:
            self._restore()
        elif self._old:
            delete(self._old)

    def _restore(self) -> None:
        self.path.unlink(missing_ok=True)
        if self._old:
            self._old.rename(self.path)

    def _append(self, samples: bytes) -> None:
        """Write samples and put the header right."""
        self._file.seek(0, io.SEEK_END)
        self._file.write(samples)
        header, rate = HEADER_BYTES + len(self._info), self.sample_rate
        size = max(0, self._file.tell() - header)
        self._file.seek(0)
        riff = struct.pack("<4sI8sIHHIIHH", b"RIFF", header - 8 + size, b"WAVEfmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
        self._file.write(riff + self._info + struct.pack("<4sI", b"data", size))
        self._file.flush()


class RawPipe:
    """16-bit little-endian samples without a header. Raises BrokenPipeError when the reader has gone."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def write(self, wav: np.ndarray) -> None:
        """Send samples [n], clamped to [-1, 1], at once."""
        self.file.write(_to_pcm16(wav, Path("-")).astype("<i2").tobytes())
        self.file.flush()


def _info_chunk(tags: Mapping[str, str]) -> bytes:
    """Return the LIST chunk that holds tags; b"" without any."""
    texts = {_INFO[name]: text.encode() + b"\0" for name, text in tags.items() if name in _INFO}
    parts = [id + struct.pack("<I", len(text)) + text + b"\0" * (len(text) % 2) for id, text in texts.items()]
    body = b"INFO" + b"".join(parts)
    return b"LIST" + struct.pack("<I", len(body)) + body if parts else b""


def _to_pcm16(wav: np.ndarray, path: Path) -> np.ndarray:
    if not np.isfinite(wav).all():
        raise AudiogenError(f"{path}: not written: samples are not finite numbers")
    return pcm16(wav)
