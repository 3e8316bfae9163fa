"""The statistics of a listening test: CrowdMOS's interval, the plain one, agreement between raters, differences.

Ratings are tables with the columns rater, item and score, of one system unless stated otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

LEVEL = 0.975  # of Student's t: intervals hold 95%


@dataclass(frozen=True)
class Spread:
    """The sources of variance in one system's ratings, as CrowdMOS sees them (Ribeiro et al. 2011)."""

    mean: float
    half_width: float | None  # of the 95% interval; None if one rater or one item is left
    variance: float  # of the mean
    item: float  # variance components; negative estimates are 0
    rater: float
    noise: float


def crowdmos(ratings: pd.DataFrame) -> Spread:
    """Compute mean and 95% interval under rating = mean + rater + item + noise, all three random.

    Variances are population variances. A component that cannot be separated from noise is left out: no rater has two
    items, or no item two raters.
    """
    scores, n = ratings.score, len(ratings)
    raters, items = ratings.groupby("rater").score, ratings.groupby("item").score
    item, rater, noise = _components(_mean_variance(raters), _mean_variance(items), float(scores.var(ddof=0)))
    shares = [float((groups.size() ** 2).sum()) / n**2 for groups in (items, raters)]
    variance = item * shares[0] + rater * shares[1] + noise / n
    freedom = min(raters.ngroups, items.ngroups) - 1
    half_width = student_t(freedom) * math.sqrt(variance) if freedom else None
    return Spread(float(scores.mean()), half_width, variance, item, rater, noise)


def plain_half_width(scores: pd.Series) -> float | None:
    """Compute half the 95% t interval for the mean of independent scores, which most papers print; None for one."""
    return student_t(len(scores) - 1) * float(scores.sem()) if len(scores) > 1 else None


def student_t(freedom: int) -> float:
    """Return the two-sided 95% quantile of Student's t."""
    from scipy.special import stdtrit  # what scipy.stats.t.ppf calls, a second sooner

    return float(stdtrit(freedom, LEVEL))


def agreements(ratings: pd.DataFrame) -> dict[str, float | None]:
    """Correlate each rater with the mean of the others, over systems if there are three, else over sounds.

    ratings: of all systems. None where no correlation exists: fewer than two means, or a side is constant.
    """
    cell = ["system"] if ratings.system.nunique() >= 3 else ["item", "system"]
    own = ratings.groupby(["rater", *cell], sort=False).score.agg(["sum", "count"])
    total = ratings.groupby(cell, sort=False).score.agg(["sum", "count"])
    others = total.loc[own.index.droplevel("rater")].set_axis(own.index) - own
    means = pd.DataFrame({"own": own["sum"] / own["count"], "others": others["sum"] / others["count"]})
    means = means[others["count"] > 0]
    found = {str(rater): _correlation(part.own, part.others) for rater, part in means.groupby("rater", sort=False)}
    return {rater: found.get(rater) for rater in ratings.rater.unique()}


def paired_difference(
    first: pd.DataFrame, second: pd.DataFrame, seed: int, draws: int = 1000
) -> tuple[float, tuple[float, float]] | None:
    """Compute the mean of first - second over cells that both have, and its 95% bootstrap interval.

    first, second: two systems' scores, raters by items, with the same rows and columns; NaN where missing. Raters and
    items are drawn. None if no rater judged both on an item.
    """
    difference = (first - second).to_numpy()
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


def _correlation(own: pd.Series, others: pd.Series) -> float | None:
    if len(own) < 2 or np.ptp(own) == 0 or np.ptp(others) == 0:
        return None
    return float(np.corrcoef(own, others)[0, 1])


def _mean_variance(groups: Any) -> float | None:
    """Average the variances of the groups with two ratings or more; None if there is none."""
    variances = groups.var(ddof=0)[groups.size() > 1]
    return float(variances.mean()) if len(variances) else None


def _components(within_rater: float | None, within_item: float | None, total: float) -> tuple[float, float, float]:
    """Solve item + noise = within_rater, rater + noise = within_item, item + rater + noise = total for all three."""
    if within_rater is None and within_item is None:
        return 0.0, 0.0, total
    if within_rater is None:  # nobody rated twice: rater and noise are one
        assert within_item is not None
        return max(total - within_item, 0.0), 0.0, within_item
    if within_item is None:
        return 0.0, max(total - within_rater, 0.0), within_rater
    noise = max(within_rater + within_item - total, 0.0)
    return max(total - within_item, 0.0), max(total - within_rater, 0.0), noise
