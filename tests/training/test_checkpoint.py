"""Checkpoints appear whole or not at all, and damaged ones are named."""

from pathlib import Path

import pytest
import torch
from helpers.processes import run_ranks

from audiogen_cli.devices import process_index
from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.lock import hold_folder
from audiogen_cli.training import checkpoint as checkpoint_module
from audiogen_cli.training.checkpoint import (
    check_optimizer,
    list_checkpoints,
    load_state,
    resume_newest,
    save_checkpoint,
)


def write_model(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def test_round_trip_and_pruning(tmp_path):
    for step in (5, 10, 1_000_000):
        save_checkpoint(tmp_path, step, write_model, {"moments": torch.ones(2)}, every=5)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000010", "step-1000000"]
    (tmp_path / "checkpoints" / "step-²").mkdir()  # a digit, but no number
    state = load_state(list_checkpoints(tmp_path)[-1])
    assert state["step"] == 1_000_000
    assert torch.equal(state["moments"], torch.ones(2))


@pytest.mark.parametrize("stops", [[], [4], [10], [11, 13], [1, 2, 3, 4, 5, 7, 8, 10, 11, 13]])
def test_a_run_that_was_stopped_keeps_the_checkpoints_of_one_that_was_not(tmp_path, stops):
    for step in range(1, 15):
        if step % 3 == 0 or step == 14 or step in stops:
            save_checkpoint(tmp_path, step, write_model, {}, every=3)
            assert list_checkpoints(tmp_path)[-1].name == f"step-{step:06d}"
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000012", "step-000014"]


def test_a_run_stopped_before_its_first_planned_checkpoint_keeps_two(tmp_path):
    for step in (3, 5, 8):
        save_checkpoint(tmp_path, step, write_model, {}, every=100)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000005", "step-000008"]


def test_a_save_before_a_damaged_checkpoint_is_kept(tmp_path):
    for step in (3, 6, 9):
        save_checkpoint(tmp_path, step, write_model, {}, every=3)
    (tmp_path / "checkpoints" / "step-000009" / "training.pt").write_bytes(b"")  # resumed from 6, stopped at 7
    save_checkpoint(tmp_path, 7, write_model, {}, every=3)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000006", "step-000007", "step-000009"]


def test_a_step_that_is_saved_again_is_whole_at_any_moment(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, 3, write_model, {}, every=3)

    def stop(path: Path) -> None:
        assert path.name != "step-000003"
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint_module, "delete", stop)
        save_checkpoint(tmp_path, 3, write_model, {"second": torch.ones(1)}, every=3)
    (kept,) = list_checkpoints(tmp_path)
    assert load_state(kept)["second"] and (kept / "config.json").is_file()


def test_a_save_that_dies_leaves_no_checkpoint(tmp_path):
    def die(folder: Path) -> None:
        write_model(folder)
        raise OSError("No space left on device")

    save_checkpoint(tmp_path, 1, write_model, {}, every=1)
    with pytest.raises(AudiogenError, match=r"step-000002 .*No space.*step-000001"):
        save_checkpoint(tmp_path, 2, die, {}, every=1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]
    save_checkpoint(tmp_path, 2, write_model, {}, every=1)  # the next try is a new one
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000001", "step-000002"]


def test_what_a_killed_save_leaves_is_no_checkpoint_and_goes_at_the_next_start(tmp_path):
    save_checkpoint(tmp_path, 1, write_model, {}, every=1)
    half = tmp_path / "checkpoints" / ".0123456789abcdef.99999999.tmp"
    half.mkdir()
    write_model(half)
    hold_folder(tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]


def cut(file):
    file.write_bytes(file.read_bytes()[:200])


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        lambda file: file.write_bytes(b""),
        lambda file: file.unlink(),
        lambda file: torch.save({"step": 2, "path": Path()}, file),  # a pickled object
        lambda file: torch.save({"step": 7}, file),
        lambda file: torch.save([2], file),
    ],
)
def test_a_damaged_state_gives_way_to_the_one_before(tmp_path, damage):
    for step in (1, 2):
        folder = save_checkpoint(tmp_path, step, write_model, {"moments": torch.ones(100)}, every=1)
    damage(folder / "training.pt")
    said, resumed = [], []
    assert resume_newest(tmp_path, lambda checkpoint: resumed.append(load_state(checkpoint)["step"]), said.append)
    assert resumed == [1]
    assert "step-000002 cannot be resumed" in said[0] and said[1] == "resuming from step-000001"
    damage(tmp_path / "checkpoints" / "step-000001" / "training.pt")
    with pytest.raises(InputError, match=r"step-000002 cannot be resumed .*, nor one before it"):
        resume_newest(tmp_path, load_state, said.append)


def test_without_checkpoints_nothing_is_resumed(tmp_path):
    assert not resume_newest(tmp_path, load_state, print)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state["state"][0].update(exp_avg=torch.zeros(())), "exp_avg of parameter 0 has another shape"),
        (lambda state: state["state"][0].update(exp_avg_sq=None), "exp_avg_sq of parameter 0"),
        (lambda state: state["param_groups"][0].update(betas=(0.5, 0.9)), "betas of its optimizer are others"),
        (lambda state: state["param_groups"][0].update(params=[0, 1]), "params of its optimizer are others"),
    ],
)
def test_states_of_other_optimizers_are_refused(change, reason):
    weight = torch.nn.Parameter(torch.ones(2, 3))
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    check_optimizer(optimizer, state)
    change(state)
    with pytest.raises(ValueError, match=reason):
        check_optimizer(torch.optim.Adam([weight]), state)


def resume_late(run: Path) -> None:
    """Resume where the second process's file system still shows other content in the newest checkpoint."""
    honest, resumed = checkpoint_module.hash_file, []
    if process_index() == 1:
        checkpoint_module.hash_file = lambda path: honest(path) + ("late" if path.parent.name[-1] == "3" else "")

    def resume(checkpoint: Path) -> None:
        if process_index() == 1 and checkpoint.name[-1] == "2":
            raise ValueError("half of it")
        resumed.append(checkpoint.name)

    resume_newest(run, resume, print)
    print(resumed[-1])


def test_all_processes_resume_from_one_checkpoint_that_all_see_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "KEPT", 3)
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, write_model, {}, every=1)
    for said in run_ranks(resume_late, tmp_path):
        late, damaged, resuming, resumed = said.splitlines()
        assert "step-000003" in late and "differs between processes" in late
        assert "step-000002" in damaged and "half of it" in damaged
        assert (resuming, resumed) == ("resuming from step-000001", "step-000001")
