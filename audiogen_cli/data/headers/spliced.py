"""A file read with another beginning, for readers that take file objects."""

from __future__ import annotations

import io
from pathlib import Path


class SplicedFile(io.RawIOBase):
    """Read `head`, then the bytes of `path` from `start` on. name: of the file; libsndfile reads its suffix."""

    def __init__(self, path: Path, head: bytes, start: int) -> None:
        self.name = str(path)
        self._head, self._start, self._position = head, start, 0
        self._file = path.open("rb")
        self._size = len(head) + path.stat().st_size - start

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill the buffer; return the number of bytes, 0 at the end."""
        block = self._head[self._position : self._position + len(buffer)]
        if not block:
            self._file.seek(self._position - len(self._head) + self._start)
            block = self._file.read(len(buffer))
        buffer[: len(block)] = block
        self._position += len(block)
        return len(block)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move as `io.IOBase.seek` does."""
        self._position = max(0, offset + (0, self._position, self._size)[whence])
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
