"""Several processes: sharded (FSDP) or not (DDP), they learn what one learns, and resume as if never stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.gpu import CountOps
from helpers.processes import run_ranks
from helpers.runs import read_metrics
from torch.distributed.tensor import DTensor

from audiogen_cli.devices import WAIT, process_index
from audiogen_cli.errors import InputError
from audiogen_cli.lm.config import TrainConfig
from audiogen_cli.lm.probe import Probe
from audiogen_cli.lm.training import train as training
from audiogen_cli.lm.training.state import State
from audiogen_cli.lm.training.train import train
from audiogen_cli.model_folder import load_weights
from audiogen_cli.training import throughput
from audiogen_cli.training.checkpoint import list_checkpoints, load_state
from audiogen_cli.training.launch import start_accelerator
from audiogen_cli.training.recipe import load_recipe
from audiogen_cli.training.sharding import shard
from audiogen_cli.training.throughput import Trial

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
def root(tmp_path_factory: pytest.TempPathFactory, tiny_codec: Path, token_shards: Path, word_vectors: Path) -> Path:
    """Make all runs of this module: in one process, and in two that share the work."""
    root = tmp_path_factory.mktemp("world")
    (root / "recipe.yaml").write_text(RECIPE.replace("VECTORS", str(word_vectors)))

    def learn(name: str, *settings: str, n: int = 2, **environment: str) -> None:
        config = load_recipe(TrainConfig, root / "recipe.yaml", settings)
        said = run_ranks(learn_and_count, config, token_shards, tiny_codec, root / name, n=n, **environment)
        (root / f"{name}.json").write_text(json.dumps([json.loads(line) for line in said]))

    fsdp = "distributed=fsdp"
    learn("one", n=1)
    learn("ddp")
    learn("fsdp", fsdp)
    learn("hsdp", fsdp, "optim.micro_batch=1", n=4, LOCAL_WORLD_SIZE="2")  # two machines of two
    learn("again", fsdp, "checkpoint_activations=true")
    learn("parts-ddp", "max_steps=2")
    learn("parts-ddp")
    learn("parts-fsdp", fsdp, "max_steps=2")
    learn("parts-fsdp", fsdp)
    learn("moved", "max_steps=2")  # begun unsharded
    learn("moved", fsdp)
    return root


def learn_and_count(config: TrainConfig, tokens: Path, codec: Path, out: Path) -> None:
    """Train; print how often the steps reduced gradients of shards, and the sizes of the meshes of parameters."""
    counts: dict[str, Any] = {"reduced": 0, "mesh": []}
    honest = training.train_step

    def train_step(state: State, *inputs: Any) -> object:
        counts["mesh"] = sorted({each.device_mesh.shape for each in state.parameters if isinstance(each, DTensor)})
        with CountOps() as counting:
            metrics = honest(state, *inputs)
        counts["reduced"] += sum(n for name, n in counting.counts.items() if "reduce_scatter" in name)
        return metrics

    training.train_step = train_step  # type: ignore[assignment]
    train(config, tokens, codec, out)
    print(json.dumps(counts))


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(run, "train", "val")]


@pytest.mark.parametrize(
    ("name", "other", "tolerance"),
    [
        ("ddp", "one", 1e-5),
        ("fsdp", "ddp", 1e-5),
        ("hsdp", "ddp", 1e-5),
        ("again", "fsdp", 1e-6),
        ("parts-ddp", "ddp", 1e-6),
        ("parts-fsdp", "fsdp", 1e-6),
        ("moved", "ddp", 1e-5),
    ],
)
def test_runs_learn_the_same(root: Path, name: str, other: str, tolerance: float) -> None:
    assert len(losses(root / other)) == 6
    assert losses(root / name) == pytest.approx(losses(root / other), abs=tolerance)
    ours, theirs = load_weights(root / name), load_weights(root / other)
    assert ours.keys() == theirs.keys()
    for key, weight in ours.items():
        torch.testing.assert_close(weight, theirs[key], atol=10 * tolerance, rtol=0)


def test_machines_hold_the_same_and_gradients_pass_once_a_step(root: Path) -> None:
    found = {name: json.loads((root / f"{name}.json").read_text()) for name in ("fsdp", "hsdp")}
    # Two blocks and the rest, in each of four steps, however many micro-batches a step has.
    assert found["fsdp"] == [{"reduced": 12, "mesh": [[2]]}] * 2
    assert found["hsdp"] == [{"reduced": 12, "mesh": [[2, 2]]}] * 4


def wait_in_shards() -> None:
    """Print the seconds for which the groups of two machines' mesh wait for a process, and a gradient of it."""
    accelerator, model = start_accelerator("no"), torch.nn.Linear(4, 4)
    shard(model, [], accelerator.device, 4, bf16=False)
    assert isinstance(model.weight, DTensor)
    for group in model.weight.device_mesh.get_all_groups():
        print(group._get_backend(accelerator.device).options._timeout.total_seconds())
    model(torch.full((1, 4), float(process_index()))).sum().backward()
    assert isinstance(model.weight.grad, DTensor)
    print(float(model.weight.grad.full_tensor().mean()))
    accelerator.end_training()


