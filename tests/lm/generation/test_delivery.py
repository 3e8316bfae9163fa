"""Delivery: rate, channels, sample format, level and silence of finished sounds, new and existing."""

from __future__ import annotations

import json
import os
import subprocess
import time
import tracemalloc
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiogen_cli.data.audio import probe, read_tags, write_audio
from audiogen_cli.data.loudness import loudness
from audiogen_cli.errors import AudiogenError, AudiogenWarning, InputError
from audiogen_cli.interop.reproduce import find_command
from audiogen_cli.lm.generation.delivery import HIGHEST_PEAK, Delivered, Delivery, Level, deliver

RATE = 16_000


def _tone(height: float, seconds: float = 1.0, hertz: float = 997, rate: int = RATE) -> np.ndarray:
    return (height * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def _between_silence(sound: np.ndarray, before: float, after: float) -> np.ndarray:
    return np.concatenate([np.zeros(round(before * RATE)), sound, np.zeros(round(after * RATE))]).astype(np.float32)


@pytest.mark.parametrize("channels", [None, 2])
@pytest.mark.parametrize("height", [0.02, 0.5])
def test_a_loudness_is_what_a_meter_reads_in_the_file(height: float, channels: int | None) -> None:
    sound = deliver(_tone(height), RATE, Delivery(normalize=Level(-23), channels=channels, rate=48_000))
    assert loudness(sound.samples, 48_000) == pytest.approx(-23, abs=0.01)
    assert sound.facts(Delivery())["loudness"] == pytest.approx(-23, abs=0.01)


def test_levels_stop_at_the_peak_and_leave_near_silence() -> None:
    click = np.zeros(RATE, np.float32)
    click[RATE // 2] = 0.5
    sound = deliver(click, RATE, Delivery(normalize=Level(-23))).samples
    assert np.abs(sound).max() == pytest.approx(HIGHEST_PEAK) and loudness(sound, RATE) < -23
    peak = deliver(_tone(0.1), RATE, Delivery(normalize=Level(-6, is_peak=True))).samples
    assert np.abs(peak).max() == pytest.approx(10 ** (-6 / 20), rel=1e-3)
    for quiet in (np.zeros(RATE, np.float32), _tone(5e-4)):
        sound = deliver(quiet, RATE, Delivery(normalize=Level(-23)))
        assert sound.gain == 1 and np.array_equal(sound.samples, quiet)


@pytest.mark.parametrize("rate", [44_100, 48_000, 8_000])
def test_a_tone_keeps_its_height_and_place_at_another_rate(rate: int) -> None:
    sound = deliver(_tone(0.5, 0.5), RATE, Delivery(rate=rate))
    assert (len(sound.samples), sound.rate) == (rate // 2, rate)
    inside = slice(rate // 50, -rate // 50)
    np.testing.assert_allclose(sound.samples[inside], _tone(0.5, 0.5, rate=rate)[inside], atol=2e-3)


def test_trimming_keeps_the_sound_and_says_how_much_went() -> None:
    wav = _between_silence(_tone(0.5, 0.3), 0.2, 0.5)
    sound = deliver(wav, RATE, Delivery(trim=True))
    assert sound.trimmed == pytest.approx((0.19, 0.49), abs=0.011)
    assert len(sound.samples) / RATE + sum(sound.trimmed) == pytest.approx(1.0)
    assert sound.samples[0] == 0 and np.abs(sound.samples).max() == pytest.approx(0.5, rel=1e-3)
    abrupt = _between_silence(np.full(RATE // 2, 0.5, np.float32), 0.2, 0.0)
    begun, ended = deliver(abrupt, RATE, Delivery(trim=True)), deliver(abrupt[::-1], RATE, Delivery(trim=True))
    assert (begun.samples[0], begun.samples[-1]) == (0, 0.5) and begun.trimmed[1] == 0  # nothing went there: no fade
    assert (ended.samples[0], ended.samples[-1]) == (0.5, 0) and ended.trimmed[0] == 0
    assert np.array_equal(deliver(np.zeros(99, np.float32), RATE, Delivery(trim=True)).samples, np.zeros(99))


def test_without_options_a_sound_stays_as_it_is() -> None:
    wav = _tone(0.5)
    assert deliver(wav, RATE).samples is wav


@pytest.mark.parametrize("text", ["loud", "-23 dogs", "peak", "-80", "3", "nan", "", "-1dBFS", "-23 dB", "peak:-1LUFS"])
def test_no_level_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--normalize"):
        Level.parse(text)


@pytest.mark.parametrize("text", ["-23", "-23LUFS", "-23.0 lufs"])
def test_levels_are_read(text: str) -> None:
    assert Level.parse(text) == Level(-23.0)
    assert str(Level.parse("peak:-1.5dB")) == "peak -1.5 dBFS"


def test_formats_hold_what_they_are_said_to(tmp_path: Path) -> None:
    wav = np.linspace(-1, 1 - 2**-23, 999).astype(np.float32)
    for name, subtype in (("a.wav", "PCM_24"), ("a.flac", "PCM_24"), ("b.wav", "FLOAT")):
        write_audio(tmp_path / name, wav, RATE, subtype=subtype)
        assert soundfile.info(tmp_path / name).subtype == subtype
        np.testing.assert_allclose(soundfile.read(tmp_path / name)[0], wav, atol=2**-24)
    with pytest.raises(InputError, match="cannot hold FLOAT"):
        Delivery(subtype="FLOAT").check(tmp_path / "a.flac", RATE)


@pytest.mark.parametrize(
    ("name", "rate", "channels", "fits"),
    [
        ("a.flac", 96_001, 1, False),  # FLAC: multiples of 10 above 65,535
        ("a.flac", 96_000, 2, True),
        ("a.flac", 96_000, 9, False),
        ("a.ogg", 200_000, 1, True),
        ("a.ogg", 384_000, 1, False),  # the process ended in libvorbis
        ("a.wav", 384_000, 9, True),
    ],
)
def test_formats_that_cannot_hold_a_rate_or_channels_are_refused(
    name: str, rate: int, channels: int, fits: bool, tmp_path: Path
) -> None:
    with nullcontext() if fits else pytest.raises(InputError, match=f"{name}.*cannot hold {rate} Hz"):
        Delivery().check(tmp_path / name, rate, channels)
    with nullcontext() if fits else pytest.raises(InputError, match=f"{name}.*cannot hold {rate} Hz"):
        write_audio(tmp_path / name, np.zeros((4000, channels)), rate)
    assert (tmp_path / name).exists() == fits


@pytest.mark.parametrize("command", ["generate", "continue", "convert"])
def test_a_rate_that_the_file_cannot_hold_is_refused_before_any_work(
    command: str, audiogen, tiny_lm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_audio(tmp_path / "in.wav", np.full(RATE, 0.1))
    for work in ("convert.read_channels", "writer.load_generator"):
        monkeypatch.setattr(f"audiogen_cli.lm.generation.{work}", lambda *_: pytest.fail("there was work"))
    asked = ["rain"] if command == "generate" else [tmp_path / "in.wav"]
    model = [] if command == "convert" else ["--model", tiny_lm, "--duration", "2"]
    done = audiogen(command, *asked, *model, "--rate", "96001", "-o", "out.flac")
    assert done.returncode == 2 and ".flac cannot hold 96001 Hz" in done.stderr


def test_a_sources_own_rate_counts_where_none_is_asked_for(audiogen, tmp_path: Path) -> None:
    write_audio(tmp_path / "in.wav", np.full(1000, 0.1), 384_000)
    done = audiogen("convert", "in.wav", "-o", "out.ogg")
    assert done.returncode == 2 and "cannot hold 384000 Hz" in done.stderr and not (tmp_path / "out.ogg").exists()
    assert audiogen("convert", "in.wav", "--rate", "48000", "-o", "out.ogg").returncode == 0


def test_convert_delivers_existing_files_with_tags_and_sidecar(audiogen, tiny_lm: Path, tmp_path: Path) -> None:
    made = audiogen("generate", "rain", "--model", tiny_lm, "--seed", "1", "--duration", "0.5", "--out-dir", "out")
    (source,) = map(Path, made.stdout.split())
    options = ["--rate", "44100", "--channels", "2", "--subtype", "pcm_24", "--normalize", "peak:-3"]
    done = audiogen("convert", source, *options, "--out-dir", "delivered", "--json")
    assert done.returncode == 0, done.stderr
    output = tmp_path / "delivered" / source.name
    info, record = probe(output), json.loads(done.stdout)
    assert (info.sample_rate, info.channels, info.n_samples) == (44_100, 2, 22_050)
    assert read_tags(output)["title"] == "rain" and read_tags(output) == read_tags(source)
    assert record == json.loads(output.with_suffix(".json").read_text())
    assert (record["prompt"], record["seed"], record["sample_rate"]) == ("rain", 1, 44_100)
    assert 20 * np.log10(record["peak"]) == pytest.approx(-3, abs=0.01)
    again = audiogen("convert", source, *options, "--out-dir", "delivered")
    assert again.returncode == 2 and "--overwrite" in again.stderr


@pytest.mark.filterwarnings("ignore:.* is clipped to full scale")
@pytest.mark.parametrize("made", [True, False])
def test_convert_leaves_no_older_sidecar(
    audiogen, tiny_lm: Path, tmp_path: Path, made: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("rain", "other"):
        audiogen("generate", name, "--model", tiny_lm, "--duration", "0.2", "--json", "-o", f"{name}.wav")
    if not made:
        Path("other.json").unlink()
    before = [Path(name).read_bytes() for name in ("rain.wav", "rain.json")]
    with monkeypatch.context() as patch:
        patch.setattr("audiogen_cli.lm.generation.delivery.write_audio", _refuse)
        assert audiogen("convert", "other.wav", "--rate", "8000", "-o", "rain.wav").returncode == 1
    assert [Path(name).read_bytes() for name in ("rain.wav", "rain.json")] == before
    done = audiogen("convert", "other.wav", "--rate", "8000", "-o", "rain.wav", "--json")
    assert done.returncode == 0 and Path("rain.json").exists() == made
    if made:
        assert json.loads(Path("rain.json").read_text()) == json.loads(done.stdout)


def _refuse(*_: object) -> None:
    raise AudiogenError("the disk is full")


def test_convert_keeps_bits_and_channels_and_one_bad_file_fails_alone(audiogen, tmp_path: Path) -> None:
    stereo = np.stack([_tone(0.3), _tone(0.1)], 1)
    write_audio(tmp_path / "a.wav", stereo, RATE, subtype="PCM_24")
    (tmp_path / "b.wav").write_text("words")
    done = audiogen("convert", "b.wav", "a.wav", "--rate", "48000", "--out-dir", "out")
    assert done.returncode == 1 and "b.wav" in done.stderr and Path(done.stdout.strip()).name == "a.wav"
    info = soundfile.info(tmp_path / "out" / "a.wav")
    assert (info.subtype, info.channels, info.samplerate) == ("PCM_24", 2, 48_000)
    assert audiogen("convert", "a.wav", "--trim", "-o", "a.wav").returncode == 2
    for subtype, kept, packed in (
        ("DOUBLE", "FLOAT", "PCM_24"),
        ("PCM_32", "FLOAT", "PCM_24"),
        ("ULAW", *["PCM_16"] * 2),
    ):
        soundfile.write(tmp_path / "c.wav", stereo, RATE, subtype)
        for name, wanted in (("c.wav", kept), ("c.flac", packed)):
            audiogen("convert", "c.wav", "--rate", "48000", "-o", f"out/{name}")
            assert soundfile.info(tmp_path / "out" / name).subtype == wanted


def test_delivered_sounds_are_found_again(audiogen, tiny_lm: Path) -> None:
    call = ["generate", "rain", "--model", tiny_lm, "--seed", "1", "--duration", "0.5", "--out-dir", "out"]
    options = ["--rate", "48000", "--trim", "--normalize", "-23"]
    first = audiogen(*call, *options)
    assert "already there" in audiogen(*call, *options).stderr
    other = audiogen(*call)
    assert other.stdout != first.stdout and "beside" in other.stderr


@pytest.mark.filterwarnings("ignore:.* is clipped to full scale")
def test_a_sound_delivered_twice_is_not_taken_for_one_delivered_once(audiogen, tiny_lm: Path) -> None:
    call = ["generate", "rain", "--model", tiny_lm, "--seed", "1", "--duration", "0.5"]
    audiogen(*call, "--normalize", "-30", "--out-dir", "first")
    (source,) = Path("first").glob("*.wav")
    assert audiogen("convert", source, "--rate", "48000", "--out-dir", "out").returncode == 0
    record = json.loads((Path("out") / source.with_suffix(".json").name).read_text())
    assert record["deliveries_before"] == [{"normalize": "-30 LUFS"}] and record["delivery"] == {"rate": 48_000}
    doubts = find_command(Path("out") / source.name)[1]
    assert any("delivered with normalize -30 LUFS, which the command leaves out" in doubt for doubt in doubts)
    done = audiogen(*call, "--rate", "48000", "--out-dir", "out")
    assert "already there" not in done.stderr and Path(done.stdout.strip()).name != source.name
    for broken in (None, 3, "x", ["x"]):  # as nobody wrote it
        sidecar = Path("first") / source.with_suffix(".json").name
        sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "deliveries_before": broken}))
        assert audiogen("convert", source, "--rate", "48000", "-o", "again.wav").returncode == 0
        assert audiogen("info", source, "--reproduce").returncode == 0
    audiogen(*call, "--out-dir", "plain")  # delivered as it is, and then once
    audiogen("convert", Path("plain") / source.name, "--rate", "48000", "--out-dir", "once")
    assert "already there" in audiogen(*call, "--rate", "48000", "--out-dir", "once").stderr


def test_convert_says_what_it_clips_and_what_stays_below_its_level(audiogen, tmp_path: Path) -> None:
    loud = _tone(3.0)
    soundfile.write("loud.wav", loud, RATE, "FLOAT")
    with pytest.warns(AudiogenWarning, match=r"loud.flac: its peak of 3 is clipped to full scale"):
        assert audiogen("convert", "loud.wav", "-o", "loud.flac").returncode == 0
    done = audiogen("convert", "loud.wav", "-o", "same.wav", "--json")
    assert done.stderr == "" and soundfile.info("same.wav").subtype == "FLOAT"
    assert json.loads(done.stdout)["peak"] == pytest.approx(3, abs=1e-4)
    assert np.array_equal(soundfile.read("same.wav", dtype="float32")[0], loud)
    clicks = np.zeros(RATE, np.float32)
    clicks[::4000] = 0.9
    write_audio("clicks.wav", clicks, RATE)
    done = audiogen("convert", "clicks.wav", "--normalize", "-3", "-o", "louder.wav")
    assert done.stderr == "note: louder.wav stays below the loudness asked for: its peak reaches -1 dBFS\n"


def test_convert_mixes_channels_that_cancel_each_other_as_other_stages_do(audiogen, tmp_path: Path) -> None:
    write_audio("opposite.wav", np.stack([_tone(0.5), -_tone(0.5)], 1), RATE)
    with pytest.warns(AudiogenWarning, match=r"opposite.wav: its channels cancel each other"):
        assert audiogen("convert", "opposite.wav", "--channels", "1", "-o", "mono.wav").returncode == 0
    assert np.abs(soundfile.read("mono.wav")[0]).max() == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("n_samples", [1, 2, 3])
def test_the_shortest_sounds_keep_a_sample(audiogen, n_samples: int) -> None:
    write_audio("short.wav", np.full(n_samples, 0.5, np.float32), 48_000)
    done = audiogen("convert", "short.wav", "--rate", "8000", "--trim", "--normalize", "-23", "-o", "out.wav", "--json")
    assert done.returncode == 0, done.stderr
    assert soundfile.info("out.wav").frames == 1 and json.loads(done.stdout)["duration"] == 1 / 8000


@pytest.mark.parametrize("call", [["convert", "a.wav", "-o", "out/b.wav"], ["convert", "a.wav", "--out-dir", "out"]])
def test_what_a_killed_run_left_beside_an_output_goes(audiogen, call: list[str]) -> None:
    write_audio("a.wav", _tone(0.1), RATE)
    Path("out").mkdir()
    ended = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout.strip()
    for process, days, stays in ((ended, 2, False), (str(os.getppid()), 2, True), (ended, 0, True)):
        left = Path("out") / f".0123456789abcdef.{process}.tmp"
        left.write_text("half")
        os.utime(left, (time.time() - days * 86_400,) * 2)
        assert audiogen(*call, "--overwrite").returncode == 0
        assert left.exists() == stays


def test_facts_of_an_hour_take_no_copy_of_it() -> None:
    sound = Delivered(np.zeros((48_000 * 120, 2), np.float32), 48_000)
    sound.samples[::100] = 0.5
    tracemalloc.start()
    facts = sound.facts(Delivery())
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert facts["peak"] == 0.5 and facts["loudness"] is not None
    assert most < 1.2 * sound.samples.nbytes  # of blocks, however long the sound is
