"""Loudness against the numbers of ITU-R BS.1770-5 and EBU Tech 3341."""

import math

import numpy as np
import pytest

from audiogen_cli.data.loudness import gain_to, k_filters, loudness


def sine(level: float, seconds: float = 5.0, sample_rate: int = 48_000, frequency: float = 997.0) -> np.ndarray:
    """A sine with its peak at `level` dBFS."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    return 10 ** (level / 20) * np.sin(2 * np.pi * frequency * t)


def test_the_filters_are_those_of_the_standard_at_48_khz():
    (shelf_b, shelf_a), (high_b, high_a) = k_filters(48_000)
    assert shelf_b == pytest.approx([1.53512485958697, -2.69169618940638, 1.19839281085285], abs=1e-9)
    assert shelf_a == pytest.approx([1, -1.69065929318241, 0.73248077421585], abs=1e-9)
    assert high_b == pytest.approx([1, -2, 1])
    assert high_a == pytest.approx([1, -1.99004745483398, 0.99007225036621], abs=1e-9)


@pytest.mark.parametrize("sample_rate", [16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("level", [0.0, -20.0, -40.0])
def test_a_sine_of_997_hz_reads_3_lu_below_its_peak(level, sample_rate):
    assert loudness(sine(level, sample_rate=sample_rate), sample_rate) == pytest.approx(level - 3.01, abs=0.05)


def test_quiet_passages_do_not_count():
    """EBU Tech 3341, test 3: 10 s at -36, 60 s at -23, 10 s at -36 dBFS read as the loud middle."""
    wav = np.concatenate([sine(-36, 10, 16_000), sine(-23, 60, 16_000), sine(-36, 10, 16_000)])
    assert loudness(wav, 16_000) == pytest.approx(-23 - 3.01, abs=0.1)


def test_silence_has_no_loudness_and_is_left_alone():
    assert loudness(np.zeros(16_000), 16_000) == -math.inf
    assert loudness(np.zeros(0), 16_000) == -math.inf
    assert gain_to(-23, np.zeros(16_000), 16_000) == 1.0


def test_a_short_sound_is_one_block():
    assert loudness(sine(-20, 0.2, 16_000), 16_000) == pytest.approx(-23.01, abs=0.3)


def test_the_gain_reaches_the_target():
    wav = np.random.default_rng(0).normal(0, 0.01, 48_000)
    assert loudness(gain_to(-23, wav, 16_000) * wav, 16_000) == pytest.approx(-23, abs=1e-6)
