"""Learning-rate schedules, pure functions of the step."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["inverse_sqrt", "cosine", "constant"]


def learning_rate(step: int, peak: float, schedule: Schedule, warmup_steps: int, max_steps: int) -> float:
    """Return the rate of optimizer step `step` (from 0): linear warm-up to `peak`, then the schedule (sec. 4.1).

    `inverse_sqrt` decays as √(warmup/step), as in the paper; `cosine` reaches 1% of the peak at `max_steps`.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if schedule == "inverse_sqrt":
        return peak * math.sqrt(max(warmup_steps, 1) / (step + 1))
    if schedule == "cosine":
        progress = min(1.0, (step - warmup_steps) / max(1, max_steps - warmup_steps))
        return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
    return peak
