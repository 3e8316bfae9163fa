"""`audiogen info --reproduce`: the command it prints makes the same sound again."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.zoo import make_adapter

from audiogen_cli.data.audio import read_audio, write_audio
from audiogen_cli.interop.reproduce import find_command

CALLS = [
    ["generate", 'rain\'s "end"', "--top-p", "0.7", "--negative", "a dog", "--candidates", "2"],
    ["generate", "--unconditional", "--duration", "0.3"],
    [
        "generate",
        "a dog",
        "--rate",
        "44100",
        "--channels",
        "2",
        "--normalize",
        "peak:-3",
        "--trim",
        "--subtype",
        "PCM_24",
    ],
    ["continue", "start.wav", "rain", "--prompt-seconds", "0.25", "--normalize", "-30"],
    ["continue", "odd.wav"],
    ["generate", "--prompts", "p.txt"],
]


@pytest.mark.parametrize("call", CALLS, ids=["settings", "no text", "delivery", "continue", "rounded", "dash"])
def test_the_printed_command_makes_the_same_sound(audiogen, tiny_lm: Path, call: list[str]) -> None:
    write_audio("start.wav", np.random.default_rng(0).uniform(-0.2, 0.2, 8_000).astype(np.float32))
    soundfile.write("odd.wav", np.zeros(22_099), 44_100)  # 0.50111 s, of which 0.50113 s are read
    Path("p.txt").write_text("-20 degrees of rain\n")
    length = [] if "--duration" in call else ["--duration", "0.6"]
    made = audiogen(*call, *length, "--model", tiny_lm, "--seed", "5", "--out-dir", "out")
    sound = Path(made.stdout.strip())
    printed = audiogen("info", sound, "--reproduce")
    assert printed.returncode == 0 and printed.stderr == ""
    program, *words = shlex.split(printed.stdout)
    before = {path: path.read_bytes() for path in Path("out").iterdir()}
    assert program == "audiogen" and audiogen(*words).returncode == 0
    assert {path: path.read_bytes() for path in before} == before  # neither the sound nor its sidecar is touched
    assert sound.with_name(f"{sound.stem}-again.wav").read_bytes() == before[sound]


def test_seeds_beyond_32_bits_of_older_sounds_are_typed_as_what_they_drew(audiogen, tiny_lm: Path) -> None:
    audiogen("generate", "rain", "--model", tiny_lm, "--seed", "7", "--duration", "0.2", "--json", "-o", "a.wav")
    older = {**json.loads(Path("a.json").read_text()), "seed": 7 + 2**32}
    for candidates in (1, 2):
        Path("a.json").write_text(json.dumps({**older, "candidates": candidates}))
        command, doubts = find_command(Path("a.wav"))
        assert "--seed 7 " in command and len(doubts) == candidates - 1
    write_audio(
        "b.wav", np.ones(800, np.float32), tags={"comment": f"generated; seed {7 + 2**32}; model x ffffffffffff"}
    )
    assert "--seed 7 " in find_command(Path("b.wav"))[0]


def test_the_number_format_and_the_device_are_those_of_the_sound(audiogen, tiny_lm: Path) -> None:
    call = ["generate", "rain", "--model", tiny_lm, "--duration", "0.2", "--dtype", "float32", "--json"]
    audiogen(*call, "--device", "cpu", "-o", "a.wav")
    assert "--device cpu --dtype float32" in find_command(Path("a.wav"))[0]


def test_settings_that_only_the_model_has_are_switched_off(audiogen, tiny_lm: Path) -> None:
    shutil.copytree(tiny_lm, "m")
    document = json.loads(Path("m/config.json").read_text())
    document["config"]["sampling"] |= {"loop": True, "negative": "a dog"}
    Path("m/config.json").write_text(json.dumps(document))
    call = ["generate", "rain", "--model", "m", "--duration", "0.5", "--seed", "1", "--no-loop", "--negative", ""]
    audiogen(*call, "--json", "-o", "a.wav")
    command, doubts = find_command(Path("a.wav"))
    assert not doubts and audiogen(*shlex.split(command)[1:]).returncode == 0
    assert Path("a-again.wav").read_bytes() == Path("a.wav").read_bytes()


def test_what_has_changed_since_is_doubted(audiogen, tiny_lm: Path) -> None:
    adapter = make_adapter(Path("a"), tiny_lm, "CC0\n")
    write_audio("start.wav", np.ones(8_000, np.float32) / 9)
    call = ["continue", "start.wav", "--model", tiny_lm, "--duration", "0.6", "--adapter", "a=0.5", "--json"]
    assert audiogen(*call, "-o", "x.wav").returncode == 0
    assert find_command(Path("x.wav"))[1] == []
    make_adapter(adapter, tiny_lm, "CC0\n", seed=1)
    (doubt,) = find_command(Path("x.wav"))[1]
    assert "a=0.5 holds another model by now" in doubt
    write_audio("start.wav", np.ones(8_000, np.float32) / 8)
    shutil.rmtree("a")
    assert [doubt.split(" ")[0:3] for doubt in find_command(Path("x.wav"))[1]] == [
        ["the", "adapter", "a=0.5"],
        ["start.wav,", "which", "it"],
    ]


def test_columns_called_as_what_a_continuation_says_are_only_columns(audiogen, tiny_lm: Path) -> None:
    names = ("source", "regions", "prompt_audio", "prompt_seconds", "prompt_sha256")
    Path("p.csv").write_text(f"prompt,{','.join(names)}\nrain,{','.join('abcde')}\n")
    call = ["generate", "--prompts", "p.csv", "--model", tiny_lm, "--seed", "1", "--duration", "0.2", "--out-dir", "o"]
    (path,) = audiogen(*call).stdout.split()
    assert json.loads(Path(path).with_suffix(".json").read_text())["columns"] == dict(zip(names, "abcde", strict=True))
    printed = audiogen("info", path, "--reproduce")
    assert (
        printed.returncode == 0 and printed.stdout.startswith("audiogen generate rain --seed 1") and not printed.stderr
    )
    assert "already there" in audiogen(*call).stderr


def test_without_a_sidecar_the_file_itself_is_asked(audiogen, tmp_path: Path) -> None:
    tags = {"title": "rain", "comment": "generated; seed 7; model tiny ffffffffffff"}
    write_audio(tmp_path / "a.wav", np.ones(8_000, np.float32) / 9, tags=tags)
    command, doubts = find_command(tmp_path / "a.wav")
    assert command.startswith("audiogen generate rain --seed 7 --duration 0.5 --model tiny") and len(doubts) == 2
    write_audio(tmp_path / "b.wav", read_audio(tmp_path / "a.wav"))
    refused = audiogen("info", "b.wav", "--reproduce")
    assert refused.returncode == 2 and "does not say" in refused.stderr


def test_models_are_listed(audiogen, tiny_lm: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(tiny_lm)
    lines = audiogen("info").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["model", "embedded", "facebook/audiogen-medium", "runs/mine"]
    assert "CC BY-NC 4.0" in lines[1] and lines[3].endswith("CC0")


def test_a_seed_is_shown_as_it_is_typed(audiogen, tiny_lm: Path) -> None:
    audiogen("generate", "rain", "--model", tiny_lm, "--seed", "1234567", "--duration", "0.2", "--json", "-o", "a.wav")
    lines = audiogen("info", "a.wav").stdout.splitlines()
    assert [line.split()[-1] for line in lines if line.startswith("made: seed")] == ["1234567"]
