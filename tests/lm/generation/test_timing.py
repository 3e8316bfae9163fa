"""Prompts that say where their sounds lie, and loops."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiogen_cli.errors import InputError
from audiogen_cli.lm.config import Sampling
from audiogen_cli.lm.generation.delivery import Delivery, deliver
from audiogen_cli.lm.generation.generator import Generator
from audiogen_cli.lm.generation.requests import GenerationRequest
from audiogen_cli.lm.generation.tracks import close_loop, derive_seed, read_timing

RATE = 16_000
FREE = Sampling(guidance=2.0, top_p=0.95)


def _read(text: str | None, timing: str = "") -> tuple[list[str], list[tuple[float, float | None]]]:
    return read_timing(GenerationRequest(text, 0, 5.0, replace(FREE, timing=timing)))


def test_times_are_read_from_a_prompt_or_beside_it() -> None:
    assert _read("a dog@0-2, rain @ 1.5 - 5,wind, bell@3-") == (
        ["a dog", "rain", "wind", "bell"],
        [(0.0, 2.0), (1.5, 5.0), (0.0, None), (3.0, None)],
    )
    assert _read("a dog barks while it rains", "0-2, 1-5") == (["a dog barks", "it rains"], [(0.0, 2.0), (1.0, 5.0)])
    assert _read("wind, a big, loud dog@0-2") == (["wind", "a big, loud dog"], [(0.0, None), (0.0, 2.0)])
    assert _read("dog@0-2, small, quiet, rain@1-5, distant") == (
        ["dog", "distant, small, quiet, rain"],
        [(0.0, 2.0), (1.0, 5.0)],
    )
    assert _read("Hund, Regen@1-5") == (["Hund", "Regen"], [(0.0, None), (1.0, 5.0)])
    assert _read("a dog@.5-2s, rain@0:01-1m")[1] == [(0.5, 2.0), (1.0, 60.0)]
    for text in ("rain", "a dog, rain", "me@home", "a dog barks @ night", "engine @ 3000-4000rpm", "fan @ 50 Hz"):
        assert _read(text) == ([], [])


@pytest.mark.parametrize(
    ("text", "timing", "message"),
    [
        ("dog@2-1", "", "end after it begins"),
        ("rain", "0-1, 2-3", "another number"),
        ("a dog, rain", "0-1", "another number"),
        ("a dog, rain, wind", "0-1, 2-3", "another number"),
        ("rain", "early", "write seconds"),
        (None, "0-1", "there is no prompt"),
        ("a dog@0-2 and rain@1-5", "", "commas between"),
        ("a dog@1", "", "behind each sound"),
        ("rain@0-2x", "", "behind each sound"),
        ("rain@0-2hm", "", "is no duration"),
        (", ".join(["dog@0-1"] * 9), "", "at most 8"),
    ],
)
def test_times_that_are_none_are_refused(text: str | None, timing: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _read(text, timing)


def test_sounds_lie_where_the_prompt_says(delayed_generator: Generator) -> None:
    request = GenerationRequest("dog@0.2-0.5, rain@0.4-0.8", 3, 1.0, FREE)
    ((_, wav),) = delayed_generator.generate([request])
    assert len(wav) == RATE
    silent = np.flatnonzero(np.abs(wav) > 0)
    assert round(0.2 * RATE) <= silent[0] < round(0.25 * RATE) and round(0.75 * RATE) < silent[-1] < round(0.8 * RATE)
    alone = replace(request, text="rain", duration=0.4, seed=derive_seed(3, "layer 1"))
    ((_, rain),) = delayed_generator.generate([alone])
    later = wav[round(0.5 * RATE) : round(0.55 * RATE)]  # the dog has ended, the rain does not fade out yet
    part = rain[round(0.1 * RATE) : round(0.15 * RATE)]
    assert np.corrcoef(later, part)[0, 1] > 0.9
    for text, message in (("dog@0.5-2", "--duration"), ("xyzzy@0-1, dog@0-1", "'xyzzy' holds no word")):
        with pytest.raises(InputError, match=message):
            list(delayed_generator.generate([replace(request, text=text)]))


def test_a_prompt_file_has_times_and_loops(audiogen, tiny_lm: Path) -> None:
    Path("p.csv").write_text('prompt,timing,loop\n"a dog barks, rain","0-0.2,0.1-0.5",\nwind,,yes\n')
    done = audiogen(
        "generate", "--prompts", "p.csv", "--duration", "0.5", "--model", tiny_lm, "--out-dir", "o", "--json"
    )
    assert done.returncode == 0, done.stderr
    dog, wind = map(json.loads, done.stdout.splitlines())
    assert (dog["timing"], dog["text"], dog["duration"]) == ("0-0.2,0.1-0.5", "dog bark + rain", 0.5)
    assert (wind["loop"], wind["duration"]) == (True, 0.5)
    Path("p.csv").write_text("prompt,loop\nwind,perhaps\n")
    assert "loop must be true or false" in audiogen("generate", "--prompts", "p.csv", "--out-dir", "o").stderr


def test_times_without_a_prompt_are_refused(audiogen, tiny_lm: Path) -> None:
    call = ["generate", "--model", tiny_lm, "--duration", "1", "--out-dir", "o"]
    Path("p.jsonl").write_text('{"prompt": null, "timing": "0-0.5"}\n{"prompt": null}\n')
    for more in (["--unconditional", "--timing", "0-0.5"], ["--prompts", "p.jsonl"]):
        done = audiogen(*call, *more)
        assert done.returncode == 2 and "timing '0-0.5'" in done.stderr and "no prompt" in done.stderr
        assert not list(Path("o").glob("*.wav"))


def test_a_loop_goes_on_at_its_beginning() -> None:
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 0.1, 3 * RATE).astype(np.float32)
    noise = np.convolve(noise, np.ones(40) / 6, "same").astype(np.float32)  # smooth, so that a step would be seen
    loop = close_loop(noise, RATE)
    assert len(loop) == 2 * RATE
    assert np.array_equal(loop[RATE:], noise[RATE : 2 * RATE])
    for sound in (loop, deliver(loop, RATE, Delivery(rate=48_000), loop=True).samples):
        steps = np.abs(np.diff(sound))
        assert abs(sound[0] - sound[-1]) <= np.quantile(steps, 0.999)
    # Resampled, a short one is what the middle of many in a row is.
    short = close_loop(noise[: RATE // 2 + 800], 800)
    row = deliver(np.tile(short, 9), RATE, Delivery(rate=48_000)).samples
    once = deliver(short, RATE, Delivery(rate=48_000), loop=True).samples
    np.testing.assert_allclose(once, row[4 * len(once) : 5 * len(once)], atol=1e-5)
    stereo = deliver(np.stack([short, short], 1), RATE, Delivery(rate=48_000), loop=True).samples
    np.testing.assert_allclose(stereo[:, 1], once, atol=1e-6)
    assert len(close_loop(noise[: RATE + 800], RATE)) > 2 * RATE // 3  # a track that is hardly longer than the overlap
    power = (loop**2).reshape(-1, 1_600).mean(1)
    assert 0.4 < power[:10].mean() / power[10:].mean() < 2.5


def test_what_goes_on_from_a_sound_is_no_loop(audiogen, delayed_generator: Generator, delayed_lm: Path) -> None:
    audio = np.full(RATE // 2, 0.1, np.float32)
    with pytest.raises(InputError, match="cannot loop"):
        delayed_generator.prepare(GenerationRequest("rain", 1, 1.0, replace(FREE, loop=True), audio))
    shutil.copytree(delayed_lm, "m")
    document = json.loads(Path("m/config.json").read_text())
    document["config"]["sampling"] |= {"loop": True, "timing": "0-1"}  # a model that makes loops only
    Path("m/config.json").write_text(json.dumps(document))
    soundfile.write("a.wav", audio, RATE)
    done = audiogen("continue", "a.wav", "rain", "--model", "m", "--duration", "0.8", "-o", "b.wav")
    assert done.returncode == 0, done.stderr
    assert np.array_equal(soundfile.read("b.wav")[0][: len(audio)], soundfile.read("a.wav")[0])


@pytest.mark.parametrize("more", [["--stream"], ["--trim"]])
def test_what_a_loop_cannot_be_is_refused(audiogen, tiny_lm: Path, more: list[str]) -> None:
    call = ["generate", "wind", "--model", tiny_lm, "--duration", "0.5", "--candidates", "1", "--layers", "1"]
    done = audiogen(*call, "--loop", *more, "-o", "x.wav")
    assert done.returncode == 2 and "loop" in done.stderr and not Path("x.wav").exists()
    assert audiogen(*call, "--loop", "--rate", "48000", "-o", "x.wav").returncode == 0
    assert soundfile.info("x.wav").frames == 24_000
