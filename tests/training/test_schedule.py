"""Learning rates by hand; the order of samples is a permutation that needs no memory."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiogen_cli.training.schedule import SampleOrder, learning_rate


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


@given(n=st.integers(1, 50), epoch=st.integers(0, 5), seed=st.integers(0, 1000))
def test_every_epoch_sees_every_item_once_from_any_start(n, epoch, seed):
    forwards = SampleOrder(n, seed)
    seen = [forwards[i] for i in range(epoch * n, (epoch + 1) * n)]
    assert sorted(seen) == list(range(n))
    assert SampleOrder(n, seed)[epoch * n + n // 2] == seen[n // 2]


def test_epochs_and_seeds_differ():
    def first(seed: int, epoch: int) -> list[int]:
        order = SampleOrder(40, seed)
        return [order[i] for i in range(epoch * 40, epoch * 40 + 40)]

    assert first(0, 0) != first(0, 1)
    assert first(0, 0) != first(1, 0)
