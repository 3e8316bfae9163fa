"""`audiogen continue` with a tiny untrained model: what is kept, how long the result is, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.pcm import read_samples, write_noise

from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.commands.continue_ import continue_
from audiogen_cli.data.audio import probe, read_audio
from audiogen_cli.errors import InputError
from audiogen_cli.lm.generation.requests import read_long

RATE = 16_000


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """0.53 s (no whole number of frames) of 16-bit noise at the model's rate, its loudest samples included."""
    return write_noise(tmp_path / "noise.wav", 8_480)


def test_the_beginning_is_the_file_itself_bit_for_bit(
    tmp_path: Path, noise: Path, tiny_lm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "longer.wav"
    continue_(noise, "rain", output, duration=1.0, model=str(tiny_lm), seed=1)
    assert capsys.readouterr().out == f"{output}\n"
    assert probe(output).n_samples == RATE
    np.testing.assert_array_equal(read_samples(output)[:8_480], read_samples(noise))


def test_a_part_of_it_may_be_kept(tmp_path: Path, noise: Path, tiny_lm: Path) -> None:
    output = tmp_path / "longer.flac"
    continue_(noise, None, output, prompt_seconds=0.25, duration=0.5, model=str(tiny_lm), seed=1)
    assert probe(output).n_samples == 8_000
    np.testing.assert_array_equal(read_samples(output)[:4_000], read_samples(noise)[:4_000])


def test_any_rate_and_channels_go_in_the_models_rate_comes_out(tmp_path: Path, tiny_lm: Path) -> None:
    wav = np.random.default_rng(0).uniform(-0.3, 0.3, (22_050, 2)).astype(np.float32)
    soundfile.write(tmp_path / "stereo.flac", wav, 44_100)
    continue_(tmp_path / "stereo.flac", "rain", tmp_path / "out.wav", duration=0.8, model=str(tiny_lm), seed=1)
    info = probe(tmp_path / "out.wav")
    assert (info.sample_rate, info.channels, info.n_samples) == (RATE, 1, 12_800)
    kept = read_audio(tmp_path / "stereo.flac", RATE)
    np.testing.assert_allclose(read_audio(tmp_path / "out.wav")[: len(kept)], kept, atol=0.6 / 32768)


def test_a_file_name_that_is_no_utf_8_is_refused_before_the_work(
    audiogen, noise: Path, tiny_lm: Path, tiny_diffusion: Path
) -> None:
    name, more = "caf\udce9.wav", ["--duration", "0.6", "--model", tiny_lm]
    Path(name).write_bytes(noise.read_bytes())
    calls = [
        ["continue", name, *more, "-o", "out.wav"],
        ["continue", noise, *more, "-o", name],
        ["generate", "rain", *more, "--out-dir", "\udce9"],
        ["inpaint", name, "--region", "0.1-0.3", "--model", tiny_diffusion, "-o", "out.wav"],
        ["convert", name, "--rate", "8000", "-o", "out.wav"],
        ["convert", noise, "--rate", "8000", "-o", f"new-{name}"],
    ]
    for call in calls:
        done = audiogen(*call)
        assert done.returncode == 2 and done.stderr.endswith("is no text; write it in UTF-8\n"), done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in Path().iterdir()) == [name, "noise.wav"]


def test_a_stereo_mp3_goes_in(tmp_path: Path, tiny_lm: Path) -> None:
    wav = 0.3 * np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    soundfile.write(tmp_path / "tone.mp3", np.stack([wav, wav], 1), 44_100, format="MP3")
    continue_(tmp_path / "tone.mp3", "rain", tmp_path / "out.wav", 0.5, duration=0.8, model=str(tiny_lm), seed=1)
    kept = read_audio(tmp_path / "tone.mp3", RATE, duration=0.5)
    assert probe(tmp_path / "out.wav").n_samples == 12_800 and np.abs(kept).max() > 0.2
    np.testing.assert_allclose(read_audio(tmp_path / "out.wav")[:8_000], kept, atol=0.6 / 32768)


