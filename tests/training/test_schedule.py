"""Learning rates by hand."""

import math

import pytest

from audiogen_cli.training.recipe import learning_rate


def test_the_papers_schedule():
    rate = [learning_rate(step, 5e-4, "inverse_sqrt", 3000, 200_000) for step in range(12_000)]
    assert rate[0] == pytest.approx(5e-4 / 3000)
    assert rate[1499] == pytest.approx(2.5e-4)
    assert max(rate) == rate[2999] == pytest.approx(5e-4)
    assert rate[11_999] == pytest.approx(5e-4 * math.sqrt(3000 / 12_000))


def test_cosine_ends_at_a_hundredth_and_constant_stays():
    assert learning_rate(1000, 1.0, "cosine", 100, 1000) == pytest.approx(0.01)
    assert learning_rate(550, 1.0, "cosine", 100, 1000) == pytest.approx(0.505)
    assert learning_rate(999, 1.0, "constant", 100, 1000) == 1.0
