from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.disks import limited_files
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from audiogen_cli.data import audio
from audiogen_cli.data.audio import AudioInfo, check_output, is_whole, probe, read_audio, write_audio
from audiogen_cli.data.headers.wav import count_blocks
from audiogen_cli.errors import AudiogenError, AudiogenWarning, InputError


def noise(n: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (n, channels))


def tone(sample_rate: int, seconds: float, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * sample_rate)) / sample_rate)


def no_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)


def test_probe_reads_the_header(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(22_050, 2), 44_100)
    assert probe(tmp_path / "a.wav") == AudioInfo(sample_rate=44_100, channels=2, duration=0.5, n_samples=22_050)


@pytest.mark.parametrize("sample_rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_a_tone_survives_any_rate_and_depth(tmp_path: Path, sample_rate: int, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", tone(sample_rate, 0.6), sample_rate, subtype=subtype)
    wav = read_audio(tmp_path / "a.wav")
    assert wav.dtype == np.float32 and wav.shape == (9_600,)
    # the middle only: at the ends the tone starts and stops abruptly
    np.testing.assert_allclose(wav[1_000:-1_000], tone(16_000, 0.6)[1_000:-1_000], atol=1e-3)


def test_channels_are_averaged(tmp_path: Path) -> None:
    stereo = noise(1_000, 2)
    soundfile.write(tmp_path / "a.wav", stereo, 16_000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav"), (stereo[:, 0] + stereo[:, 1]) / 2, atol=1e-7)


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 22_050, 44_100, 48_000, 37_123])
@pytest.mark.parametrize("start, duration", [(0.0, 0.3), (0.7131, 0.5), (1.6, 5.0), (1.0, None)])
def test_a_window_is_the_slice_of_the_whole(
    tmp_path: Path, sample_rate: int, start: float, duration: float | None
) -> None:
    soundfile.write(tmp_path / "a.wav", noise(2 * sample_rate + 77, 2), sample_rate, subtype="FLOAT")
    whole = read_audio(tmp_path / "a.wav")
    first = round(start * 16_000)
    expected = whole[first:] if duration is None else whole[first : first + round(duration * 16_000)]
    window = read_audio(tmp_path / "a.wav", start=start, duration=duration)
    assert window.shape == expected.shape
    np.testing.assert_allclose(window, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.mp3", "a.aiff"])
def test_windows_of_other_formats(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, tone(44_100, 1.0), 44_100)
    np.testing.assert_allclose(
        read_audio(tmp_path / name, start=0.5, duration=0.2), read_audio(tmp_path / name)[8_000:11_200], atol=1e-5
    )


@pytest.mark.parametrize("name", ["long.wav", "long.flac", "long.mp3"])
def test_only_the_window_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    n_samples = 120 * 44_100
    soundfile.write(tmp_path / name, np.zeros(n_samples, np.int16), 44_100)
    decoded = []
    read = soundfile.SoundFile.read

    def count(self: soundfile.SoundFile, frames: int = -1, **options: object) -> np.ndarray:
        decoded.append(frames)
        return read(self, frames, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", count)
    assert len(read_audio(tmp_path / name, 16_000, start=100.0, duration=1.0)) == 16_000
    assert 44_100 <= sum(decoded) < 0.02 * n_samples


def test_a_window_past_the_end_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(16_000, 1.0), 16_000)
    with pytest.raises(InputError, match="it lasts 1 s"):
        read_audio(tmp_path / "a.wav", start=1.0, duration=1.0)
    with pytest.raises(InputError, match="duration > 0"):
        read_audio(tmp_path / "a.wav", duration=0.0)


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("notes.txt", b"a dog is barking", "cannot be read as audio"),
        ("notes.wav", b"a dog is barking", "cannot be read as audio"),
        ("headerless.raw", bytes(4_000), "cannot be read as audio"),
        ("empty.wav", b"", "is empty"),
        ("absent.wav", None, "no such file"),
    ],
)
def test_what_is_not_audio_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes | None, reason: str
) -> None:
    no_ffmpeg(monkeypatch)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    for read in (probe, read_audio):
        with pytest.raises(InputError, match=reason) as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value) and name in str(caught.value)


def test_a_wav_without_samples_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 16_000)
    with pytest.raises(InputError, match="holds no audio samples"):
        probe(tmp_path / "a.wav")


