"""KL's direction, epsilon and order, by hand-computed examples."""

from __future__ import annotations

import numpy as np
import pytest

from audiogen_cli.evaluation.metrics.intervals import bootstrap_interval
from audiogen_cli.evaluation.metrics.kl import VARIANTS, kl, kl_exact, kl_reverse, kl_sigmoid

SURE, UNSURE = np.log([[0.9, 0.1]]), np.log([[0.5, 0.5]])


def test_direction() -> None:
    assert kl(SURE, UNSURE)[0] == pytest.approx(0.3681, abs=1e-4)
    assert kl_reverse(SURE, UNSURE)[0] == pytest.approx(0.5108, abs=1e-4)
    assert kl_exact(SURE, UNSURE)[0] == pytest.approx(0.36806, abs=1e-5)


def test_identical_logits_give_nearly_0() -> None:
    logits = np.random.default_rng(0).normal(0, 5, (3, 527))
    assert np.abs(kl(logits, logits)).max() < 1e-3
    assert kl_exact(logits, logits) == pytest.approx(np.zeros(3), abs=1e-12)


def test_the_epsilon_is_on_the_second_argument_only_and_caps_its_terms() -> None:
    here, there = np.array([[200.0, 0.0]]), np.array([[0.0, 200.0]])
    assert kl(here, there)[0] == pytest.approx(-np.log(1e-6), rel=1e-6)
    assert kl_exact(here, there)[0] == pytest.approx(200)


def test_adding_a_constant_to_the_logits_changes_nothing_but_for_sigmoids() -> None:
    assert kl(SURE + 7, UNSURE - 3) == pytest.approx(kl(SURE, UNSURE))
    assert kl_sigmoid(SURE + 7, UNSURE)[0] != pytest.approx(kl_sigmoid(SURE, UNSURE)[0])


def test_sigmoid_variant_is_not_a_divergence() -> None:
    assert kl_sigmoid(np.array([[0.0]]), np.array([[0.0]]))[0] == pytest.approx(0, abs=1e-5)
    assert kl_sigmoid(np.array([[0.0]]), np.array([[4.0]]))[0] < 0


@pytest.mark.parametrize("name", VARIANTS)
def test_every_pair_stands_alone(name: str) -> None:
    generator = np.random.default_rng(0)
    p, q = generator.normal(size=(4, 9)), generator.normal(size=(4, 9))
    order = [2, 0, 3, 1]
    assert VARIANTS[name](p[order], q[order]) == pytest.approx(VARIANTS[name](p, q)[order])


def test_bootstrap_interval_holds_the_mean_narrows_with_n_and_repeats() -> None:
    values = np.random.default_rng(0).normal(3, 1, 400)
    low, high = bootstrap_interval(values, seed=1)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.2)
    assert bootstrap_interval(values, seed=1) == (low, high)
    assert bootstrap_interval(values[:1], seed=1) is None
    few_low, few_high = bootstrap_interval(values[:25], seed=1)
    assert few_high - few_low > 2 * (high - low)


def test_a_missing_file_changes_the_count_not_the_pairing() -> None:
    generator = np.random.default_rng(0)
    p, q = generator.normal(size=(4, 9)), generator.normal(size=(4, 9))
    kept = [0, 2, 3]
    assert kl(p[kept], q[kept]) == pytest.approx(kl(p, q)[kept])
