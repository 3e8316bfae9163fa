"""Planning: seeds, names, settings and what is refused before a model is loaded."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from audiogen_cli.data.audio import read_audio, write_audio
from audiogen_cli.errors import InputError
from audiogen_cli.lm.config import Sampling
from audiogen_cli.lm.generation.requests import GenerationRequest, Prompt, continue_from, plan_requests
from audiogen_cli.lm.generation.tracks import derive_seed

LOOSE = Sampling(top_p=0.9)
DEFAULTS = GenerationRequest(None, seed=10, duration=5.0)


def test_samples_count_seeds_up_and_a_repeated_text_goes_on_counting(tmp_path: Path) -> None:
    prompts = [Prompt("dog"), Prompt("rain"), Prompt("dog"), Prompt("dog", seed=3)]
    requests = plan_requests(prompts, DEFAULTS, 2, None, tmp_path)
    assert [request.seed for request in requests] == [10, 11, 10, 11, 12, 13, 3, 4]


def test_seeds_have_the_32_bits_that_count(tmp_path: Path) -> None:
    last = replace(DEFAULTS, seed=2**32 - 1)
    assert plan_requests([Prompt("rain")], last, 1, None, tmp_path)[0].seed == 2**32 - 1
    for seed, n in ((2**32 - 1, 2), (2**32, 1)):
        with pytest.raises(InputError, match="seed"):
            plan_requests([Prompt("rain", seed=seed)], DEFAULTS, n, None, tmp_path)
    drawn = {derive_seed(1, str(part)) for part in range(100)}
    assert len(drawn) == 100 and max(drawn) < 2**32
    assert derive_seed(1, "x") == int.from_bytes(sha256(b"1/x").digest()[:6], "big") % 2**32  # as when there were 48


def test_a_prompts_seed_does_not_depend_on_the_prompts_before_it(tmp_path: Path) -> None:
    alone = plan_requests([Prompt("rain")], DEFAULTS, 1, None, tmp_path)[0]
    later = plan_requests([Prompt("dog"), Prompt("rain")], DEFAULTS, 1, None, tmp_path)[1]
    assert alone.seed == later.seed


def test_names_come_from_the_prompt_or_its_number_and_words(tmp_path: Path) -> None:
    prompts = [
        Prompt("A dog barks!"),
        Prompt(None),
        Prompt("狗"),
        Prompt("x", name="bark.flac"),
        Prompt("y", name="a.b"),
    ]
    names = [request.output.name for request in plan_requests(prompts, DEFAULTS, 1, None, tmp_path)]
    assert names == ["0001-a-dog-barks.wav", "0002-no-text.wav", "0003-sound.wav", "bark.flac", "a.b.wav"]
    twice = plan_requests([Prompt("x", name="bark.ogg")], DEFAULTS, 2, None, tmp_path)
    assert [request.output.name for request in twice] == ["bark-1.ogg", "bark-2.ogg"]


def test_a_lines_own_values_win_over_the_flags(tmp_path: Path) -> None:
    defaults = GenerationRequest(None, 0, 5.0, Sampling(guidance=1.0, top_p=0.5))
    prompt = Prompt("dog", duration=1.5, overrides={"guidance": 2.0})
    (request,) = plan_requests([prompt], defaults, 1, tmp_path / "x.wav", None)
    assert (request.sampling, request.duration) == (Sampling(guidance=2.0, top_p=0.5), 1.5)


def test_settings_lie_over_the_models_own() -> None:
    own = Sampling(guidance=1.5, top_p=0.9, top_k=7, temperature=0.8)
    assert own.override({"top_k": 0, "top_p": None}) == Sampling(1.5, 0.9, 0, 0.8)
    assert own.override({}) == own
    with pytest.raises(TypeError, match="volume"):
        own.override({"volume": 11})


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt("x", duration=0.0), "duration"),
        (Prompt("x", duration=float("inf")), "duration"),
        (Prompt("x", overrides={"top_p": 1.5}), "top_p"),
        (Prompt("x", overrides={"guidance": float("nan")}), "guidance"),
        (Prompt("x", overrides={"top_k": -1}), "top_k"),
        (Prompt("x", overrides={"temperature": -0.1}), "temperature"),
        (Prompt("x", overrides={"candidates": 0}), "candidates"),
        (Prompt("x", overrides={"layers": 9}), "layers"),
        (Prompt("x", seed=-1), "seed"),
    ],
)
def test_values_out_of_range_are_refused_by_name(tmp_path: Path, prompt: Prompt, message: str) -> None:
    with pytest.raises(InputError, match=f"prompt: {message}"):
        plan_requests([prompt], DEFAULTS, 1, None, tmp_path)


@pytest.mark.parametrize(
    ("name", "fine"), [("音" * 83, True), ("音" * 84, False), ("x" * 250, True), ("x" * 251, False)]
)
def test_names_too_long_for_the_sound_or_its_sidecar_are_refused_before_any_work(
    tmp_path: Path, name: str, fine: bool
) -> None:
    defaults = GenerationRequest(None, 0, 1.0)
    if fine:
        (request,) = plan_requests([Prompt("dog", name=name)], defaults, 1, None, tmp_path)
        write_audio(request.output, np.zeros(9))
        request.output.with_suffix(".json").touch()
        return
    with pytest.raises(InputError, match="File name too long"):
        plan_requests([Prompt("dog", name=name)], defaults, 1, None, tmp_path)


def test_outputs_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 sounds cannot go into one file"):
        plan_requests([Prompt("dog")], DEFAULTS, 2, tmp_path / "x.wav", None)
    with pytest.raises(InputError, match=r"\.mp3"):
        plan_requests([Prompt("dog")], DEFAULTS, 1, tmp_path / "x.mp3", None)
    with pytest.raises(InputError, match="too long"):
        plan_requests([Prompt("dog", name="x" * 300)], DEFAULTS, 1, None, tmp_path)
    with pytest.raises(InputError, match="'dog' and 'cat' would both be written"):
        plan_requests([Prompt("dog", name="x.wav"), Prompt("cat", name="x.flac")], DEFAULTS, 1, None, tmp_path)


@pytest.fixture
def second_of_noise(tmp_path: Path) -> Path:
    """One second of 16 kHz noise in 16 bits."""
    path = tmp_path / "noise.wav"
    write_audio(path, np.random.default_rng(0).uniform(-0.5, 0.5, 16_000).astype(np.float32), 16_000)
    return path


def _continue(
    prompt: Prompt, audio: Path, prompt_seconds: float | None, output: Path, sample_rate: int
) -> list[GenerationRequest]:
    defaults = continue_from(GenerationRequest(None, 0, 0.0, LOOSE), audio, prompt_seconds, sample_rate)
    return plan_requests([prompt], defaults, 1, output, None)


def test_a_continuation_keeps_the_file_and_adds_five_seconds(second_of_noise: Path, tmp_path: Path) -> None:
    (request,) = _continue(Prompt("rain", seed=4), second_of_noise, None, tmp_path / "out.wav", 16_000)
    assert (request.text, request.seed, request.duration, request.sampling) == ("rain", 4, 6.0, LOOSE)
    np.testing.assert_array_equal(request.prompt_audio, read_audio(second_of_noise, 16_000))
    assert request.facts["prompt_audio"] == str(second_of_noise) and request.facts["prompt_seconds"] == 1.0


def test_several_continuations_have_seeds_and_names_of_their_own(second_of_noise: Path, tmp_path: Path) -> None:
    defaults = continue_from(GenerationRequest(None, 7, 0.0, LOOSE), second_of_noise, None, 16_000)
    requests = plan_requests([Prompt("rain", name="noise-continued")], defaults, 2, None, tmp_path)
    assert [(each.seed, each.output.name) for each in requests] == [
        (7, "noise-continued-1.wav"),
        (8, "noise-continued-2.wav"),
    ]


def test_a_continuation_may_keep_a_part_at_another_rate(second_of_noise: Path, tmp_path: Path) -> None:
    prompt = Prompt(None, seed=0, duration=2.0)
    (request,) = _continue(prompt, second_of_noise, 0.5, tmp_path / "out.wav", 8_000)
    assert request.prompt_audio is not None and len(request.prompt_audio) == 4_000
    assert request.duration == 2.0


@pytest.mark.parametrize(
    ("prompt_seconds", "duration", "message"),
    [
        (1.5, None, "lasts only 1 s"),
        (0.0, None, "--prompt-seconds"),
        (float("nan"), None, "--prompt-seconds"),
        (None, 1.0, "more than the 1 s kept"),
        (0.5, 0.25, "more than the 0.5 s kept"),
    ],
)
def test_impossible_continuations_are_refused(
    second_of_noise: Path, tmp_path: Path, prompt_seconds: float | None, duration: float | None, message: str
) -> None:
    prompt = Prompt(None, seed=0, duration=duration)
    with pytest.raises(InputError, match=message):
        _continue(prompt, second_of_noise, prompt_seconds, tmp_path / "out.wav", 16_000)


def test_each_folder_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def try_folder(folder: Path) -> None:
        tried.append(folder)
        if folder.name == "locked":
            raise InputError("cannot write below it")

    monkeypatch.setattr("audiogen_cli.data.audio.check_folder", try_folder)
    prompts = [Prompt(f"dog {number}") for number in range(50)]
    plan_requests(prompts, DEFAULTS, 2, None, tmp_path / "new")
    assert tried == [tmp_path / "new"] and not list(tmp_path.iterdir())
    tried.clear()
    with pytest.raises(InputError, match=r"locked/0001-dog-0\.wav: cannot write below it"):
        plan_requests(prompts, DEFAULTS, 1, None, tmp_path / "locked")
    assert tried == [tmp_path / "locked"]
    with pytest.raises(InputError, match="File name too long"):
        plan_requests([*prompts, Prompt("dog", name="d" * 300)], DEFAULTS, 1, None, tmp_path)
