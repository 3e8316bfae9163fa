"""Text embedded in sound files: what sound libraries say of a sound, in the chunks where they say it.

WAV (and RF64, BW64): `bext` of Broadcast WAV, RIFF INFO, iXML, ID3; MP3: ID3; others: what libsndfile finds.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_BEXT_DESCRIPTION = 256  # bytes
_LONGEST_CHUNK = 1 << 20  # of text; pictures are longer
_TEXT_CHUNKS = frozenset((b"bext", b"list", b"ixml", b"id3 "))
_UNKNOWN_SIZE = 0xFFFFFFFF
_DESCRIPTIONS = ("bext", "BWF_DESCRIPTION", "ICMT", "COMM", "ISBJ", "NOTE", "comment")  # the first that says something
_KEYWORDS = ("IKEY", "KEYWORDS")
_IXML = re.compile(r"<(BWF_DESCRIPTION|NOTE|KEYWORDS)>", re.IGNORECASE)
_RECORDER = re.compile(r"(?:^|\s)[a-z]([A-Z][A-Z0-9]*)=")
_BY_SOX = "Processed by SoX"  # its comment on whatever it converts
_LINK = re.compile(r"(?:\bvisit(?: us)?(?: at)?:? )?(?:https?://|www\.)\S+", re.IGNORECASE)
_DESCRIPTION, _METADATA = re.compile(r"\bDESCRIPTION:"), re.compile(r"\bMETADATA:")
_ID3_ENCODINGS = ("latin-1", "utf-16", "utf-16-be", "utf-8")


@dataclass(frozen=True)
class FileMetadata:
    """The text in a file. description: a sentence or a list of words; empty if there is none."""

    description: str = ""
    keywords: tuple[str, ...] = ()


def read_file_metadata(path: Path) -> FileMetadata:
    """Read the text in a sound file; none if the file is too damaged."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
            if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:] == b"WAVE":
                fields = dict(reversed(list(_wav_fields(file))))  # of two equal ones the first counts
            elif head[:3] == b"ID3":
                file.seek(0)
                fields = dict(_id3_fields(file.read(_LONGEST_CHUNK)))
            else:
                fields = _soundfile_fields(path)
    except (OSError, RuntimeError):
        return FileMetadata()
    described = (_description(fields[name]) for name in _DESCRIPTIONS if name in fields)
    keywords = (_LINK.sub("", word).strip() for name in _KEYWORDS for word in re.split("[;,]", fields.get(name, "")))
    return FileMetadata(next(filter(None, described), ""), tuple(dict.fromkeys(filter(None, keywords))))


def _wav_fields(file: BinaryIO) -> Iterator[tuple[str, str]]:
    """Yield every text of a WAV file. Chunks may stand before or after the samples, in any number."""
    end = file.seek(0, 2)
    position, data_size = 12, 0
    while position + 8 <= end:
        file.seek(position)
        header = file.read(8)
        name, size = header[:4], int.from_bytes(header[4:], "little")
        if name == b"ds64":  # the true sizes of a file beyond 4 GB
            data_size = int.from_bytes(file.read(16)[8:], "little")
        elif name == b"data" and size == _UNKNOWN_SIZE:
            size = data_size or end
        elif name.lower() in _TEXT_CHUNKS and size <= _LONGEST_CHUNK:
            yield from _chunk_fields(name.lower(), file.read(size))
        position += 8 + size + size % 2


def _chunk_fields(name: bytes, body: bytes) -> Iterator[tuple[str, str]]:
    if name == b"bext":
        yield "bext", _whole_words(body[:_BEXT_DESCRIPTION])
    elif name == b"id3 ":
        yield from _id3_fields(body)
    elif name == b"ixml":
        text = body.replace(b"\0", b"").decode("utf-8", "replace")
        yield from _elements(text)
    elif body[:4] == b"INFO":
        position = 4
        while position + 8 <= len(body):
            size = int.from_bytes(body[position + 4 : position + 8], "little")
            yield body[position : position + 4].decode("latin-1"), _text(body[position + 8 : position + 8 + size])
            position += 8 + size + size % 2


def _elements(text: str) -> Iterator[tuple[str, str]]:
    """Yield the name and text of iXML's elements in question; linear in the text, whatever that is."""
    lower, end, unclosed = text.lower(), 0, set[str]()
    for match in _IXML.finditer(text):
        name = match.group(1).lower()
        if match.start() < end or name in unclosed:
            continue
        close = lower.find(f"</{name}>", match.end())
        if close < 0:
            unclosed.add(name)
            continue
        yield name.upper(), html.unescape(text[match.end() : close])
        end = close


def _whole_words(field: bytes) -> str:
    """Return a `bext` description; one that fills the field was cut, so its last word is dropped."""
    text = _text(field)
    if len(field.rstrip(b"\0 ")) < _BEXT_DESCRIPTION:
        return text
    return re.sub(r"[\s,;]*[^\s,;]*$", "", text) or text


def _id3_fields(tag: bytes) -> Iterator[tuple[str, str]]:
    """Yield COMM of an ID3v2.3 or 2.4 tag."""
    end = 10 + _synchsafe(tag[6:10])
    position = 10
    while position + 10 <= min(end, len(tag)):
        name, size = tag[position : position + 4], tag[position + 4 : position + 8]
        length = _synchsafe(size) if tag[3] == 4 else int.from_bytes(size, "big")
        body = tag[position + 10 : position + 10 + length]
        if name == b"COMM" and len(body) > 4 and body[0] < len(_ID3_ENCODINGS):
            about, _, text = body[4:].decode(_ID3_ENCODINGS[body[0]], "replace").partition("\0")
            if not about.startswith("iTun"):  # levels and lengths, in hexadecimal
                yield "COMM", text.strip("\0\ufeff ")
        position += 10 + length


def _synchsafe(size: bytes) -> int:
    """Decode four bytes of seven bits each."""
    return sum((byte & 0x7F) << shift for byte, shift in zip(size, (21, 14, 7, 0), strict=False))


def _soundfile_fields(path: Path) -> dict[str, str]:
    import soundfile

    with soundfile.SoundFile(path) as file:
        return {name: str(value) for name, value in file.copy_metadata().items()}


def _text(raw: bytes) -> str:
    """Decode a NUL-terminated field: UTF-8, or else what Windows writes."""
    raw = raw.split(b"\0", 1)[0]
    try:
        return raw.decode("utf-8").strip()
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace").strip()


def _description(text: str) -> str:
    """Return the part about the sound, without links: of a recorder's `xKEY=value` lines the note."""
    if begin := _DESCRIPTION.search(text):
        end = _METADATA.search(text, begin.end())
        text = text[begin.end() : end.start() if end else None].strip()
    first, *pairs = _RECORDER.split(text)
    recorded = dict(zip(pairs[::2], pairs[1::2], strict=True))
    said = " ".join(_LINK.sub("", " ".join((recorded.get("NOTE", "") if recorded else first).split())).split())
    return said if any(map(str.isalnum, said)) and said != _BY_SOX else ""
