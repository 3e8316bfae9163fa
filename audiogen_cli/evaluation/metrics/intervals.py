"""95% intervals over clips: the spread of a value if as many other clips were drawn."""

from __future__ import annotations

import numpy as np

from audiogen_cli.evaluation.results import Interval

LEVEL = 0.95
_NORMAL_QUANTILE = 1.959963984540054


def bootstrap_interval(values: np.ndarray, seed: int, draws: int = 1000) -> Interval | None:
    """Compute a percentile bootstrap interval for the mean of values [n], one per clip; seeded, so it repeats.

    None for a single clip, whose spread nobody knows.
    """
    if len(values) < 2:
        return None
    picks = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    low, high = np.quantile(values[picks].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def influence_interval(value: float, influence: np.ndarray, lowest: float) -> Interval | None:
    """Compute value ± 1.96 standard errors from each clip's influence (first order); None for a single clip.

    influence: [n], the change of the value per clip, mean 0 but for rounding. lowest: no value is below it.
    For FAD and inception score: both depend on the number of clips, and a bootstrap draws some clips twice, which acts
    like having fewer.
    """
    n = len(influence)
    if n < 2:
        return None
    error = _NORMAL_QUANTILE * float(np.sqrt(n / (n - 1) * ((influence - influence.mean()) ** 2).sum()))
    return max(lowest, value - error), value + error
