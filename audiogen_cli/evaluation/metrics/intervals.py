"""95% intervals over clips: what another draw of the same number of clips might have given."""

from __future__ import annotations

import numpy as np

LEVEL = 0.95
_NORMAL_QUANTILE = 1.959963984540054


def bootstrap_interval(values: np.ndarray, seed: int, draws: int = 1000) -> tuple[float, float]:
    """A percentile bootstrap interval for the mean over clips. values: [n], one per clip; seeded, so it repeats."""
    picks = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    low, high = np.quantile(values[picks].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def influence_interval(value: float, influence: np.ndarray, lowest: float) -> tuple[float, float] | None:
    """value ± 1.96 standard errors, from how much each clip moves it (first order); None for a single clip.

    influence: [n], the change of the value per clip, mean 0 but for rounding. lowest: no value lies below.
    For FAD and inception score: a bootstrap draws clips twice, which acts like having fewer of them, and both
    depend on how many there are.
    """
    n = len(influence)
    if n < 2:
        return None
    error = _NORMAL_QUANTILE * float(np.sqrt(n / (n - 1) * ((influence - influence.mean()) ** 2).sum()))
    return max(lowest, value - error), value + error
