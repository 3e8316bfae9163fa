"""Augmentation: recordings filled with their sound, partners to mix with."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiogen_cli.data.augment import PAUSES, PEAK, draw_partner, loop_fill
from audiogen_cli.data.loudness import find_sound

RATE = 16_000


def bark(begin, n_samples, total, level=0.05):
    wav = np.zeros(total, np.float32)
    wav[begin : begin + n_samples] = level * np.random.default_rng(0).standard_normal(n_samples)
    return wav


def test_a_short_sound_is_repeated_at_a_good_level_with_pauses_between():
    filled = loop_fill(bark(4000, 8000, 80_000), RATE, np.random.default_rng(1))
    assert filled.shape == (80_000,) and np.isclose(np.abs(filled).max(), PEAK)
    sounding = np.abs(filled.reshape(-1, 160)).max(1) > 0
    begins = np.flatnonzero(np.diff(sounding.astype(int)) == 1)
    assert len(begins) >= 3
    periods = np.diff(begins) * 160 / RATE - 0.5
    assert (periods > PAUSES[0] - 0.03).all() and (periods < PAUSES[1] + 0.03).all()


def test_what_lasts_is_only_levelled():
    wav = bark(0, 80_000, 80_000)
    filled = loop_fill(wav, RATE, np.random.default_rng(0))
    inside = slice(200, -200)  # the ends are faded
    assert np.allclose(filled[inside], wav[inside] * (PEAK / np.abs(wav).max()), atol=1e-6)


def test_silence_stays_silence():
    silence = np.zeros(4000, np.float32)
    assert np.array_equal(loop_fill(silence, RATE, np.random.default_rng(0)), silence)


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.5, 0.9])
def test_a_clip_shorter_than_the_first_pause_keeps_its_sound(seconds):
    n_samples = round(seconds * RATE)
    wav = bark(n_samples // 10, n_samples * 8 // 10, n_samples)
    for seed in range(50):
        filled = loop_fill(wav, RATE, np.random.default_rng(seed))
        assert np.abs(filled).max() == pytest.approx(PEAK, rel=1e-3)
        assert np.count_nonzero(filled) >= np.count_nonzero(wav) - 2


@given(begin=st.integers(0, 2000), n_samples=st.integers(1, 2000), extra=st.integers(0, 3000), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_the_length_stays_and_the_same_draw_gives_the_same(begin, n_samples, extra, seed):
    wav = bark(begin, n_samples, begin + n_samples + extra)
    first, second = (loop_fill(wav, RATE, np.random.default_rng(seed)) for _ in range(2))
    assert first.shape == wav.shape and first.dtype == np.float32
    assert np.array_equal(first, second) and np.isfinite(first).all() and np.abs(first).max() <= PEAK + 1e-6
    assert 0 <= np.subtract(*find_sound(wav, RATE)[::-1]) <= len(wav)


def test_a_partner_is_any_window_of_another_clip():
    generator = np.random.default_rng(0)
    drawn = [draw_partner(generator, 6, range(2, 4)) for _ in range(400)]
    counts = np.bincount(drawn, minlength=6)
    assert counts[2] == counts[3] == 0 and (abs(counts[[0, 1, 4, 5]] - 100) < 35).all()
