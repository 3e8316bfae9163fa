"""Sound written while it is made."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from helpers.disks import limited_files

from audiogen_cli.data.audio import probe, read_audio, read_tags, write_audio
from audiogen_cli.data.wav_stream import RawPipe, StreamingWavWriter
from audiogen_cli.errors import AudiogenError

WAV = np.random.default_rng(0).uniform(-1.2, 1.2, 5_000).astype(np.float32)


def test_the_file_is_whole_after_every_block_and_in_the_end_the_usual_one(tmp_path: Path) -> None:
    with StreamingWavWriter(tmp_path / "new" / "x.wav", 16_000) as file:
        for begin in range(0, len(WAV), 1_700):
            file.write(WAV[begin : begin + 1_700])
            assert probe(file.path).n_samples == min(begin + 1_700, len(WAV))
    write_audio(tmp_path / "y.wav", WAV)
    assert (tmp_path / "new" / "x.wav").read_bytes() == (tmp_path / "y.wav").read_bytes()


@pytest.mark.parametrize("title", ["rain", "wind!"])  # of even and odd length
def test_tags_stand_before_the_samples(tmp_path: Path, title: str) -> None:
    tags = {"title": title, "copyright": "CC0"}
    with StreamingWavWriter(tmp_path / "x.wav", 16_000, tags) as file:
        for begin in (0, 1_700):
            file.write(WAV[begin : begin + 1_700])
            assert probe(file.path).n_samples == begin + 1_700 and read_tags(file.path) == tags
    write_audio(tmp_path / "y.wav", WAV[:3_400])
    assert np.array_equal(read_audio(tmp_path / "x.wav"), read_audio(tmp_path / "y.wav"))


def test_an_exception_removes_the_file(tmp_path: Path) -> None:
    with pytest.raises(AudiogenError, match="not finite"), StreamingWavWriter(tmp_path / "x.wav", 16_000) as file:
        file.write(WAV)
        file.write(np.full(3, np.nan, np.float32))
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_comes_back_after_an_exception(tmp_path: Path) -> None:
    """It may be the recording that is continued."""
    path = tmp_path / "a.wav"
    path.write_text("a recording")
    with pytest.raises(KeyboardInterrupt), StreamingWavWriter(path, 16_000) as sink:
        sink.write(np.zeros(10))
        raise KeyboardInterrupt
    assert path.read_text() == "a recording" and [*tmp_path.iterdir()] == [path]
    with StreamingWavWriter(path, 16_000) as sink:
        sink.write(np.zeros(10))
    assert path.read_bytes()[:4] == b"RIFF" and [*tmp_path.iterdir()] == [path]


def test_a_folder_in_the_way_is_told(tmp_path: Path) -> None:
    with pytest.raises(AudiogenError, match=r"cannot be written: Is a directory"), StreamingWavWriter(tmp_path, 16_000):
        pass


def test_a_pipe_gets_the_files_samples(tmp_path: Path) -> None:
    pipe = io.BytesIO()
    RawPipe(pipe).write(WAV)
    write_audio(tmp_path / "y.wav", WAV)
    samples = np.frombuffer(pipe.getvalue(), "<i2")
    np.testing.assert_array_equal(samples / np.float32(32768), read_audio(tmp_path / "y.wav"))


def test_a_disk_that_fills_up_ends_the_stream_and_leaves_no_file(tmp_path: Path) -> None:
    with (
        limited_files(1 << 16),
        pytest.raises(AudiogenError, match="cannot be written: File too large"),
        StreamingWavWriter(tmp_path / "a.wav", 16_000) as writer,
    ):
        for _ in range(8):
            writer.write(np.zeros(8_000, np.float32))
    assert not list(tmp_path.iterdir())
