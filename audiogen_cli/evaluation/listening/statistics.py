"""The statistics of a listening test: CrowdMOS's interval, the plain one, agreement between raters, paired differences.

Ratings of one system stand in a matrix [raters, items] with NaN where a rater did not hear an item.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.975  # of Student's t: intervals hold 95%


@dataclass(frozen=True)
class Spread:
    """CrowdMOS's view of one system's ratings (Ribeiro et al. 2011): where their variance comes from."""

    mean: float
    half_width: float | None  # of the 95% interval; None if one rater or one item is left
    variance: float  # of the mean
    item: float  # variance components; negative estimates are 0
    rater: float
    noise: float


def crowdmos(ratings: np.ndarray) -> Spread:
    """Mean and 95% interval under rating = mean + rater + item + noise, all three random.

    ratings: [raters, items], NaN where missing, at least one not. Population variances; a component that the ratings
    cannot tell from noise (no rater with two items, or no item with two raters) is dropped.
    """
    given = ~np.isnan(ratings)
    counts_per_rater, counts_per_item, total = given.sum(1), given.sum(0), int(given.sum())
    within_rater = _mean_variance(ratings, counts_per_rater, axis=1)
    within_item = _mean_variance(ratings, counts_per_item, axis=0)
    item, rater, noise = _components(within_rater, within_item, float(np.var(ratings[given])))
    by_item = item * float((counts_per_item**2).sum()) / total**2
    by_rater = rater * float((counts_per_rater**2).sum()) / total**2
    variance = by_item + by_rater + noise / total
    freedom = min(int((counts_per_rater > 0).sum()), int((counts_per_item > 0).sum())) - 1
    half_width = student_t(freedom) * math.sqrt(variance) if freedom else None
    return Spread(float(ratings[given].mean()), half_width, variance, item, rater, noise)


def plain_half_width(scores: np.ndarray) -> float | None:
    """Half the 95% t interval for the mean of independent scores [n]: what papers nearly always print; None for one."""
    n = len(scores)
    return student_t(n - 1) * float(np.std(scores, ddof=1)) / math.sqrt(n) if n > 1 else None


def student_t(freedom: int) -> float:
    """The two-sided 95% quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, LEVEL))


def correlation(own: Sequence[float], others: Sequence[float]) -> float | None:
    """Pearson's r; None where it does not exist: fewer than two values, or one side constant."""
    if len(own) < 2 or np.ptp(own) == 0 or np.ptp(others) == 0:
        return None
    return float(np.corrcoef(own, others)[0, 1])


def paired_difference(
    first: np.ndarray, second: np.ndarray, seed: int, draws: int = 1000
) -> tuple[float, tuple[float, float]] | None:
    """Mean of first - second over cells that both have, and its 95% bootstrap interval over raters and items.

    first, second: [raters, items] of two systems, rows and columns alike. None if no rater heard both on an item.
    """
    difference = first - second
    given = ~np.isnan(difference)
    if not given.any():
        return None
    filled = np.where(given, difference, 0.0)
    generator = np.random.default_rng(seed)
    # How often a draw takes each rater and each item.
    raters, items = (generator.multinomial(n, np.full(n, 1 / n), draws).astype(np.float64) for n in given.shape)
    weights = ((raters @ given) * items).sum(1)
    sums = ((raters @ filled) * items).sum(1)
    low, high = np.quantile(sums[weights > 0] / weights[weights > 0], [1 - LEVEL, LEVEL])
    return float(difference[given].mean()), (float(low), float(high))


def _mean_variance(ratings: np.ndarray, counts: np.ndarray, axis: int) -> float | None:
    """The mean variance of the rows (axis 1) or columns (0) that hold two ratings; None if none does."""
    enough = counts > 1
    rows = ratings[enough] if axis else ratings[:, enough]
    return float(np.nanvar(rows, axis=axis).mean()) if enough.any() else None


def _components(within_rater: float | None, within_item: float | None, total: float) -> tuple[float, float, float]:
    """Variances (item, rater, noise) from item + noise = within_rater, rater + noise = within_item, all = total."""
    if within_rater is None and within_item is None:
        return 0.0, 0.0, total
    if within_rater is None:  # nobody rated twice: rater and noise are one
        assert within_item is not None
        return max(total - within_item, 0.0), 0.0, within_item
    if within_item is None:
        return 0.0, max(total - within_rater, 0.0), within_rater
    return (
        max(total - within_item, 0.0),
        max(total - within_rater, 0.0),
        max(within_rater + within_item - total, 0.0),
    )
