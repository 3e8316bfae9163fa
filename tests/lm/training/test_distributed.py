"""Several processes: sharded (FSDP) or not (DDP), they learn what one learns, and resume as if never stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from helpers.zoo import make_codec, make_rows, make_shards, make_word_vectors

from audiogen_cli.lm.config import TrainConfig
from audiogen_cli.lm.training.train import train
from audiogen_cli.model_folder import load_weights
from audiogen_cli.training.checkpoint import list_checkpoints, load_state
from audiogen_cli.training.recipe import load_recipe

WORKER = """
import sys
import time
from collections.abc import Callable
from pathlib import Path
from audiogen_cli.lm.config import TrainConfig
from audiogen_cli.lm.training.train import train
from audiogen_cli.training.recipe import load_recipe

root, recipe = Path(sys.argv[1]), Path(sys.argv[2])
for plan in sys.argv[3:]:  # name of the run, then settings
    name, *settings = plan.split(",")
    train(load_recipe(TrainConfig, recipe, settings), root / "tokens", root / "codec", root / name)
"""
RECIPE = """
model: {dim: 16, n_layers: 2, n_heads: 2, pattern: delay, dropout: 0}
text: {kind: static, name: VECTORS}
optim: {lr: 1e-2, warmup_steps: 2, batch_size: 8, micro_batch: 3, weight_decay: 0.1}
crop_seconds: 0.48
max_steps: 4
ema_decay: 0.5
log_every: 1
validate_every: 2
save_every: 2
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world in which all runs of this module have been made: in one process, and in two that share the work."""
    root = tmp_path_factory.mktemp("world")
    codec = make_codec(root / "codec")
    rows = make_rows([12, 9, 20, 12, 15, 11, 12, 7, 30]) + make_rows([12, 10, 8], "val")
    make_shards(root / "tokens", codec, rows)
    (root / "recipe.yaml").write_text(RECIPE.replace("VECTORS", str(make_word_vectors(root / "vectors"))))
    (root / "worker.py").write_text(WORKER)
    AcceleratorState._reset_state()
    PartialState._reset_state()
    train(load_recipe(TrainConfig, root / "recipe.yaml"), root / "tokens", codec, root / "one")
    fsdp = "distributed=fsdp"
    parts = ["parts-ddp,max_steps=2", "parts-ddp", f"parts-fsdp,{fsdp},max_steps=2", f"parts-fsdp,{fsdp}"]
    moved = ["moved,max_steps=2", f"moved,{fsdp}"]  # begun unsharded
    again = f"again,{fsdp},checkpoint_activations=true"
    run(root, "ddp", f"fsdp,{fsdp}", *parts, *moved, again)
    return root


def run(root: Path, *plans: str) -> None:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [sys.executable, *launch, root / "worker.py", root, root / "recipe.yaml", *plans]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr


def losses(root: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (root / name / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines]  # of training and validation


@pytest.mark.parametrize(
    ("name", "other", "tolerance"),
    [
        ("ddp", "one", 1e-5),
        ("fsdp", "ddp", 1e-5),
        ("again", "fsdp", 1e-6),
        ("parts-ddp", "ddp", 1e-6),
        ("parts-fsdp", "fsdp", 1e-6),
        ("moved", "ddp", 1e-5),
    ],
)
def test_runs_learn_the_same(root: Path, name: str, other: str, tolerance: float) -> None:
    assert len(losses(root, other)) == 6
    assert losses(root, name) == pytest.approx(losses(root, other), abs=tolerance)
    ours, theirs = load_weights(root / name), load_weights(root / other)
    assert ours.keys() == theirs.keys()
    for key, weight in ours.items():
        torch.testing.assert_close(weight, theirs[key], atol=10 * tolerance, rtol=0)


def test_a_sharded_runs_checkpoint_is_that_of_any_run(root: Path) -> None:
    states = [load_state(list_checkpoints(root / name)[-1]) for name in ("fsdp", "one")]
    shapes = [
        {(i, name): value.shape for i, entry in state["optimizer"]["state"].items() for name, value in entry.items()}
        for state in states
    ]
    assert shapes[0] == shapes[1]
    assert all(type(value) is torch.Tensor for value in states[0]["model"].values())


def test_ctrl_c_reaches_every_process_and_costs_nothing(root: Path) -> None:
    out, never = root / "interrupted", 10**6
    settings = [f"--set={name}={never}" for name in ("max_steps", "save_every", "validate_every")]
    command = [sys.executable, "-m", "audiogen_cli", "train-lm", "--config", root / "recipe.yaml", *settings]
    command += ["--tokens", root / "tokens", "--codec", root / "codec", "--out", out, "--processes", "2"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    try:
        wait_for(lambda: (out / "metrics.jsonl").exists() and (out / "metrics.jsonl").read_text(), process)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):  # a terminal, then a scheduler in a hurry
            os.killpg(process.pid, number)
        _, said = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert "run the same command again" in said and "Traceback" not in said
    (checkpoint,) = list_checkpoints(out)
    assert load_state(checkpoint)["step"] >= len(losses(root, "interrupted")) > 0


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
