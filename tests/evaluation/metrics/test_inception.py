"""Inception score by hand-computed examples."""

from __future__ import annotations

import numpy as np
import pytest

from audiogen_cli.evaluation.metrics.inception import inception_score
from audiogen_cli.evaluation.metrics.intervals import influence_interval


def test_sure_and_varied_clips_score_the_number_of_classes() -> None:
    logits = 50 * np.tile(np.eye(4), (50, 1))
    score = inception_score(logits)
    assert score.splits == 10
    assert score.mean == pytest.approx(4, rel=0.1)  # the splits of 20 are not evenly mixed
    assert inception_score(50 * np.tile(np.eye(2), (2, 1))[[0, 1]]).mean == pytest.approx(2)


def test_clips_that_sound_alike_score_1() -> None:
    score = inception_score(np.tile([3.0, 1.0, 0.0], (40, 1)))
    assert (score.mean, score.std) == (pytest.approx(1), pytest.approx(0, abs=1e-9))


def test_two_clips_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.3, 0.7]])
    mean = p.mean(0)
    expected = np.exp(np.mean((p * np.log(p / mean)).sum(1)))
    assert inception_score(np.log(p)).mean == pytest.approx(expected)


def test_splits_are_those_of_seed_2020_and_end_where_audioldm_evals_do() -> None:
    logits = np.random.default_rng(0).normal(0, 2, (37, 5))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    scores = []
    order = np.random.RandomState(2020).permutation(37)
    for i in range(10):
        part = order[i * 37 // 10 : (i + 1) * 37 // 10]
        scores.append(np.exp((p[part] * np.log(p[part] / p[part].mean(0))).sum(1).mean()))
    score = inception_score(logits)
    assert score.mean == pytest.approx(np.mean(scores))
    assert score.std == pytest.approx(np.std(scores))


def test_the_influence_is_the_derivative_by_a_clips_weight() -> None:
    """A clip that is there twice moves the score by its influence, at first order."""
    logits = np.random.default_rng(0).normal(0, 1, (2, 5))
    logits = np.repeat(logits, 500, 0)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

    def whole(weights: np.ndarray) -> float:
        mean = weights @ p
        return float(np.exp(weights @ (p * np.log(p / mean)).sum(1)))

    weights = np.full(1000, 1e-3)
    heavier = weights.copy()
    heavier[0] += 1e-5
    derivative = (whole(heavier / heavier.sum()) - whole(weights)) / 1e-5 * 1e-3
    divergence = (p * np.log(p / p.mean(0))).sum(1)
    expected = np.exp(divergence.mean()) * (divergence - divergence.mean())[0] / 1000
    assert derivative == pytest.approx(expected, rel=2e-2)
    assert inception_score(logits).influence.sum() == pytest.approx(0, abs=1e-9)


def test_interval_of_an_influence() -> None:
    influence = np.random.default_rng(0).normal(size=400)
    low, high = influence_interval(10.0, influence / 400, 0.0) or (0, 0)
    assert (high - low) / 2 == pytest.approx(1.96 / 20, rel=0.1)
    assert influence_interval(0.01, influence, 0.0)[0] == 0.0  # type: ignore[index]
    assert influence_interval(1.0, influence[:1], 0.0) is None
