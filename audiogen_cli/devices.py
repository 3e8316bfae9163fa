"""Devices, their memory, and the processes of an accelerate launch. Nothing here imports torch before it needs to."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from audiogen_cli.errors import InputError

if TYPE_CHECKING:
    import torch


def check_device(name: str) -> None:
    """Raise InputError unless `name` could be a device. Imports no torch, so the device may still be absent."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise InputError(f"unknown device '{name}': choose auto, cpu, cuda, cuda:N or mps")


def choose_device(name: str) -> torch.device:
    """Return the device of a name; auto: CUDA, else Apple's GPU, else the CPU. Raises InputError if it is absent."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"device '{name}' cannot be used here: {reason}") from None
    return device


def count_processes() -> int:
    """Return the number of processes of an accelerate launch; 1 outside of one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Return whether this process is the one that prints."""
    return int(os.environ.get("RANK", "0")) == 0


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out: the GPU's, or the machine's, for which torch raises a plain RuntimeError."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # torch's, without importing torch
        or "can't allocate memory" in str(error)
    )
