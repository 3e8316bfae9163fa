"""`audiogen train-lm` as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.zoo import make_codec, make_rows, make_shards, make_word_vectors

SMALL = ("model.dim=16", "model.n_layers=1", "model.n_heads=2", "model.dropout=0", "optim.batch_size=6")
SHORT = ("optim.micro_batch=2", "crop_seconds=0.48", "log_every=1", "precision=no", "text.name=vectors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with shards, and the codec where train-lm looks for it."""
    root = tmp_path_factory.mktemp("work")
    codec = make_codec(root / "data" / "tokens" / "codec")
    make_word_vectors(root / "vectors")
    make_shards(root / "data" / "tokens", codec, make_rows([12, 9, 20, 12, 15, 11, 7]))
    return root


def train_lm(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    settings = [word for setting in (*SMALL, *SHORT) for word in ("--set", setting)]
    command = [sys.executable, "-m", "audiogen_cli", "train-lm", *settings, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_learn_what_one_learns(folder: Path) -> None:
    one = train_lm(folder, "--size", "tiny", "--max-steps", "3")
    assert (one.returncode, one.stdout) == (0, "runs/lm-tiny\n"), one.stderr
    two = train_lm(folder, "--size", "tiny", "--max-steps", "3", "--processes", "2", "--out", "runs/two")
    assert (two.returncode, two.stdout) == (0, "runs/two\n"), two.stderr
    assert losses(folder / "runs" / "two") == pytest.approx(losses(folder / "runs" / "lm-tiny"), abs=1e-5)
    assert (folder / "runs" / "two" / "codec" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "tiny", "--config", "x.yaml"), "either --size or --config"),
        (("--size", "tiny", "--streams", "4"), "holds codes of 2 streams, not 4"),
        (("--config", "none.yaml"), "recipe none.yaml"),
        (("--size", "tiny", "--tokens", "nowhere"), "no token shards here"),
        (("--size", "tiny", "--codec", "vectors"), "holds no codec"),
        (("--size", "tiny", "--from", "nowhere"), "nowhere"),
        (("--size", "tiny", "--set", "optim.lrr=1"), "optim.lrr"),
    ],
)
def test_bad_calls_end_with_one_line_and_2(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    done = train_lm(folder, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