def mpeg_frame_length(header: bytes) -> int:
    """Return the length of a frame of layer III of this file's tests: by hand, as a check on the reader's."""
    kbits = {"1": [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320]}
    kbits["2"] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160]
    version = header[1] >> 3 & 3
    rate = [44_100, 48_000, 32_000][header[2] >> 2 & 3] // {3: 1, 2: 2, 0: 4}[version]
    return (144_000 if version == 3 else 72_000) * kbits["1" if version == 3 else "2"][header[2] >> 4] // rate


@pytest.mark.parametrize("sample_rate", [8_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_an_mp3_whose_header_does_not_tell_its_length_is_read_to_the_end(
    tmp_path: Path, sample_rate: int, mode: str
) -> None:
    loud = np.random.default_rng(0).normal(0, 0.1, 2 * sample_rate) * (np.arange(2 * sample_rate) > sample_rate)
    soundfile.write(tmp_path / "whole.mp3", tone(sample_rate, 2.0) * 0.2 + loud, sample_rate, bitrate_mode=mode)
    content = (tmp_path / "whole.mp3").read_bytes()
    assert content[:40].count(b"Xing") + content[:40].count(b"Info") == 1
    (tmp_path / "cut.mp3").write_bytes(content[mpeg_frame_length(content) :])
    whole = read_audio(tmp_path / "whole.mp3", sample_rate)
    cut = read_audio(tmp_path / "cut.mp3", sample_rate)
    assert probe(tmp_path / "cut.mp3").n_samples == len(cut)
    assert 0 <= len(cut) - len(whole) <= 2 * 1_152
    delay = 576  # of libsndfile's encoder, of which the frame would have told
    np.testing.assert_allclose(cut[delay : delay + len(whole)], whole, atol=1e-4)
    window = read_audio(tmp_path / "cut.mp3", sample_rate, start=1.5)
    np.testing.assert_allclose(window, cut[round(1.5 * sample_rate) :], atol=1e-5)


def test_an_mp3_with_junk_around_its_frames(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "whole.mp3", tone(48_000, 1.0), 48_000)
    content = (tmp_path / "whole.mp3").read_bytes()
    length = mpeg_frame_length(content)
    tags = b"ID3\4\0\0\0\0\1\0" + bytes(128), b"TAG" + bytes(125)
    (tmp_path / "junk.mp3").write_bytes(tags[0] + content[length:] + b"\xff\xff" * 99 + tags[1])
    (tmp_path / "plain.mp3").write_bytes(content[length:])
    np.testing.assert_array_equal(read_audio(tmp_path / "junk.mp3"), read_audio(tmp_path / "plain.mp3"))


@pytest.mark.parametrize("odd", [0, 1])
def test_a_wav_whose_header_says_no_bytes_is_read_to_the_end(tmp_path: Path, odd: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(16_000, 0.5), 16_000)
    content = (tmp_path / "a.wav").read_bytes()
    assert content[36:40] == b"data"
    other = b"LIST\3\0\0\0abc\0" if odd else b""
    (tmp_path / "b.wav").write_bytes(content[:4] + bytes(4) + content[8:36] + other + b"data" + bytes(4) + content[44:])
    np.testing.assert_array_equal(read_audio(tmp_path / "b.wav"), read_audio(tmp_path / "a.wav"))


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_a_playlist_is_no_sound_whatever_its_name(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "other.wav", tone(16_000, 0.5), 16_000)
    lists = {"a.m4a": f"ffconcat version 1.0\nfile '{tmp_path / 'other.wav'}'\n"}
    lists["b.wav"] = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.wav\n#EXT-X-ENDLIST\n"
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match="cannot be read as audio"):
            probe(tmp_path / name)
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "other.wav", tmp_path / "c.m4a"], check=True)
    assert abs(len(read_audio(tmp_path / "c.m4a")) - 8_000) < 1_100


