"""Inception score (Salimans et al. 2016) over an audio classifier: are single clips sure, and all together varied?

As audioldm_eval computes it: softmax of the logits, clips shuffled with seed 2020, ten equal splits, exp of the mean KL
of a clip's distribution to its split's mean; mean over the splits. It grows with the number of clips.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from audiogen_cli.evaluation.networks.base import softmax

SEED, SPLITS = 2020, 10


@dataclass(frozen=True)
class InceptionScore:
    """mean, std: over the splits (population). influence: [n], by how much each clip moves the mean (first order)."""

    mean: float
    std: float
    splits: int
    influence: np.ndarray


def inception_score(logits: np.ndarray) -> InceptionScore:
    """The score of clips with these logits [n, C]. Fewer than 20 clips make fewer splits, of two clips at least."""
    n = len(logits)
    splits = max(1, min(SPLITS, n // 2))
    order = np.random.RandomState(SEED).permutation(n)
    probabilities = softmax(logits)
    scores, influence = [], np.zeros(n)
    for part in np.array_split(order, splits):
        p = probabilities[part]
        # x·ln x is 0 at 0, which a sure classifier reaches in float64
        divergence = (p * (np.log(np.maximum(p, np.finfo(float).tiny)) - np.log(p.mean(0) + 1e-300))).sum(1)
        scores.append(float(np.exp(divergence.mean())))
        # The mean distribution moves too, but at first order that changes nothing: Σ p̄·d ln p̄ = 0.
        influence[part] = scores[-1] * (divergence - divergence.mean()) / len(part) / splits
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)), splits, influence)
