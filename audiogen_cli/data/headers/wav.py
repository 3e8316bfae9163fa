"""WAV files whose header was written before their samples and never corrected: the `data` chunk says 0 bytes."""

from __future__ import annotations

from pathlib import Path


def count_bytes(path: Path) -> tuple[bytes, int] | None:
    """Return the header as it should be, and where the samples begin; None if no samples follow the header."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return None
        while len(chunk := file.read(8)) == 8:
            length = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"data":
                begin = file.tell()
                left = min(size - begin, 2**32 - 1 - begin)
                sizes = (begin - 8 + left).to_bytes(4, "little"), left.to_bytes(4, "little")
                return (head[:4] + sizes[0] + head[8:] + b"data" + sizes[1], begin) if left and not length else None
            head += chunk + file.read(length + length % 2)
    return None
