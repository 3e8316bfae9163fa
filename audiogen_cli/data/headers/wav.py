"""WAV, AIFF, W64 and AU files whose header does not tell what they hold: written before the samples, or cut since."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

Order = Literal["little", "big"]
_RIFF = (b"RIFF", b"RIFX", b"RF64", b"BW64")
_MOST_CHUNKS = 1_000  # before the samples
_LONG = 2**32 - 1  # the size in the `data` chunk of RF64, whose `ds64` chunk has the real one
_OF_STREAMS = 0, 0x7F000000  # sizes that streams write, modulo 2^31 (the second is sox's of AIFF): they tell nothing
_FEW = 128  # bytes, a millisecond: no loss
_SLACK = 1 << 16  # bytes about these
_AU_BYTES = {3: 2, 4: 3, 5: 4, 6: 4, 7: 8}  # of a sample, by the number of its encoding; 1 with others


def count_bytes(path: Path) -> tuple[bytes, int] | None:
    """Return the header as it should be, where the `data` chunk says 0 bytes, and where the samples begin.

    None if no samples follow the header.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        for name, length, begin in _chunks(file, "little") if head[:4] + head[8:] == b"RIFFWAVE" else ():
            if name == b"data":
                left = min(size - begin, 2**32 - 1 - begin)
                if length or not left:
                    return None
                file.seek(12)
                between = file.read(begin - 8 - 12)
                sizes = (begin - 8 + left).to_bytes(4, "little"), left.to_bytes(4, "little")
                return head[:4] + sizes[0] + head[8:] + between + b"data" + sizes[1], begin
    return None


def count_blocks(path: Path) -> tuple[int, int]:
    """Return how many blocks of samples a WAV, AIFF, W64 or AU file holds, and how many its header tells of.

    A block is a sample of all channels, or what a compressed format keeps together. (1, 1) for other files, and where
    the two do not differ by a block.
    """
    end = path.stat().st_size
    with path.open("rb") as file:
        kind, offset, form = file.read(4), file.read(4), file.read(4)
        if (kind in _RIFF and form == b"WAVE") or (kind == b"FORM" and form in (b"AIFF", b"AIFC")):
            return _count_blocks(file, "big" if kind in (b"RIFX", b"FORM") else "little", end)
        if kind == b"riff":
            return _count_blocks(file, "little", end, True)
        if kind in (b".snd", b"dns."):
            order: Order = "big" if kind == b".snd" else "little"
            parts = offset, form, file.read(4), file.read(8)[4:]
            begin, size, encoding, channels = (int.from_bytes(part, order) for part in parts)
            return _compare(size, begin, end, max(1, channels) * _AU_BYTES.get(encoding, 1))
    return 1, 1


def _count_blocks(file: BinaryIO, order: Order, end: int, is_w64: bool = False) -> tuple[int, int]:
    block = long_size = 0
    for name, size, begin in _chunks(file, order, is_w64):
        if name == b"ds64":
            long_size = int.from_bytes(file.read(16)[8:], order)
        elif name == b"fmt ":
            block = int.from_bytes(file.read(14)[12:], order)
        elif name == b"COMM":
            channels, bits = (int.from_bytes(part, order) for part in (file.read(2), file.read(6)[4:]))
            block = channels * -(-bits // 8)
        elif name == b"data":
            return _compare(long_size if long_size and size == _LONG else size, begin, end, max(1, block))
        elif name == b"SSND":  # begins with two numbers
            return _compare(size - 8, begin + 8, end, max(1, block))
    return 1, 1


def _compare(size: int, begin: int, end: int, block: int) -> tuple[int, int]:
    """Return the blocks in the bytes [begin, end) of a file, and in the `size` promised; (1, 1) if none is missing.

    Some writers count the header, too, or a pad byte that is not there.
    """
    lost, there = size - (end - begin), end - begin
    is_stream = size > _SLACK and any((size - known + _SLACK) % 2**31 < 2 * _SLACK for known in _OF_STREAMS)
    is_whole = lost < max(block, _FEW) or lost in (begin, begin - 8)
    return (1, 1) if is_whole or is_stream else (there // block, size // block)


def _chunks(file: BinaryIO, order: Order, is_w64: bool = False) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, length and beginning of each chunk; the file stands at the beginning then.

    W64 has names of 16 bytes, and lengths of 8 that count their chunk's head.
    """
    begin, n_name, n_head, align = (40, 16, 24, 8) if is_w64 else (12, 4, 8, 2)
    for _ in range(_MOST_CHUNKS):
        file.seek(begin)
        if len(head := file.read(n_head)) < n_head:
            return
        length = max(0, int.from_bytes(head[n_name:], order) - is_w64 * n_head)
        begin += n_head
        yield head[:4], length, begin
        begin += length + -(begin + length) % align
