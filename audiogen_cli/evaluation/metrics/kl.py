"""KL divergence of a classifier's distributions for a reference and its generated clip (paper sec. 4).

Per pair, Σ_c p_c·(ln p_c − ln(q_c + 1e-6)) in nats, p the reference's softmax and q the generated clip's, as in the
paper's code base. The classifiers are multi-label; the field takes a softmax all the same.

The epsilon matters: it caps each class's term near 13.8 nats, and random pairs score a quarter of the exact
divergence. It also lets identical pairs fall below 0 by at most 1e-6 a class; nothing is clamped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from audiogen_cli.evaluation.metrics.base import ClipMetric, Values
from audiogen_cli.evaluation.networks.base import softmax
from audiogen_cli.evaluation.score_table import REFERENCE, SHUFFLED, ScoreTable

EPSILON = 1e-6


def kl(reference: np.ndarray, generated: np.ndarray) -> np.ndarray:
    """Compute KL(reference ‖ generated) per pair [n] from logits [n, C] and [n, C]: the default."""
    p = softmax(reference)
    return np.asarray((p * (_log_softmax(reference) - np.log(softmax(generated) + EPSILON))).sum(-1))


def kl_reverse(reference: np.ndarray, generated: np.ndarray) -> np.ndarray:
    """Compute KL(generated ‖ reference), as in Stable Audio and TangoFlux; the epsilon is on the reference."""
    return kl(generated, reference)


def kl_exact(reference: np.ndarray, generated: np.ndarray) -> np.ndarray:
    """Compute KL(reference ‖ generated) without the epsilon, as in av-benchmark."""
    return np.asarray((softmax(reference) * (_log_softmax(reference) - _log_softmax(generated))).sum(-1))


def kl_sigmoid(reference: np.ndarray, generated: np.ndarray) -> np.ndarray:
    """Compute audioldm_eval's sum over sigmoids without the (1 − p) half: not a divergence, it can be negative."""
    p, q = _sigmoid(reference), _sigmoid(generated)
    return np.asarray((p * (np.log(np.maximum(p, np.finfo(float).tiny)) - np.log(q + EPSILON))).sum(-1))


VARIANTS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "kl": kl,
    "kl_reverse": kl_reverse,
    "kl_exact": kl_exact,
    "kl_sigmoid": kl_sigmoid,
}


class KlDivergence(ClipMetric):
    """One of the variants."""

    def __init__(self, name: str, divergence: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        self.name, self.divergence = name, divergence

    def values(self, table: ScoreTable, clips: str) -> np.ndarray:
        """Compute the divergence of each pair of a reference and a clip."""
        return self.divergence(table.logits(REFERENCE), table.logits(clips))

    def baselines(self, table: ScoreTable) -> Mapping[str, Values]:
        """Compare each reference with another one, as a model that ignores its text would."""
        logits, others = table.logits(REFERENCE), table.shuffled_references()
        values = self.divergence(logits, logits[others])
        return {SHUFFLED: {self.label(table.networks): float(values.mean())} if len(others) > 1 else {}}


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    # By tanh: no overflow at either end.
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64))))