def test_what_ffmpeg_decodes_is_whole_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "decoded.w64", tone(16_000, 0.5), 16_000, subtype="FLOAT", format="W64")
    (tmp_path / "a.m4a").write_bytes(b"libsndfile does not know this format")
    (tmp_path / "bin").mkdir()
    script = f'for last; do :; done\necho "$@" > "{tmp_path}/called"\n/bin/cat "{tmp_path}/decoded.w64" > "$last"\n'
    (tmp_path / "bin" / "ffmpeg").write_text("#!/bin/sh\n" + script)
    (tmp_path / "bin" / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    assert len(read_audio(tmp_path / "a.m4a")) == 8_000
    assert not list((tmp_path / "tmp").iterdir())
    called = (tmp_path / "called").read_text()
    assert "-nostdin" in called and "-protocol_whitelist file -format_whitelist mov," in called and "hls" not in called


@pytest.mark.parametrize("n_samples", [300, 8_000])
def test_a_flac_from_a_pipe_does_not_tell_its_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_samples: int
) -> None:
    wav = tone(16_000, 1)[:n_samples]
    soundfile.write(tmp_path / "decoded.w64", wav, 16_000, subtype="FLOAT", format="W64")
    soundfile.write(tmp_path / "a.flac", wav, 16_000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0  # the number of samples: the last 36 bits of eight bytes
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    no_ffmpeg(monkeypatch)
    for read in (probe, read_audio):
        with pytest.raises(InputError, match=r"its header does not tell how long it is\); .* ffmpeg"):
            read(tmp_path / "a.flac")
    (tmp_path / "ffmpeg").write_text(f'#!/bin/sh\nfor last; do :; done\n/bin/cat "{tmp_path}/decoded.w64" > "$last"\n')
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert probe(tmp_path / "a.flac").n_samples == n_samples
    np.testing.assert_allclose(read_audio(tmp_path / "a.flac"), wav, atol=1e-6)


def test_samples_far_beyond_full_scale_are_warned_about_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "_warned", set())
    soundfile.write(tmp_path / "a.wav", 32_768 * tone(16_000, 0.5), 16_000, subtype="FLOAT")
    with pytest.warns(AudiogenWarning, match=r"a\.wav: samples of 16,384 times full scale"):
        read_audio(tmp_path / "a.wav")
    soundfile.write(tmp_path / "b.wav", 2.5 * tone(16_000, 0.5), 16_000, subtype="FLOAT")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_audio(tmp_path / "a.wav")
        read_audio(tmp_path / "b.wav")
    for number in range(9):
        soundfile.write(tmp_path / f"{number}.wav", 1e4 * tone(16_000, 0.1), 16_000, subtype="FLOAT")
    with pytest.warns(AudiogenWarning) as said:
        for number in range(9):
            read_audio(tmp_path / f"{number}.wav")
    assert len(said) == 5 - 1 and "no more recordings will be named" in str(said[-1].message)


def test_channels_that_cancel_each_other_are_not_read_as_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio, "_warned", set())
    left = tone(44_100, 0.5)
    soundfile.write(tmp_path / "a.wav", np.stack([left, -left], 1), 44_100)
    soundfile.write(tmp_path / "left.wav", left, 44_100)
    with pytest.warns(AudiogenWarning, match="its channels cancel each other"):
        wav = read_audio(tmp_path / "a.wav")
    np.testing.assert_allclose(wav, read_audio(tmp_path / "left.wav"), atol=1e-6)


def test_a_pipe_or_a_link_to_itself_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        probe(tmp_path / "pipe.wav")
    with pytest.raises(InputError, match="no such file"):
        probe(tmp_path / "loop.wav")


def test_what_the_system_refuses_is_said(tmp_path: Path) -> None:
    with (
        limited_files(1 << 16),
        pytest.raises(AudiogenError, match=r"a\.wav: cannot be written: (File too large|the disk)"),
    ):
        write_audio(tmp_path / "a.wav", tone(16_000, 4.0))
    assert not list(tmp_path.iterdir())


def test_a_rate_at_which_nothing_is_heard_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(1_000_000, np.int16), 1)  # 11 days
    with pytest.raises(InputError, match="1 samples a second are no sound"):
        probe(tmp_path / "a.wav")


def test_a_cut_flac_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", noise(16_000), 16_000)
    content = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="damaged"):
        read_audio(tmp_path / "a.flac")


