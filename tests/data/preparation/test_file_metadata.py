"""Text embedded in sound files: files are put together byte by byte, as recorders and librarians write them."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiogen_cli.data.preparation.file_metadata import FileMetadata, read_file_metadata


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def wav(path: Path, *chunks: bytes, before: bytes = b"", form: bytes = b"RIFF", data_size: int | None = None) -> Path:
    """A WAV file with chunks before and after its 100 samples."""
    data = chunk(b"data", b"\1\0" * 100)
    if data_size is not None:
        data = data[:4] + struct.pack("<I", data_size) + data[8:]
    body = (
        b"WAVE" + before + chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 8_000, 16_000, 2, 16)) + data + b"".join(chunks)
    )
    path.write_bytes(form + struct.pack("<I", len(body)) + body)
    return path


def bext(text: bytes) -> bytes:
    return chunk(b"bext", text[:256].ljust(256, b"\0") + b"\0" * 346)


def comm(text: bytes, version: int = 3, encoding: int = 0, after: bytes = b"") -> bytes:
    body = bytes([encoding]) + b"eng" + (b"\0" if encoding in (0, 3) else b"\xff\xfe\0\0") + text
    size = struct.pack(">I", len(body))  # below 128, so both kinds of size agree
    frame = b"COMM" + size + b"\0\0" + body + after
    return b"ID3" + bytes([version, 0, 0]) + struct.pack(">I", len(frame)) + frame


@pytest.mark.parametrize(
    "text",
    [
        b"<NOTE>" * 150_000,
        b"DESCRIPTION:" + b" " * 900_000 + b"x",
        b"</NOTE><NOTE>" * 70_000,
        b" sA=" * 200_000,
        b"visit " * 160_000,
    ],
    ids=["open tags", "blanks", "closed first", "recorder", "visits"],
)
def test_a_megabyte_of_text_is_read_in_no_time(tmp_path: Path, text: bytes) -> None:
    began = time.thread_time()  # of computing: a machine may be busy with others
    for body in (chunk(b"iXML", text), chunk(b"LIST", b"INFO" + chunk(b"ICMT", text))):
        read_file_metadata(wav(tmp_path / "a.wav", body))
    assert time.thread_time() - began < 20  # minutes, if each place were looked at from every other


@pytest.mark.parametrize(
    "chunks, found",
    [
        ([], FileMetadata()),
        ([bext(b"book paper shelves")], FileMetadata("book paper shelves")),
        ([bext(b"sSPEED=025.000-ND\r\nsTAKE=01\r\nsNOTE=book paper shelves\r\n")], FileMetadata("book paper shelves")),
        ([bext(b"sSPEED=025.000-ND\r\nsTAKE=01\r\n")], FileMetadata()),
        ([bext(b"zSPEED=023.976-ND\r\nzTAKE=07\r\nzTRK1=W\r\n")], FileMetadata()),
        ([bext(b"dUBITS=$0\r\ndNOTE=book paper shelves\r\ndTRK2=Boom\r\n")], FileMetadata("book paper shelves")),
        ([bext(b"x=3, E=mc2")], FileMetadata("x=3, E=mc2")),
        ([bext(b"Visit https://freetousesounds.example.com")], FileMetadata()),
        ([bext(b"- www.sounds.example -"), chunk(b"LIST", b"INFO" + chunk(b"ICMT", b"a dog"))], FileMetadata("a dog")),
        ([bext(b"Dogs bark. VISIT us at: http://x.org/a?b=c for more")], FileMetadata("Dogs bark. for more")),
        ([chunk(b"LIST", b"INFO" + chunk(b"IKEY", b"dog; www.x.org, bark"))], FileMetadata("", ("dog", "bark"))),
        ([bext(b"People visit a zoo")], FileMetadata("People visit a zoo")),
        ([bext("Café noise".encode("cp1252"))], FileMetadata("Café noise")),
        ([bext("Café noise".encode())], FileMetadata("Café noise")),
        ([bext(b"rumble, " * 31 + b"vibration")], FileMetadata(("rumble, " * 31).rstrip(", "))),
        (
            [
                chunk(
                    b"LIST",
                    b"INFO" + chunk(b"INAM", b"x\0") + chunk(b"ICMT", b"a dog\0") + chunk(b"IKEY", b"dog; bark;"),
                )
            ],
            FileMetadata("a dog", ("dog", "bark")),
        ),
        ([chunk(b"LIST", b"adtl" + chunk(b"labl", b"....mark")), bext(b"a dog")], FileMetadata("a dog")),
        (
            [chunk(b"iXML", b"<BWFXML><BEXT><BWF_DESCRIPTION>a &amp; b</BWF_DESCRIPTION></BEXT>\0\0")],
            FileMetadata("a & b"),
        ),
        ([chunk(b"id3 ", comm(b"TAGS: x DESCRIPTION: A dog barks. METADATA: y"))], FileMetadata("A dog barks.")),
        ([chunk(b"LIST", b"INFO" + chunk(b"ICMT", b"Processed by SoX"))], FileMetadata()),
        ([chunk(b"ID3 ", comm("Café".encode("utf-16-le"), 4, 1))], FileMetadata("Café")),
    ],
)
def test_wav_chunks_after_the_samples(tmp_path: Path, chunks: list[bytes], found: FileMetadata) -> None:
    path = wav(tmp_path / "a.wav", *chunks)
    assert soundfile.info(path).frames == 100
    assert read_file_metadata(path) == found
    assert read_file_metadata(wav(tmp_path / "b.wav", before=b"".join(chunks))) == found


def test_files_beyond_4_gb_and_broken_sizes(tmp_path: Path) -> None:
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, 200, 100, 0))
    assert read_file_metadata(
        wav(tmp_path / "a.wav", bext(b"dog"), before=sizes, form=b"RF64", data_size=2**32 - 1)
    ) == (FileMetadata("dog"))
    assert read_file_metadata(wav(tmp_path / "b.wav", bext(b"dog"), data_size=2**32 - 1)) == FileMetadata()
    assert read_file_metadata(wav(tmp_path / "c.wav", bext(b"dog"), data_size=2**31)) == FileMetadata()
    assert read_file_metadata(wav(tmp_path / "d.wav", bext(b"dog"), data_size=0)) == FileMetadata()


def test_other_formats(tmp_path: Path) -> None:
    for name in ("a.flac", "a.aiff", "a.ogg"):
        with soundfile.SoundFile(tmp_path / name, "w", 8_000, 1) as file:
            file.comment = "a dog"
            file.write(np.zeros(100))
        assert read_file_metadata(tmp_path / name) == FileMetadata("a dog")
    level = b"COMM\0\0\0\x12\0\0\0engiTunNORM\x00 03E8"  # by iTunes
    (tmp_path / "a.mp3").write_bytes(comm(b"a dog", after=level) + b"\0" * 100)
    assert read_file_metadata(tmp_path / "a.mp3") == FileMetadata("a dog")


@pytest.mark.parametrize(
    "content", [b"", b"RIFF", b"RIFF\0\0\0\0WAVEbext\xff", b"ID3\3", b"no sound", b"RIFF\0\0\0\0WAVE"]
)
def test_damaged_files_say_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    assert read_file_metadata(tmp_path / "a.wav") == FileMetadata()
