"""Where tensors live: what a user may call a device, and which one it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from audiogen_cli.errors import InputError

if TYPE_CHECKING:
    import torch


def check_device(name: str) -> None:
    """Raises InputError unless `name` could be a device; whether it is there, torch knows, which is not imported."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise InputError(f"unknown device '{name}': choose auto, cpu, cuda, cuda:N or mps")


def choose_device(name: str) -> torch.device:
    """auto: CUDA, else Apple's GPU, else the CPU. Raises InputError if the device is not there."""
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
