"""Checkpoints appear whole or not at all, and damaged ones are named."""

from pathlib import Path

import pytest
import torch

from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.training.checkpoint import list_checkpoints, load_state, save_checkpoint


def write_model(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def test_round_trip_and_pruning(tmp_path):
    for step in (5, 10, 1_000_000):
        save_checkpoint(tmp_path, step, write_model, {"moments": torch.ones(2)}, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000010", "step-1000000"]
    state = load_state(list_checkpoints(tmp_path)[-1])
    assert state["step"] == 1_000_000
    assert torch.equal(state["moments"], torch.ones(2))


def test_a_save_that_dies_leaves_no_checkpoint(tmp_path):
    def die(folder: Path) -> None:
        write_model(folder)
        raise OSError("No space left on device")

    save_checkpoint(tmp_path, 1, write_model, {})
    with pytest.raises(AudiogenError, match=r"step-000002 .*No space.*step-000001"):
        save_checkpoint(tmp_path, 2, die, {}, keep=1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]
    save_checkpoint(tmp_path, 2, write_model, {})  # the next try is a new one
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000001", "step-000002"]


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b""])
def test_a_damaged_state_is_an_input_error(tmp_path, damage):
    folder = save_checkpoint(tmp_path, 1, write_model, {"moments": torch.ones(100)})
    file = folder / "training.pt"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InputError, match=r"step-000001 cannot be resumed"):
        load_state(folder)


def test_a_pickled_object_is_refused(tmp_path):
    folder = save_checkpoint(tmp_path, 1, write_model, {})
    torch.save({"step": 1, "path": Path()}, folder / "training.pt")
    with pytest.raises(InputError, match="cannot be resumed"):
        load_state(folder)
