"""`audiogen train-lm` as a user calls it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.processes import run_audiogen, run_ranks
from helpers.runs import read_losses

Run = Callable[..., subprocess.CompletedProcess[str]]

SMALL = ("model.dim=16", "model.n_layers=1", "model.n_heads=2", "model.dropout=0", "optim.batch_size=6")
SHORT = ("optim.micro_batch=2", "crop_seconds=0.48", "log_every=1", "precision=no")


@pytest.fixture
def settings(word_vectors: Path) -> list[str]:
    """Return the options that make the network and its training tiny."""
    return [f"--set={setting}" for setting in (*SMALL, *SHORT, f"text.name={word_vectors}")]


@pytest.fixture
def train_lm(audiogen, tmp_path: Path, tiny_codec: Path, token_shards: Path, settings: list[str]) -> Run:
    """Run `audiogen train-lm` on a tiny network, in a folder with shards, and the codec where train-lm expects it."""
    shutil.copytree(token_shards, tmp_path / "data" / "tokens")
    shutil.copytree(tiny_codec, tmp_path / "data" / "tokens" / "codec")
    return lambda *arguments: audiogen("train-lm", *settings, *arguments)


def test_two_processes_learn_what_one_learns(train_lm: Run, settings: list[str], tmp_path: Path) -> None:
    one = train_lm("--size", "tiny", "--max-steps", "3")
    assert (one.returncode, one.stdout) == (0, "runs/lm-tiny\n"), one.stderr
    two = run_ranks(run_audiogen, "train-lm", *settings, "--size", "tiny", "--max-steps", "3", "--out", "runs/two")
    assert two == ["runs/two\n", ""]
    assert read_losses(tmp_path / "runs" / "two") == pytest.approx(read_losses(tmp_path / "runs" / "lm-tiny"), abs=1e-5)
    assert (tmp_path / "runs" / "two" / "codec" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("--size", "tiny", "--config", "x.yaml"), "--config"),
        (("--size", "tiny", "--streams", "4"), "2 streams"),
        (("--config", "none.yaml"), "none.yaml"),
        (("--size", "tiny", "--tokens", "nowhere"), "nowhere"),
        (("--size", "tiny", "--codec", "data"), "'data'"),
        (("--size", "tiny", "--from", "nowhere"), "nowhere"),
        (("--size", "tiny", "--set", "optim.lrr=1"), "optim.lrr"),
    ],
)
def test_bad_calls_end_with_one_line_and_2(train_lm: Run, arguments: tuple[str, ...], fragment: str) -> None:
    done = train_lm(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert fragment in done.stderr and done.stderr.count("\n") == 1