def test_processes_wait_for_one_that_saves() -> None:
    for said in run_ranks(wait_in_shards, n=4, LOCAL_WORLD_SIZE="2"):
        assert [*map(float, said.split())] == [*[WAIT.total_seconds()] * 2, 1.5]  # of the processes' 0, 1, 2 and 3


@pytest.mark.parametrize("name", ["ddp", "hsdp"])
def test_several_processes_make_the_probe_of_one(root: Path, name: str) -> None:
    ours, one = Probe.load(root / name), Probe.load(root / "one")
    assert ours and one
    sound = torch.randn(one.weight.shape[1], generator=torch.Generator().manual_seed(0))
    vectors = [probe.weight.float() @ sound + probe.bias for probe in (ours, one)]
    torch.testing.assert_close(*vectors, atol=0.05, rtol=0.05)


def test_a_sharded_runs_checkpoint_is_that_of_any_run(root: Path) -> None:
    states = [load_state(list_checkpoints(root / name)[-1]) for name in ("fsdp", "one")]
    shapes = [
        {(i, name): value.shape for i, entry in state["optimizer"]["state"].items() for name, value in entry.items()}
        for state in states
    ]
    assert shapes[0] == shapes[1]
    assert all(type(value) is torch.Tensor for value in states[0]["model"].values())


def test_ctrl_c_reaches_every_process_and_costs_nothing(root: Path, tiny_codec: Path, token_shards: Path) -> None:
    out, never = root / "interrupted", 10**6
    settings = [f"--set={name}={never}" for name in ("max_steps", "save_every", "validate_every")]
    command = [sys.executable, "-m", "audiogen_cli", "train-lm", "--config", root / "recipe.yaml", *settings]
    command += ["--tokens", token_shards, "--codec", tiny_codec, "--out", out, "--processes", "2"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    try:
        wait_for(lambda: (out / "metrics.jsonl").exists() and (out / "metrics.jsonl").read_text(), process)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):  # a terminal, then a scheduler in a hurry
            os.killpg(process.pid, number)
        _, said = process.communicate()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert "run the same command again" in said and "Traceback" not in said and "Warning" not in said
    (checkpoint,) = list_checkpoints(out)
    assert load_state(checkpoint)["step"] >= len(losses(out)) > 0


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None
        time.sleep(0.1)


def try_steps(config: TrainConfig, tokens: Path, codec: Path, out: Path) -> None:
    """Print what two processes find out before their first step: where one has less memory, and what they need."""
    honest, rank = training.try_step, process_index()
    free, most = 1e12, 100

    def measure(work: Callable[[], object], device: torch.device) -> tuple[float, float]:
        sizes.append(len(sizes) + 1)
        work()
        if rank == 1 and len(sizes) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1e6, 10.0

    def try_step(*inputs: Any) -> Trial:
        trial = honest(*inputs)
        size = sum(parameter.nbytes for parameter in inputs[0].parameters)
        print(json.dumps([trial.micro_batch, trial.recomputed, (trial.needed - 1e6) / size]))
        raise InputError("tried")

    training.try_step = try_step
    throughput.measure, throughput.free_memory = measure, lambda device: free if rank else 1e12
    for name, settings, free, most in (  # noqa: B007
        ("less", {}, 1e12, 1),
        ("less", {"distributed": "fsdp"}, 100.0, 100),
        ("none", {}, 1e12, 0),
        ("whole", {}, 1e12, 100),
        ("shards", {"distributed": "fsdp"}, 1e12, 100),
        ("one", {"distributed": "fsdp", "optim": replace(config.optim, micro_batch=4)}, 1e12, 100),
    ):
        sizes: list[int] = []
        with pytest.raises(InputError, match="tried"):
            train(replace(config, **settings), tokens, codec, out / name)


def test_processes_agree_on_what_fits(tiny_codec: Path, token_shards: Path, word_vectors: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("VECTORS", str(word_vectors)))
    config = load_recipe(TrainConfig, tmp_path / "recipe.yaml")
    first, second = run_ranks(try_steps, config, token_shards, tiny_codec, tmp_path)
    assert first == second
    less, fsdp, none, whole, shards, one = map(json.loads, first.splitlines())
    assert less[:2] == [1, False] and fsdp[:2] == [1, True] and none[:2] == [1, True]
    # Adam's moments: two numbers for each weight, over two processes; whole gradients if there are several parts
    assert [each[2] for each in (whole, shards, one)] == pytest.approx([2, 2, 1], rel=0.05)
