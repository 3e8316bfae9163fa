import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from helpers.zoo import CONFIG, make_model
from torch import nn
from torch._dynamo.testing import CompileCounter

from audiogen_cli.lm.config import TrainConfig
from audiogen_cli.lm.training.state import State, build_state, clip_gradients, save, update_average
from audiogen_cli.lm.training.step import NextCodes
from audiogen_cli.lm.training.train import _flops


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("limit", [0.1, 100.0])
def test_clipped_steps_are_those_of_torch(fused: bool, limit: float) -> None:
    torch.manual_seed(0)
    model = nn.Linear(5, 7)
    theirs = copy.deepcopy(model)
    optimizer, reference = (torch.optim.AdamW(each.parameters(), 0.1, eps=0.1, fused=fused) for each in (model, theirs))
    state = State(model, model, optimizer, NextCodes(), None)  # type: ignore[arg-type]
    for x in torch.randn(3, 4, 5):
        for network in (model, theirs):
            network.zero_grad()
            network(x).square().sum().backward()
        norm = clip_gradients(state, limit)
        optimizer.step()
        torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(theirs.parameters(), limit))
        reference.step()
    torch.testing.assert_close(list(model.parameters()), list(theirs.parameters()))


def test_a_running_mean_of_trained_matrices_keeps_no_history() -> None:
    average = {"matrix": torch.zeros(3)}
    state = State(None, None, None, NextCodes(), average, base=None)  # type: ignore[arg-type]
    weights = {"matrix": nn.Parameter(torch.ones(3))}  # as `lora_weights` has them
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(State, "weights", weights)
        update_average(state, 0.9)
    assert average["matrix"].tolist() == [pytest.approx(0.9)] * 3 and average["matrix"].grad_fn is None


def test_a_checkpoint_holds_no_second_copy_of_what_is_in_main_memory(
    tmp_path: Path, tiny_codec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the trial before step 1 count one: a training that just fits would end at its first checkpoint."""
    config, accelerator, written = TrainConfig(ema_decay=0.9), Accelerator(cpu=True), {}
    state = build_state(make_model(), config, accelerator)
    sum(weight.sum() for weight in state.parameters).backward()
    state.optimizer.step()
    monkeypatch.setattr(torch, "save", lambda document, file: written.update(document))
    save(state, config, tiny_codec, tmp_path, accelerator)
    moments = [each["exp_avg"] for each in written["optimizer"]["state"].values()]
    own = [each["exp_avg"] for each in state.optimizer.state.values()]
    for found, held in ((moments, own), (written["model"].values(), state.parameters)):
        assert {tensor.data_ptr() for tensor in found} == {tensor.data_ptr() for tensor in held}


def test_one_compilation_serves_steps_of_all_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    counter, compile_with = CompileCounter(), nn.Module.compile
    monkeypatch.setattr(
        nn.Module, "compile", lambda module, **settings: compile_with(module, backend=counter, **settings)
    )
    torch.compiler.reset()
    state = build_state(make_model().train(), TrainConfig(compile=True), Accelerator(cpu=True))
    for rows, frames, words in ((2, 5, 3), (3, 12, 6), (4, 18, 2)):
        codes, text = torch.randint(0, 17, (rows, 3, frames)), torch.randn(rows, words, 6)
        state.network(codes, text, torch.ones(rows, words, dtype=torch.bool)).logits.sum().backward()
    assert counter.frame_count == 1


def test_weights_are_gathered_in_the_precision_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the recipe's: a GPU without bfloat16 trains in float32."""
    asked: list[bool] = []
    monkeypatch.setattr("audiogen_cli.lm.training.state.shard", lambda *inputs: asked.append(inputs[-1]))
    config = TrainConfig(precision="bf16", distributed="fsdp")
    for precision in ("no", "bf16"):
        accelerator: Any = SimpleNamespace(device=torch.device("cpu"), num_processes=2, mixed_precision=precision)
        build_state(make_model(), config, accelerator)
        assert bool(_flops(accelerator, CONFIG, [9])) is asked[-1]
    assert asked == [False, True]
