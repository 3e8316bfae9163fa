"""The findings of an evaluation; `results.json` holds all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Progress = Callable[[int, int], None]  # called with (done, total) as clips are processed; a new total begins a new pass
Begin = Callable[[int], object]  # called with the number of clips, when nothing more can be refused
Interval = tuple[float, float]


@dataclass(frozen=True)
class Skipped:
    """A clip that no number counts, and why."""

    id: str
    reason: str


@dataclass
class Findings:
    """The result of one task.

    metrics, baselines: name → value, None where it does not exist (too few clips). inputs: whatever the numbers depend
    on. details: breakdowns. warnings: one sentence each.
    """

    n: int  # clips scored
    n_available: int  # clips in the split or folder
    metrics: dict[str, float | None]
    inputs: dict[str, Any]
    baselines: dict[str, dict[str, float | None]] = field(default_factory=dict)
    intervals: dict[str, Interval] = field(default_factory=dict)  # 95% over clips
    details: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    published: dict[str, dict[str, float]] = field(default_factory=dict)  # comparable rows of papers