@pytest.mark.parametrize("lost", [200, 63_001, 176_300])
@pytest.mark.parametrize("file_format", ["WAV", "WAVEX", "RF64", "AIFF", "W64", "AU"])
def test_a_sound_that_was_cut_short_is_read_as_far_as_it_goes(tmp_path: Path, file_format: str, lost: int) -> None:
    whole, cut = tmp_path / "whole.wav", tmp_path / "cut.wav"
    soundfile.write(whole, noise(88_200), 44_100, format=file_format)
    cut.write_bytes(whole.read_bytes()[:-lost])
    missing = -(-lost // 2)
    assert (probe(whole).n_samples, probe(whole).missing) == (88_200, 0)
    assert probe(cut) == AudioInfo(44_100, 1, 2.0, 88_200, missing)
    with pytest.raises(InputError, match=rf"cut\.wav: damaged or cut short: {missing} samples are missing"):
        read_audio(cut, 44_100)
    with pytest.raises(InputError, match="samples are missing"):
        audio.read_channels(cut)
    with pytest.raises(InputError, match="samples are missing"):
        read_audio(cut, start=1.99)
    there = (88_200 - missing) / 44_100
    np.testing.assert_array_equal(read_audio(cut, 44_100, 0, there), read_audio(whole, 44_100, 0, there))
    assert not is_whole(cut, 2.0) and not is_whole(cut, there) and is_whole(whole, 2.0)


@pytest.mark.parametrize(
    ("subtype", "file_format", "order"),
    [
        *((subtype, "WAV", None) for subtype in ("PCM_24", "FLOAT", "ULAW", "IMA_ADPCM")),
        *((subtype, "W64", None) for subtype in ("PCM_U8", "PCM_24", "DOUBLE", "IMA_ADPCM")),
        *((subtype, "AU", "LITTLE") for subtype in ("PCM_S8", "PCM_24", "DOUBLE", "ULAW")),
    ],
)
def test_a_cut_is_seen_whatever_the_samples_are_stored_as(
    tmp_path: Path, subtype: str, file_format: str, order: str | None
) -> None:
    soundfile.write(tmp_path / "a.wav", noise(441_000, 2), 44_100, subtype, order, file_format)
    info, content = probe(tmp_path / "a.wav"), (tmp_path / "a.wav").read_bytes()
    assert info.missing == 0
    (tmp_path / "a.wav").write_bytes(content[: len(content) // 3])
    cut = probe(tmp_path / "a.wav")
    # what is compressed is counted in blocks of a thousand samples
    assert abs(cut.n_samples - info.n_samples) < (10_000 if subtype == "IMA_ADPCM" else 1)
    assert abs(cut.missing / info.n_samples - 2 / 3) < 0.02


def test_a_cut_is_seen_behind_a_long_header(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(44_100), 44_100)
    content = (tmp_path / "a.wav").read_bytes()
    # libsndfile's log of these chunks is longer than what it keeps of a log
    other = b"".join(b"bla%d\2\0\0\0ab" % (number % 10) for number in range(500))
    (tmp_path / "b.wav").write_bytes(content[:36] + other + content[36:])
    assert probe(tmp_path / "b.wav").missing == 0
    (tmp_path / "b.wav").write_bytes(content[:36] + other + content[36:-1_000])
    assert probe(tmp_path / "b.wav").missing == 500


@pytest.mark.parametrize(
    "size", [2**31 - 1, 2**31 - 4096, 2**31 + 36, 2**32 - 1, 2**32 - 45, 64_044, 64_036, 64_001, 64_127]
)
def test_a_size_that_tells_nothing_is_no_cut(tmp_path: Path, size: int) -> None:
    soundfile.write(tmp_path / "a.wav", noise(32_000), 16_000)
    content = (tmp_path / "a.wav").read_bytes()
    assert len(content) == 64_044  # some writers count the header, too
    (tmp_path / "b.wav").write_bytes(content[:40] + size.to_bytes(4, "little") + content[44:])
    assert probe(tmp_path / "b.wav") == probe(tmp_path / "a.wav")
    np.testing.assert_array_equal(read_audio(tmp_path / "b.wav"), read_audio(tmp_path / "a.wav"))


@pytest.mark.parametrize("size", [0, 2**64 - 1, 2**63 - 1])
def test_a_long_size_that_tells_nothing_is_no_cut(tmp_path: Path, size: int) -> None:
    soundfile.write(tmp_path / "a.rf64", noise(1_000), 16_000, format="RF64")
    content = bytearray((tmp_path / "a.rf64").read_bytes())
    assert content[12:16] == b"ds64"
    content[28:36] = size.to_bytes(8, "little")
    (tmp_path / "a.rf64").write_bytes(content)
    assert count_blocks(tmp_path / "a.rf64") == (1, 1)


@pytest.mark.parametrize(("file_format", "at", "n_bytes"), [("AU", 8, 4), ("W64", 96, 8)])
def test_a_w64_or_au_of_a_stream_is_no_cut(tmp_path: Path, file_format: str, at: int, n_bytes: int) -> None:
    soundfile.write(tmp_path / "a", noise(16_000), 16_000, format=file_format)
    content, whole = bytearray((tmp_path / "a").read_bytes()), read_audio(tmp_path / "a")
    assert 0 <= int.from_bytes(content[at : at + n_bytes], "big" if n_bytes == 4 else "little") - 32_000 <= 24
    content[at : at + n_bytes] = b"\xff" * n_bytes
    (tmp_path / "a").write_bytes(content)
    assert count_blocks(tmp_path / "a") == (1, 1)
    if file_format == "AU":
        np.testing.assert_array_equal(read_audio(tmp_path / "a"), whole)


def test_an_aiff_of_a_stream_is_no_cut(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.aiff", noise(16_000), 16_000)
    content = bytearray((tmp_path / "a.aiff").read_bytes())
    whole = read_audio(tmp_path / "a.aiff")
    at, samples = content.index(b"COMM") + 10, content.index(b"SSND") + 4
    content[at : at + 4] = (0x7F000000 // 2).to_bytes(4, "big")  # as sox writes to a pipe
    content[samples : samples + 4] = (0x7F000000 + 8).to_bytes(4, "big")
    (tmp_path / "a.aiff").write_bytes(content)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.aiff"), whole)


def test_a_few_bytes_are_not_missed(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1_000, 2), 16_000, subtype="PCM_24")
    content = (tmp_path / "a.wav").read_bytes()
    for lost, missing in ((1, 0), (126, 0), (132, 22), (133, 23)):
        (tmp_path / "a.wav").write_bytes(content[:-lost])
        assert probe(tmp_path / "a.wav").missing == missing


def test_only_a_doubtful_header_is_read_a_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1_000), 16_000)
    monkeypatch.setattr(
        "audiogen_cli.data.headers.wav.count_blocks", lambda path: pytest.fail(f"{path} was opened again")
    )
    assert probe(tmp_path / "a.wav").n_samples == 1_000


def test_samples_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0.0, np.nan, 0.1]), 16_000, subtype="FLOAT")
    with pytest.raises(InputError, match="not finite"):
        read_audio(tmp_path / "a.wav")
    with pytest.raises(AudiogenError, match="not finite"):
        write_audio(tmp_path / "b.wav", np.array([0.0, np.inf]))
    assert not (tmp_path / "b.wav").exists()


