"""Checkpoints: `<run>/checkpoints/step-NNNNNN/`, each a complete model folder plus what resuming needs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from audiogen_cli.errors import InputError

STATE_FILE = "training.pt"


def save_checkpoint(
    run: Path, step: int, save_model: Callable[[Path], None], state: dict[str, Any], keep: int = 2
) -> Path:
    """Write a checkpoint under a temporary name, then rename it; keep the newest `keep`.

    save_model: writes the model's own files into the folder it is given. state: optimizer states and the
    like, made of tensors and plain values only, so that it loads with `weights_only=True`.
    """
    import torch

    folder = run / "checkpoints" / f"step-{step:06d}"
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_model(temporary)
    with (temporary / STATE_FILE).open("wb") as file:
        torch.save({**state, "step": step}, file)
        file.flush()
        os.fsync(file.fileno())
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    for old in list_checkpoints(run)[:-keep]:
        shutil.rmtree(old)
    return folder


def list_checkpoints(run: Path) -> list[Path]:
    """The finished checkpoints of a run, oldest first."""
    found = (run / "checkpoints").glob("step-*")
    return sorted((path for path in found if path.name[5:].isdigit()), key=lambda path: int(path.name[5:]))


def load_state(checkpoint: Path, device: str | Any = "cpu") -> dict[str, Any]:
    """Read what `save_checkpoint` was given as `state`, with its `step`. Raises InputError if damaged."""
    import torch

    try:
        return torch.load(checkpoint / STATE_FILE, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{checkpoint} cannot be resumed ({reason}); delete it to go on from the one before") from None
