"""`audiogen info FOLDER --report`: one page to listen to a folder of sounds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.zoo import chirp

from audiogen_cli.data.audio import write_audio

pytest.importorskip("matplotlib")


def test_a_folder_becomes_a_page_with_players_pictures_prompts_and_seeds(audiogen, tiny_lm: Path) -> None:
    audiogen(
        "generate",
        "rain <b>",
        "a dog",
        "-n",
        "2",
        "--seed",
        "4",
        "--duration",
        "0.3",
        "--model",
        tiny_lm,
        "--out-dir",
        "out",
    )
    write_audio("out/theirs.wav", chirp(1, 0.3))
    Path("out/broken.wav").write_text("words")
    done = audiogen("info", "out", "--report")
    assert done.returncode == 0, done.stderr
    page = Path(done.stdout.strip()).read_text()
    assert page.count("<audio") == 5 and page.count("data:image/png") == 5
    for text in (
        "rain &lt;b&gt;",
        "a dog",
        "theirs",
        "seed 4",
        "seed 5",
        "LUFS",
        "CC0: for tests only",
        "not readable",
    ):
        assert text in page
    assert "http" not in page.replace("http-equiv", "")
    facts = json.loads(audiogen("info", "out", "--json").stdout)
    assert (facts["type"], facts["sounds"], facts["unreadable"], facts["made_here"]) == ("sounds", 6, 1, 4)
    assert facts["prompts"] == {"rain <b>": 2, "a dog": 2}


def test_a_folder_without_sounds_is_refused(audiogen, tmp_path: Path) -> None:
    done = audiogen("info", tmp_path, "--report")
    assert done.returncode == 2 and "no sounds" in done.stderr