def test_other_formats_go_through_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = tmp_path / "what-ffmpeg-finds.w64"
    soundfile.write(decoded, tone(16_000, 0.5), 16_000, subtype="FLOAT", format="W64")
    (tmp_path / "a.m4a").write_bytes(b"libsndfile does not know this format")
    command = tmp_path / "bin" / "ffmpeg"
    command.parent.mkdir()
    # the last argument is the file to write
    command.write_text(f'#!/bin/sh\nfor last; do :; done\n/bin/cp "{decoded}" "$last"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent))
    np.testing.assert_allclose(read_audio(tmp_path / "a.m4a"), tone(16_000, 0.5), atol=1e-6)
    command.write_text("#!/bin/sh\necho first line >&2\necho Invalid data found >&2\nexit 1\n")
    with pytest.raises(InputError, match="ffmpeg: Invalid data found"):
        probe(tmp_path / "a.m4a")


@settings(max_examples=25, deadline=None)
@given(
    samples=arrays(np.int16, st.integers(1, 300)),
    sample_rate=st.sampled_from([8_000, 16_000, 44_100]),
    suffix=st.sampled_from([".wav", ".flac"]),
)
def test_sixteen_bit_audio_round_trips_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, samples: np.ndarray, sample_rate: int, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("round") / f"a{suffix}"
    wav = (samples / 32768).astype(np.float32)
    write_audio(path, wav, sample_rate)
    np.testing.assert_array_equal(read_audio(path, sample_rate), wav)


def test_ogg_is_written_whole(tmp_path: Path) -> None:
    write_audio(tmp_path / "deep" / "a.ogg", tone(16_000, 10.0), 16_000)
    wav = read_audio(tmp_path / "deep" / "a.ogg")
    assert wav.shape == (160_000,)
    assert np.abs(wav - tone(16_000, 10.0)).mean() < 0.02


def test_writing_clamps_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", np.array([2.0, -2.0, 0.5], np.float32))
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav"), [32767 / 32768, -1.0, 0.5])
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_outputs_are_checked_beforehand(tmp_path: Path) -> None:
    check_output(tmp_path / "new" / "folder" / "a.FLAC")
    assert not (tmp_path / "new").exists()
    for name, reason in (
        ("a.xyz", "cannot write '.xyz' audio"),
        ("a", "end the file's name in .wav, .*; for a folder: --out-dir"),
    ):
        with pytest.raises(InputError, match=reason):
            check_output(tmp_path / name)
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        check_output(tmp_path / "folder.wav")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write below"):
        check_output(tmp_path / "file" / "a.wav")
