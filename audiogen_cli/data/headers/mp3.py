"""MP3 files (layer III) without a Xing, Info or VBRI frame, whose length libsndfile guesses from the first frame.

The guess is off by some samples where the bit rate is constant, and by a factor of two to four where it is not. So the
frames are counted, and a frame with their number, as encoders write it, is put in front.
"""

from __future__ import annotations

import mmap
from functools import lru_cache
from pathlib import Path

_RATES = (44_100, 48_000, 32_000)  # Hz, of MPEG-1; MPEG-2 has half of them, MPEG-2.5 a quarter
_BITRATES = (  # kbit/s of layer III: MPEG-1, then MPEG-2 and 2.5
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_MPEG1, _LAYER3, _MONO = 3, 1, 3
_HAS_FRAMES = 1  # flag of a Xing frame
_JUNK = 1 << 16  # bytes before the first frame that are searched


def count_frames(path: Path) -> tuple[bytes, int] | None:
    """Return a Xing frame for a file that has none, and where its first frame begins; None if it needs none."""
    status = path.stat()
    return _count_frames(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _count_frames(path: Path, size: int, mtime: int) -> tuple[bytes, int] | None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        position = first = _first_frame(data)
        if first is None or position is None:
            return None
        length, tag = _frame_length(data[first : first + 4]), first + _tag_offset(data[first : first + 4])
        if data[first + 36 : first + 40] == b"VBRI" or _has_count(data[tag : tag + 8]):
            return None
        n_frames = 0
        while position is not None and position + length <= len(data):
            n_frames += 1
            position = _next_frame(data, position + length, data[first : first + 4])
            length = _frame_length(data[position : position + 4]) if position is not None else 0
        return _xing_frame(data[first : first + 4], n_frames), first


def _has_count(tag: bytes) -> bool:
    return tag[:4] in (b"Xing", b"Info") and bool(int.from_bytes(tag[4:8], "big") & _HAS_FRAMES)


def _first_frame(data: mmap.mmap) -> int | None:
    """Find the first frame, after ID3 tags, that another one follows."""
    start = 0
    while data[start : start + 3] == b"ID3":
        start += 10 + sum(
            (byte & 0x7F) << shift for byte, shift in zip(data[start + 6 : start + 10], (21, 14, 7, 0), strict=False)
        )
    limit = min(len(data), start + _JUNK)
    while (start := data.find(b"\xff", start, limit)) >= 0:
        header = data[start : start + 4]
        if (length := _frame_length(header)) and _same_format(header, data[start + length : start + length + 4]):
            return start
        start += 1
    return None


def _next_frame(data: mmap.mmap, position: int, like: bytes) -> int | None:
    """Return `position`, if a frame begins there, else the next place where one does."""
    while position >= 0:
        if _same_format(like, data[position : position + 4]):
            return position
        position = data.find(b"\xff", position + 1)
    return None


def _same_format(header: bytes, other: bytes) -> bool:
    """Compare two frames' version, layer and rate."""
    same = len(other) == 4 and header[0] == other[0] and not (header[1] ^ other[1]) & 0xFE
    return same and not (header[2] ^ other[2]) & 0x0C and _frame_length(other) > 0


def _frame_length(header: bytes) -> int:
    """Return the bytes of the frame that a header begins; 0 if it is no header of layer III."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    bitrate, rate = header[2] >> 4, header[2] >> 2 & 3
    if layer != _LAYER3 or version == 1 or bitrate in (0, 15) or rate == 3:
        return 0
    mpeg1 = version == _MPEG1
    hertz = _RATES[rate] // {_MPEG1: 1, 2: 2, 0: 4}[version]
    return (144 if mpeg1 else 72) * _BITRATES[not mpeg1][bitrate] * 1000 // hertz + (header[2] >> 1 & 1)


def _tag_offset(header: bytes) -> int:
    """Return the position of the tag in a Xing frame: after the side information, which is empty."""
    mono = header[3] >> 6 == _MONO
    return 4 + ((17 if mono else 32) if header[1] >> 3 & 3 == _MPEG1 else (9 if mono else 17))


def _xing_frame(like: bytes, n_frames: int) -> bytes:
    tag = b"Xing" + _HAS_FRAMES.to_bytes(4, "big") + n_frames.to_bytes(4, "big")
    # Without a checksum, of the first bit rate whose frames have room for the tag.
    for bitrate in range(1, 15):
        header = bytes([like[0], like[1] | 1, bitrate << 4 | like[2] & 0x0C, like[3]])
        if (length := _frame_length(header)) >= _tag_offset(header) + len(tag):
            break
    return (header + bytes(_tag_offset(header) - 4) + tag).ljust(length, b"\0")
