"""A world of four codes, small enough for brute force: its diffusion as matrices."""

from __future__ import annotations

import dataclasses

import torch

from audiogen_cli.lm.config import DiffusionConfig, LMConfig
from audiogen_cli.lm.diffusion.schedule import NoiseSchedule
from helpers.zoo import CONFIG

V = MASK = 4
SCHEDULES = ("mask_uniform", "mask", "uniform")
SHAPE = {"pattern": "parallel", "text_prefix": False, "decoder": "diffusion"}


def make_config(schedule: str, steps: int, **changes: object) -> LMConfig:
    """CONFIG as a diffusion model of V codes."""
    diffusion = DiffusionConfig(schedule, steps)  # type: ignore[arg-type]
    return dataclasses.replace(CONFIG, **{"codebook_size": V, "diffusion": diffusion, **SHAPE, **changes})


def matrix(schedule: NoiseSchedule, begin: int, end: int) -> torch.Tensor:
    """What a step, or several, makes of each code and the mask: rows from, columns to; float64."""
    kept, changed, masked = (float(each) for each in schedule.between(torch.tensor([begin]), torch.tensor([end])))
    result = torch.full((V + 1, V + 1), changed, dtype=torch.float64)
    result[:V, :V] += kept * torch.eye(V, dtype=torch.float64)
    result[:, MASK] = masked
    result[MASK] = torch.eye(V + 1, dtype=torch.float64)[MASK]
    return result
