"""The sweeps' scripts: which stages they call with what, and that every flag they use exists."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from audiogen_cli.data.manifest import Clip, write_manifest
from audiogen_cli.lm.config import TextConfig, TrainConfig
from audiogen_cli.training.recipe import load_recipe

SWEEPS = Path(__file__).parents[1] / "recipes" / "sweeps"


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts an `audiogen` on the path that writes its arguments down, a call a line, and makes nothing."""
    log = tmp_path / "calls"
    script = tmp_path / "bin" / "audiogen"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nprintf "%s\\037" "$@" >> {log}\necho >> {log}\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    for name in ("AUDIOGEN", "SPLIT", "CODEC_OPTIONS", "LM_OPTIONS", "EVAL_OPTIONS", "GUIDANCES", "SIZE"):
        monkeypatch.delenv(name, raising=False)
    return log


def run(name: str, arguments: list[str], log: Path) -> list[list[str]]:
    subprocess.run([str(SWEEPS / name), *arguments], check=True, capture_output=True)
    return [line.rstrip("\037").split("\037") for line in log.read_text().splitlines()]


def flags_of(command: str) -> set[str]:
    from typer.main import get_command

    from audiogen_cli.app import app

    found: set[str] = set()
    for parameter in get_command(app).commands[command].params:  # type: ignore[attr-defined]
        found |= set(parameter.opts)
    return found


def flags(call: list[str]) -> dict[str, str]:
    return {word: following for word, following in zip(call, [*call[1:], ""], strict=True) if word.startswith("--")}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("guidance.sh", ["man", "model", "out"]),
        ("streams.sh", ["man", "out"]),
        ("text-encoders.sh", ["man", "tokens", "out"]),
        ("mixing.sh", ["man", "codec", "out"]),
        ("datasets.sh", ["man", "codec", "out"]),
        ("audio-prior.sh", ["man", "tokens", "out"]),
    ],
)
def test_every_flag_and_recipe_exists(name: str, arguments: list[str], calls: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for codec in ("x32", "x64", "x128"):  # where the speed is written
        (tmp_path / "out" / codec).mkdir()
    made = run(name, [*arguments[:-1], str(tmp_path / "out")], calls)
    assert made
    for call in made:
        assert set(flags(call)) <= flags_of(call[0]), call
        if "--config" in call:
            assert Path(flags(call)["--config"]).is_file()


def test_guidance(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVAL_OPTIONS", "--limit 8")
    made = [flags(call) for call in run("guidance.sh", ["man", "model", "out"], calls)]
    assert [call["--guidance"] for call in made] == ["1", "1.5", "2", "3", "4", "5"]
    assert made[0] == {
        "--split": "audiocaps-test",
        "--manifests": "man",
        "--model": "model",
        "--out": "out/guidance-1",
        "--guidance": "1",
        "--limit": "8",
    }


def test_text_encoders(calls: Path) -> None:
    made = run("text-encoders.sh", ["man", "tokens", "out"], calls)
    assert [call[0] for call in made] == ["train-lm", "eval"] * 4
    assert [flags(call)["--model"] for call in made[1::2]] == [
        "out/t5-base-base/lm",
        "out/t5-base-large/lm",
        "out/t5-large-base/lm",
        "out/t5-large-large/lm",
    ]
    assert "text.name=t5-large" in made[4]


def test_a_table_of_words_in_place_of_t5(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCODERS", "lookup")
    monkeypatch.setenv("SIZES", "base")
    train, _ = run("text-encoders.sh", ["man", "tokens", "out"], calls)
    assert {"text.kind=lookup", "text.name=null"} <= set(train)
    recipe = load_recipe(TrainConfig, "lm-base", [word for word in train if word.startswith("text.")])
    assert recipe.text == TextConfig("lookup")


def test_diffsounds_data(calls: Path) -> None:
    tokenize, train, score = run("datasets.sh", ["man", "codec", "out"], calls)
    assert flags(tokenize)["--datasets"] == "audioset,audiocaps" and flags(tokenize)["--mix"] == "1"
    assert flags(train)["--tokens"] == "out/audioset-audiocaps/tokens" == flags(tokenize)["--out"]
    assert flags(score)["--out"] == "out/audioset-audiocaps/eval"


def test_an_audio_prior_reads_no_text_and_is_begun_with(calls: Path) -> None:
    prior, pretrained, plain, *scored = run("audio-prior.sh", ["man", "tokens", "out"], calls)
    settings = [word for word in prior if "=" in word]
    assert load_recipe(TrainConfig, "lm-base", settings).text_dropout == 1
    assert flags(pretrained)["--from"] == flags(prior)["--out"] == "out/prior"
    assert "--from" not in plain and not [word for word in pretrained if word.startswith("text_dropout")]
    assert [flags(call)["--model"] for call in scored] == ["out/pretrained/lm", "out/plain/lm"]


def test_captions_with_two_sounds_are_counted(tmp_path: Path) -> None:
    captions = ("a dog barks while a bird chirps", "rain falls", "a car passes, then thunder")
    clips = [
        Clip(f"audiocaps/{i}", "audiocaps", "test", f"{i}.wav", 0.0, 1.0, 16_000, 1, (caption,), (), (caption,), "")
        for i, caption in enumerate(captions)
    ]
    write_manifest(
        tmp_path / "audiocaps.parquet", clips, {"dataset": "audiocaps", "root": str(tmp_path), "options": {}}
    )
    command = [sys.executable, str(SWEEPS / "count_sounds.py"), str(tmp_path), "audiocaps-test"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "audiocaps-test: 2 of 3, 67% (the paper's test: 85%)\n", done.stderr


def test_a_stage_that_fails_ends_the_sweep(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOGEN", f"{sys.executable} -c raise(SystemExit(3))")
    result = subprocess.run([str(SWEEPS / "mixing.sh"), "man", "codec", "out"], capture_output=True)
    assert result.returncode == 3
