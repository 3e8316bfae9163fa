"""The sweeps' scripts: which stages they call with what, and that every flag they use exists."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.scripts import list_calls

SWEEPS = Path(__file__).parents[1] / "recipes" / "sweeps"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AUDIOGEN", "SPLIT", "CODEC_OPTIONS", "LM_OPTIONS", "EVAL_OPTIONS", "GUIDANCES", "SIZE"):
        monkeypatch.delenv(name, raising=False)


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
    ],
)
def test_every_flag_and_recipe_exists(name: str, arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for codec in ("x32", "x64", "x128"):  # where the speed is written
        (tmp_path / "out" / codec).mkdir()
    made = list_calls(tmp_path, SWEEPS / name, *arguments[:-1], tmp_path / "out")
    assert made
    for call in made:
        assert set(flags(call)) <= flags_of(call[0]), call
        if "--config" in call:
            assert Path(flags(call)["--config"]).is_file()


def test_guidance(tmp_path: Path) -> None:
    script, settings = SWEEPS / "guidance.sh", {"EVAL_OPTIONS": "--limit 8"}
    made = [flags(call) for call in list_calls(tmp_path, script, "man", "model", "out", **settings)]
    assert [call["--guidance"] for call in made] == ["1", "1.5", "2", "3", "4", "5"]
    assert made[0] == {
        "--split": "audiocaps-test",
        "--manifests": "man",
        "--model": "model",
        "--out": "out/guidance-1",
        "--guidance": "1",
        "--limit": "8",
    }


def test_text_encoders(tmp_path: Path) -> None:
    made = list_calls(tmp_path, SWEEPS / "text-encoders.sh", "man", "tokens", "out")
    assert [call[0] for call in made] == ["train-lm", "eval"] * 4
    assert [flags(call)["--model"] for call in made[1::2]] == [
        "out/t5-base-base/lm",
        "out/t5-base-large/lm",
        "out/t5-large-base/lm",
        "out/t5-large-large/lm",
    ]
    assert "text.name=t5-large" in made[4]


def test_a_stage_that_fails_ends_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOGEN", f"{sys.executable} -c raise(SystemExit(3))")
    result = subprocess.run([str(SWEEPS / "mixing.sh"), "man", "codec", "out"], capture_output=True)
    assert result.returncode == 3
