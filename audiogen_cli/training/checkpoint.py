"""Checkpoints: `<run>/checkpoints/step-NNNNNN/`, each a complete model folder plus what resuming needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiogen_cli.devices import agree, count_processes, gather_values, is_out_of_memory
from audiogen_cli.errors import AudiogenError, InputError, first_line
from audiogen_cli.files import delete, hash_file, replacing, temporary_name

if TYPE_CHECKING:
    import torch

STATE_FILE = "training.pt"
KEPT = 2


def save_checkpoint(
    run: Path, step: int, save_model: Callable[[Path], None], state: dict[str, Any], every: int
) -> Path:
    """Write a checkpoint, whole or not at all; keep the newest `KEPT`.

    save_model: writes the model's own files into the folder it is given. state: optimizer states and the
    like, made of tensors and plain values only, so that it loads with `weights_only=True`. every: steps between two
    checkpoints; those of other steps, where a run was stopped, go first.
    Raises AudiogenError if it cannot be written (a full disk); the checkpoints before it are still there.
    """
    import torch

    folder = run / "checkpoints" / f"step-{step:06d}"
    old = temporary_name(folder.parent)  # of the same step: of a training that is stopped before its next one
    try:
        with replacing(folder) as temporary:
            temporary.mkdir(parents=True)
            save_model(temporary)
            with (temporary / STATE_FILE).open("wb") as file:
                torch.save({**state, "step": step}, file)
                file.flush()
                os.fsync(file.fileno())
            if folder.exists():
                folder.rename(old)
        delete(old)
    except Exception as error:  # a full disk is an OSError, or what torch and safetensors make of it
        raise AudiogenError(_unwritten(run, folder, error)) from error
    _delete_old(run, step, every)
    return folder


def _delete_old(run: Path, step: int, every: int) -> None:
    """Delete checkpoints older than that of `step`, each renamed before: no half of one is ever taken for one."""
    older = [path for path in list_checkpoints(run) if _step(path) < step]  # one after it was damaged
    planned = [path for path in older if _step(path) % every == 0]
    for old in set(older) - set((planned or older)[1 - KEPT :]):
        delete(old.rename(temporary_name(old.parent)))


def list_checkpoints(run: Path) -> list[Path]:
    """List the finished checkpoints of a run, oldest first."""
    found = (run / "checkpoints").glob("step-*")
    return sorted((path for path in found if path.name[5:].isdecimal()), key=_step)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name[5:])


def load_state(checkpoint: Path, device: str | Any = "cpu", mapped: bool = False) -> dict[str, Any]:
    """Read what `save_checkpoint` was given as `state`, with its `step`. Raises ValueError if it is something else.

    mapped: leave the tensors in the file until they are used; copy what you keep, the file may be deleted.
    """
    import torch

    where = "cpu" if torch.device(device).type == "cpu" else device  # torch.load knows no cpu:0
    state = torch.load(checkpoint / STATE_FILE, map_location=where, weights_only=True, mmap=mapped)
    if not isinstance(state, dict) or state.get("step") != _step(checkpoint):
        raise ValueError(f"{STATE_FILE} is not of this step")
    return state


def resume_newest(run: Path, resume: Callable[[Path], None], say: Callable[[str], object]) -> bool:
    """Resume from the newest checkpoint that can be, and name those that cannot; return whether there is one at all.

    The processes of a launch resume from the same: the main one's list counts, and a checkpoint that one of them cannot
    read, or sees with another content (through a network file system that lags behind), none uses.
    Raises InputError if all are damaged, or of another model.
    """
    damaged: list[str] = []
    for checkpoint in agree(list(reversed(list_checkpoints(run)))):
        if reason := _resume_everywhere(checkpoint, resume):
            damaged.append(f"{checkpoint} cannot be resumed ({reason})")
            continue
        for line in damaged:
            say(f"warning: {line}")
        say(f"resuming from {checkpoint.name}")
        return True
    if damaged:
        raise InputError(f"{damaged[0]}, nor one before it; copy it again, or train into another --out")
    return False


def _resume_everywhere(checkpoint: Path, resume: Callable[[Path], None]) -> str:
    """Resume in all processes from a checkpoint; return why one of them cannot, in all the same, or ""."""
    reason = content = ""
    try:
        if count_processes() > 1:
            content = "".join(hash_file(path) for path in sorted(checkpoint.iterdir()) if path.is_file())
        resume(checkpoint)
    except Exception as error:  # of what torch makes of damaged files and foreign states there are too many kinds
        if is_out_of_memory(error):
            raise
        reason = first_line(error) or type(error).__name__
    found: list[tuple[str, str]] = gather_values((reason, content))
    if len({each for _, each in found}) > 1 and not any(each for each, _ in found):
        return "its content differs between processes: the file system lags behind"
    return next((each for each, _ in found if each), "")


def check_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Raise ValueError unless a saved state is of these parameters and settings, but for the learning rate."""
    import torch

    own = optimizer.state_dict()["param_groups"]
    for group, saved in zip(own, state["param_groups"], strict=True):
        for name in ("params", "betas", "eps", "weight_decay"):
            if saved[name] != group[name]:
                raise ValueError(f"{name} of its optimizer are others")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, entry in state["state"].items():
        for name, value in entry.items():
            if not torch.is_tensor(value) or (name != "step" and value.shape != parameters[number].shape):
                raise ValueError(f"{name} of parameter {number} has another shape in its optimizer")


def _unwritten(run: Path, folder: Path, error: Exception) -> str:
    last = next(reversed(list_checkpoints(run)), None)
    kept = f"the last one is {last.name}" if last else "there is none before it"
    return f"{folder} cannot be written ({first_line(error)}); {kept}: make room and run the same command again"
