"""The wrong partner of every clip: never itself, always the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiogen_cli.evaluation.shuffling import derangement


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 60), seed=st.integers(0, 5))
def test_no_clip_is_its_own_partner_and_each_is_one_once(n: int, seed: int) -> None:
    others = derangement([f"set/{i}" for i in range(n)], seed)
    assert not (others == np.arange(n)).any()
    assert sorted(others) == list(range(n))


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 8), min_size=2, max_size=6), seed=st.integers(0, 3))
def test_partners_have_another_text_where_that_is_possible(sizes: list[int], seed: int) -> None:
    texts = [f"text {group}" for group, size in enumerate(sizes) for _ in range(size)]
    others = derangement([f"set/{i}" for i in range(len(texts))], seed, texts)
    assert not (others == np.arange(len(texts))).any()
    if 2 * max(sizes) <= len(texts):
        assert all(texts[i] != texts[j] for i, j in enumerate(others))


def test_it_depends_on_ids_and_seed_alone() -> None:
    ids = [f"set/{i}" for i in range(20)]
    partners = {ids[i]: ids[j] for i, j in enumerate(derangement(ids, 0))}
    order = np.random.default_rng(0).permutation(20)
    shuffled = [ids[i] for i in order]
    assert {shuffled[i]: shuffled[j] for i, j in enumerate(derangement(shuffled, 0))} == partners
    assert {ids[i]: ids[j] for i, j in enumerate(derangement(ids, 1))} != partners


def test_partners_look_random() -> None:
    others = derangement([f"set/{i}" for i in range(300)], 0)
    assert abs(np.corrcoef(np.arange(300), others)[0, 1]) < 0.2


@pytest.mark.parametrize("n", [0, 1])
def test_one_clip_has_no_other(n: int) -> None:
    assert derangement(["a"] * n, 0).tolist() == list(range(n))
