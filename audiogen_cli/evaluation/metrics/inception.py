"""Inception score (Salimans et al. 2016) over an audio classifier: sure about single clips, varied over all of them.

As in audioldm_eval: softmax of the logits, clips shuffled with seed 2020, ten equal splits, exp of the mean KL of a
clip's distribution to its split's mean; mean over the splits. It grows with the number of clips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from audiogen_cli.evaluation.metrics.base import Metric, Values
from audiogen_cli.evaluation.metrics.intervals import influence_interval
from audiogen_cli.evaluation.networks.base import softmax
from audiogen_cli.evaluation.results import Interval
from audiogen_cli.evaluation.score_table import GENERATED, ScoreTable

SEED, SPLITS = 2020, 10


@dataclass(frozen=True)
class InceptionScore:
    """mean, std: over the splits (population). influence: [n], each clip's effect on the mean (first order)."""

    mean: float
    std: float
    splits: int
    influence: np.ndarray


class Inception(Metric):
    """The inception score of a set."""

    name, paired = "is", False

    def score(self, table: ScoreTable, clips: str) -> Values:
        """Compute the mean over the splits."""
        return {self.label(table.networks): inception_score(table.logits(clips)).mean}

    def intervals(self, table: ScoreTable) -> Mapping[str, Interval | None]:
        """Estimate one from the clips' influence."""
        found = inception_score(table.logits(GENERATED))
        return {self.label(table.networks): influence_interval(found.mean, found.influence, 1.0)}

    def details(self, table: ScoreTable) -> Mapping[str, Any]:
        """Return the spread over the splits."""
        found = inception_score(table.logits(GENERATED))
        return {self.name: {"std": found.std, "splits": found.splits}}


def inception_score(logits: np.ndarray) -> InceptionScore:
    """Compute the score of logits [n, C]. Fewer than 20 clips make fewer splits, of at least two clips."""
    n = len(logits)
    splits = max(1, min(SPLITS, n // 2))
    order = np.random.RandomState(SEED).permutation(n)
    probabilities = softmax(logits)
    scores, influence = [], np.zeros(n)
    for part in np.split(order, np.arange(1, splits) * n // splits):
        p = probabilities[part]
        # x·ln x is 0 at 0, which a sure classifier reaches in float64
        divergence = (p * (np.log(np.maximum(p, np.finfo(float).tiny)) - np.log(p.mean(0) + 1e-300))).sum(1)
        scores.append(float(np.exp(divergence.mean())))
        # The mean distribution moves too, but at first order that changes nothing: Σ p̄·d ln p̄ = 0.
        influence[part] = scores[-1] * (divergence - divergence.mean()) / len(part) / splits
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)), splits, influence)