def test_of_a_long_sound_the_model_reads_only_the_end(
    tmp_path: Path, tiny_lm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = np.random.default_rng(0).integers(-9000, 9000, 40 * RATE + 123).astype(np.int16)
    soundfile.write(tmp_path / "long.flac", samples, RATE)
    read: list[int] = []
    encode = AudioCodec.encode
    monkeypatch.setattr(AudioCodec, "encode", lambda codec, wav: [read.append(wav.shape[2]), encode(codec, wav)][1])
    monkeypatch.setattr("audiogen_cli.lm.generation.requests.READ_SECONDS", 7)  # in pieces, as an hour would be
    continue_(tmp_path / "long.flac", None, tmp_path / "out.flac", model=str(tiny_lm), seed=1)
    result = read_samples(tmp_path / "out.flac")
    assert len(result) == len(samples) + 5 * RATE
    np.testing.assert_array_equal(result[: len(samples)], samples)
    assert sum(read) <= 5 * RATE  # the trained window
    assert "5 s of new sound in" in capsys.readouterr().err


@pytest.mark.parametrize("output", ["-", "x.mp3"])
def test_it_writes_only_what_it_can(tmp_path: Path, noise: Path, tiny_lm: Path, output: str) -> None:
    with pytest.raises(InputError, match=r"end the name in|add --stream"):
        continue_(noise, "rain", Path(output), model=str(tiny_lm), seed=1)


def test_five_seconds_are_added_by_default_and_json_tells(
    tmp_path: Path, noise: Path, tiny_lm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    continue_(noise, output=tmp_path / "x.wav", model=str(tiny_lm), seed=3, json_=True)
    record = json.loads(capsys.readouterr().out)
    assert (record["duration"], record["prompt_seconds"], record["prompt"]) == (5.53, 0.53, None)
    assert (record["prompt_audio"], record["seed"]) == (str(noise), 3)
    assert json.loads((tmp_path / "x.json").read_text()) == record


def test_a_continuation_takes_a_negative_prompt(tmp_path: Path, noise: Path, tiny_lm: Path) -> None:
    for name, negative in (("plain", None), ("steered", "a dog barks")):
        options = {"duration": 0.8, "model": str(tiny_lm), "seed": 1, "negative": negative}
        continue_(noise, "rain", tmp_path / f"{name}.wav", **options)
    assert not np.array_equal(read_samples(tmp_path / "plain.wav"), read_samples(tmp_path / "steered.wav"))


def test_the_result_may_replace_its_own_beginning(tmp_path: Path, noise: Path, tiny_lm: Path) -> None:
    before = read_samples(noise)
    continue_(noise, "rain", noise, duration=0.7, model=str(tiny_lm), seed=1)
    np.testing.assert_array_equal(read_samples(noise)[: len(before)], before)


def test_a_result_in_mono_does_not_replace_a_stereo_source(audiogen, tiny_lm: Path, tiny_diffusion: Path) -> None:
    soundfile.write("a.wav", np.full((4_800, 2), 0.1), 48_000)
    before = Path("a.wav").read_bytes()
    for call in (
        ("continue", "a.wav", "--duration", "0.3", "--model", tiny_lm),
        ("continue", "a.wav", "--duration", "0.3", "--model", tiny_lm, "--stream"),
        ("inpaint", "a.wav", "--region", "0.02-0.08", "--model", tiny_diffusion),
    ):
        done = audiogen(*call, "-o", "a.wav")
        assert done.returncode == 2 and "would replace its source by mono at 16000 Hz" in done.stderr
        assert Path("a.wav").read_bytes() == before


def test_a_sample_more_than_whole_pieces_is_read(command_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audiogen_cli.lm.generation.requests.READ_SECONDS", 1)
    soundfile.write("a.wav", np.full(3 * 48_000 + 1, 0.1), 48_000)
    assert len(read_long(Path("a.wav"), RATE, probe("a.wav").duration)) == 3 * RATE


@pytest.mark.parametrize(
    ("audio", "duration", "message"),
    [("noise.wav", 0.5, "more than the 0.53 s kept"), ("none.wav", None, "no such file"), ("text.wav", None, "audio")],
)
def test_what_cannot_be_continued_is_refused(
    tmp_path: Path, noise: Path, tiny_lm: Path, audio: str, duration: float | None, message: str
) -> None:
    (tmp_path / "text.wav").write_text("words")
    with pytest.raises(InputError, match=message):
        continue_(tmp_path / audio, "rain", tmp_path / "out.wav", duration=duration, model=str(tiny_lm), seed=1)
    assert not (tmp_path / "out.wav").exists()


def test_several_takes_go_into_a_folder_and_are_found_again(
    audiogen, tmp_path: Path, noise: Path, tiny_lm: Path
) -> None:
    call = [
        "continue",
        noise,
        "rain",
        "--model",
        tiny_lm,
        "--seed",
        "3",
        "--duration",
        "0.8",
        "-n",
        "2",
        "--out-dir",
        "o",
    ]
    first = audiogen(*call, "--json")
    records = [json.loads(line) for line in first.stdout.splitlines()]
    assert [(Path(each["path"]).name, each["seed"]) for each in records] == [
        ("noise-continued-1.wav", 3),
        ("noise-continued-2.wav", 4),
    ]
    assert all(np.array_equal(read_samples(Path(each["path"]))[:8_480], read_samples(noise)) for each in records)
    assert "2 of 2 sounds already there and kept" in audiogen(*call).stderr
    soundfile.write(noise, read_samples(noise)[::-1], RATE)  # another sound of the same name and length
    assert "beside other takes" in audiogen(*call).stderr


def test_what_is_too_short_to_continue_is_named(audiogen, tiny_lm: Path) -> None:
    soundfile.write("one.wav", np.zeros(1, np.float32), 44_100)
    done = audiogen("continue", "one.wav", "rain", "--model", tiny_lm, "-o", "out.wav")
    assert done.returncode == 2 and done.stderr.startswith("error: one.wav lasts only 2.26757e-05 s")


@pytest.mark.parametrize("duration", ["0.54", "1.3"])
@pytest.mark.parametrize("seconds", ["0.01", "0.53"])
def test_a_stream_is_the_whole_result(audiogen, noise: Path, delayed_lm: Path, duration: str, seconds: str) -> None:
    call = ["continue", noise, "rain", "--model", delayed_lm, "--seed", "3", "--duration", duration]
    call += ["--prompt-seconds", seconds]
    for more in (["-o", "whole.wav"], ["-o", "grown.wav", "--stream"]):
        done = audiogen(*call, *more)
        assert done.returncode == 0, done.stderr
    assert np.array_equal(read_samples(Path("whole.wav")), read_samples(Path("grown.wav")))
