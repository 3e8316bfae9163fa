"""Checkpoints: `<run>/checkpoints/step-NNNNNN/`, each a complete model folder plus what resuming needs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from audiogen_cli.errors import AudiogenError, InputError, first_line

STATE_FILE = "training.pt"


def save_checkpoint(
    run: Path, step: int, save_model: Callable[[Path], None], state: dict[str, Any], keep: int = 2
) -> Path:
    """Write a checkpoint under a temporary name, then rename it; keep the newest `keep`.

    save_model: writes the model's own files into the folder it is given. state: optimizer states and the
    like, made of tensors and plain values only, so that it loads with `weights_only=True`.
    Raises AudiogenError if it cannot be written (a full disk); the checkpoints before it are still there.
    """
    import torch

    folder = run / "checkpoints" / f"step-{step:06d}"
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        save_model(temporary)
        with (temporary / STATE_FILE).open("wb") as file:
            torch.save({**state, "step": step}, file)
            file.flush()
            os.fsync(file.fileno())
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except Exception as error:  # a full disk is an OSError, or what torch and safetensors make of it
        shutil.rmtree(temporary, ignore_errors=True)
        raise AudiogenError(_unwritten(run, folder, error)) from error
    for old in list_checkpoints(run)[:-keep]:
        shutil.rmtree(old)
    return folder


def list_checkpoints(run: Path) -> list[Path]:
    """List the finished checkpoints of a run, oldest first."""
    found = (run / "checkpoints").glob("step-*")
    return sorted((path for path in found if path.name[5:].isdigit()), key=lambda path: int(path.name[5:]))


def load_state(checkpoint: Path, device: str | Any = "cpu", mapped: bool = False) -> dict[str, Any]:
    """Read what `save_checkpoint` was given as `state`, with its `step`. Raises InputError if damaged.

    mapped: leave the tensors in the file until they are used; copy what you keep, the file may be deleted.
    """
    import torch

    try:
        return torch.load(checkpoint / STATE_FILE, map_location=device, weights_only=True, mmap=mapped)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        raise InputError(
            f"{checkpoint} cannot be resumed ({first_line(error)}); delete it to use the one before"
        ) from None


def _unwritten(run: Path, folder: Path, error: Exception) -> str:
    last = next(reversed(list_checkpoints(run)), None)
    kept = f"the last one is {last.name}" if last else "there is none before it"
    return f"{folder} cannot be written ({first_line(error)}); {kept}: make room and run the same command again"
