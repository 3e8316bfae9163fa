from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiogen_cli.data.mixing import SNR_RANGE, mix, mix_texts


def decibel(power: float) -> float:
    return float(10 * np.log10(power))


@settings(max_examples=60, deadline=None)
@given(
    n_a=st.integers(1, 400),
    n_b=st.integers(1, 400),
    level=st.floats(1e-3, 1.0),
    seed=st.integers(0, 2**32),
    cut=st.booleans(),
)
def test_the_measured_snr_is_the_drawn_one(n_a: int, n_b: int, level: float, seed: int, cut: bool) -> None:
    generator = np.random.default_rng(seed)
    a, b = generator.uniform(-1, 1, n_a), level * generator.uniform(-1, 1, n_b)
    limit = max(n_a, n_b) if cut else None
    mixed = mix(a, b, np.random.default_rng(seed), max_samples=limit)
    n_heard = min(n_b, len(mixed.wav) - mixed.offset)
    first, second = np.zeros(len(mixed.wav)), np.zeros(len(mixed.wav))
    first[:n_a] = mixed.gains[0] * a
    second[mixed.offset : mixed.offset + n_heard] = mixed.gains[1] * b[:n_heard]
    np.testing.assert_allclose(mixed.wav, first + second, atol=1e-6)
    power_a, power_b = np.mean(first[:n_a] ** 2), np.mean(second[mixed.offset : mixed.offset + n_heard] ** 2)
    assert decibel(power_a / power_b) == pytest.approx(mixed.snr, abs=0.1)
    assert SNR_RANGE[0] <= mixed.snr <= SNR_RANGE[1]
    assert 0 <= mixed.offset < n_a and n_heard >= n_b // 2
    assert np.abs(mixed.wav).max() <= 1
    assert len(mixed.wav) == (limit if cut else max(n_a, mixed.offset + n_b))


def test_draws_are_uniform_and_reproducible() -> None:
    a, b = np.ones(1_000), np.ones(1_000)
    mixtures = [mix(a, b, np.random.default_rng(seed), max_samples=1_000) for seed in range(400)]
    offsets, ratios = [m.offset for m in mixtures], [m.snr for m in mixtures]
    # uniform over 0..500 and -5..5: means 250 and 0 with standard errors 7.2 and 0.14
    assert np.mean(offsets) == pytest.approx(250, abs=30) and min(offsets) < 25 and max(offsets) > 475
    assert np.mean(ratios) == pytest.approx(0, abs=0.6) and min(ratios) < -4.5 and max(ratios) > 4.5
    again = mix(a, b, np.random.default_rng(7), max_samples=1_000)
    np.testing.assert_array_equal(again.wav, mixtures[7].wav)


def test_silence_is_left_as_it_is() -> None:
    sound = np.array([0.5, -0.5, 0.5, -0.5])
    for a, b in ((sound, np.zeros(4)), (np.zeros(4), sound)):
        mixed = mix(a, b, np.random.default_rng(0))
        assert mixed.gains == (1.0, 1.0) and np.isfinite(mixed.wav).all() and np.abs(mixed.wav).max() == 0.5


def test_captions_are_concatenated_and_none_is_lost() -> None:
    assert mix_texts(("dog bark",), ("rain", "heavy rain")) == ("dog bark rain", "dog bark heavy rain")
    assert mix_texts(("a", "b", "c"), ("x", "y")) == ("a x", "b y", "c x")
