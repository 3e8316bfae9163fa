"""Loudness against the numbers of ITU-R BS.1770-5 and EBU Tech 3341."""

import math

import numpy as np
import pytest
import scipy.signal

from audiogen_cli.data.loudness import AudioStats, block_powers, gain_to, k_filters, k_weighted_parts, loudness, measure


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


@pytest.mark.parametrize(("n_samples", "sample_rate"), [(1, 16_000), (700_000, 16_000), (50_000, 44_100)])
def test_the_filters_work_as_scipys_do(n_samples, sample_rate):
    wav = np.random.default_rng(0).normal(0.3, 0.3, n_samples)
    expected = wav
    for b, a in k_filters(sample_rate):
        expected = scipy.signal.lfilter(b, a, expected)
    assert np.abs(np.concatenate([*k_weighted_parts(wav, sample_rate)]) - expected).max() < 1e-9


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


@pytest.mark.parametrize("sample_rate", [11_025, 16_000, 192_000])
def test_blocks_have_the_power_of_the_filtered_whole(sample_rate):
    wav = np.random.default_rng(0).normal(0, 0.1, (900_001, 2))
    expected = 0.0
    for channel in wav.T:
        for b, a in k_filters(sample_rate):
            channel = scipy.signal.lfilter(b, a, channel)
        block, step = round(0.4 * sample_rate), round(0.1 * sample_rate)
        expected += np.array([np.mean(channel[i : i + block] ** 2) for i in range(0, len(wav) - block + 1, step)])
    np.testing.assert_allclose(block_powers(wav, sample_rate), expected, rtol=1e-9)


def test_a_short_sound_is_one_block():
    assert loudness(sine(-20, 0.2, 16_000), 16_000) == pytest.approx(-23.01, abs=0.3)


def test_the_gain_reaches_the_target():
    wav = np.random.default_rng(0).normal(0, 0.01, 48_000)
    assert loudness(gain_to(-23, wav, 16_000) * wav, 16_000) == pytest.approx(-23, abs=1e-6)


def test_measure_of_a_known_wave() -> None:
    stats = measure(np.array([0.5, -0.5, 1.0, -1.0], np.float32))
    assert stats.peak == 1.0 and stats.clipped_samples == 2 and not stats.near_silent
    assert stats.rms == pytest.approx(np.sqrt(2.5 / 4))


@pytest.mark.parametrize("n_samples", [1, 999, 1_600, 1_601, 5_000])
def test_measuring_block_by_block_changes_nothing(monkeypatch: pytest.MonkeyPatch, n_samples: int) -> None:
    wav = np.zeros(n_samples, np.float32)
    wav[n_samples // 3 :][:1_500] = np.random.default_rng(0).uniform(-1e-2, 1e-2, len(wav[n_samples // 3 :][:1_500]))
    whole = measure(wav)
    monkeypatch.setattr("audiogen_cli.data.loudness._MEASURED_BLOCK", 700)
    for height in (1e-3, 0.1, 0.3, 1.0, 100.0):
        pieces, at_once = measure(height * wav), AudioStats(height * whole.peak, height * whole.rms, 0, False)
        assert (pieces.peak, pieces.rms) == pytest.approx((at_once.peak, at_once.rms))
        monkeypatch.setattr("audiogen_cli.data.loudness._MEASURED_BLOCK", 1 << 20)
        assert measure(height * wav).near_silent == pieces.near_silent
        monkeypatch.setattr("audiogen_cli.data.loudness._MEASURED_BLOCK", 700)


def test_near_silence_is_judged_by_the_loudest_moment() -> None:
    click = np.zeros(80_000, np.float32)
    click[40_000:40_020] = 0.3
    assert not measure(click).near_silent
    assert measure(np.zeros(80_000)).near_silent and measure(np.zeros(0)).near_silent
    assert measure(np.full(16_000, 0.9e-3)).near_silent
    assert not measure(np.full(16_000, 1.1e-3)).near_silent
