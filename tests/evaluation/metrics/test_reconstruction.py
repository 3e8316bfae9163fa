"""SI-SNR, mel distance, bitrates and code usage against values computed by hand."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.metrics import reconstruction
from audiogen_cli.evaluation.metrics.codes import Bitrate, bitrate, code_usage, count_codes
from audiogen_cli.evaluation.metrics.reconstruction import (
    Visqol,
    aligned_si_snr,
    mel_distance,
    si_snr,
    summarize_si_snr,
    visqol,
)


def clip(seed: int = 0, n: int = 4000) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).normal(size=n)


def noisy(target: np.ndarray, snr: float) -> np.ndarray:
    """target plus noise that is orthogonal to it (both zero-mean) at `snr` dB."""
    g = target - target.mean()
    noise = clip(seed=9, n=len(g))
    noise -= noise.mean()
    noise -= (noise @ g) / (g @ g) * g
    return target + noise * np.sqrt((g @ g) / (noise @ noise)) * 10 ** (-snr / 20)


@pytest.mark.parametrize("level", [1.0, 1e-2], ids=["loud", "-60 dB"])
def test_orthogonal_noise_at_5_db_gives_5(level: float) -> None:
    target = level * clip()
    assert si_snr(target, noisy(target, 5.0)) == pytest.approx(5.0, abs=1e-9)


def test_gain_and_offset_of_the_estimate_change_nothing() -> None:
    target = clip()
    estimate = noisy(target, 5.0)
    assert si_snr(target, 3 * estimate) == pytest.approx(5.0)
    assert si_snr(target, estimate + 0.2) == pytest.approx(5.0)


def test_float32_clips_score_as_float64_ones() -> None:
    target = clip() + 0.5
    estimate = noisy(target, 30.0)
    assert si_snr(target.astype(np.float32), estimate.astype(np.float32)) == pytest.approx(30.0, abs=1e-3)


def test_the_mean_leaves_out_and_counts_what_has_no_finite_value() -> None:
    target = clip()
    values = [
        si_snr(target, noisy(target, 5.0)),
        si_snr(target, noisy(target, 7.0)),
        si_snr(target, 0.5 * target),
        si_snr(np.zeros(100), clip(n=100)),
        si_snr(target, np.zeros(len(target))),
    ]
    summary = summarize_si_snr(values)
    assert summary.mean == pytest.approx(6.0)
    assert (summary.n, summary.exact, summary.silent, summary.lost) == (2, 1, 1, 1)
    assert summarize_si_snr([math.nan]).mean is None


@pytest.mark.parametrize("lag", [0, 1, 37, -5, 800])
def test_alignment_finds_the_lag_and_what_is_lost_besides(lag: int) -> None:
    long = clip(n=9000)
    target, estimate = long[900:8100], noisy(long, 12.0)[900 - lag : 8100 - lag]
    value, found = aligned_si_snr(target, estimate, 16_000)
    assert found == lag
    assert value == pytest.approx(12.0, abs=0.2)
    if lag:
        assert si_snr(target, estimate) < 0


def test_alignment_of_an_inverted_sound_or_of_silence() -> None:
    target = clip()
    assert aligned_si_snr(target, -noisy(target, 5.0), 16_000) == (pytest.approx(5.0), 0)
    assert math.isnan(aligned_si_snr(np.zeros(100), clip(n=100), 16_000)[0])
    assert aligned_si_snr(target, np.zeros(len(target)), 16_000) == (-math.inf, 0)


def test_a_lag_beyond_reach_is_not_looked_for() -> None:
    long = clip(n=9000)
    assert abs(aligned_si_snr(long[2000:8000], long[1000:7000], 16_000)[1]) <= 800


def test_visqol_anchors() -> None:
    pytest.importorskip("visqol")
    rng = np.random.default_rng(0)
    target = 0.1 * rng.standard_normal(16_000)
    assert visqol(target, target, 16_000) == pytest.approx(4.7321, abs=1e-3)
    assert visqol(target, np.zeros(16_000), 16_000) == 1.0
    assert math.isnan(visqol(np.zeros(16_000), target, 16_000))
    assert math.isnan(visqol(target[:4000], target[:4000], 16_000))


def test_visqol_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconstruction, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'audiogen-cli\[visqol\]'"):
        Visqol().check()


def test_a_folder_that_uninstalling_left_is_not_visqol(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "visqol" / "__pycache__").mkdir(parents=True)
    monkeypatch.delitem(sys.modules, "visqol", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(InputError, match="ViSQOL is not installed"):
        Visqol().check()


@pytest.mark.parametrize("n", [1024, 4000])  # a frame of what follows a clip would have the distance 0
def test_mel_distance_of_a_quieter_copy_is_its_gain(n: int) -> None:
    assert mel_distance(clip(n=n), clip(n=n), 16000) == 0
    assert mel_distance(clip(n=n), 0.5 * clip(n=n), 16000) == pytest.approx(6.02, abs=0.02)


def test_mel_distance_grows_with_noise() -> None:
    target = clip() * np.linspace(0, 1, 4000)
    distances = [mel_distance(target, noisy(target, snr), 16000) for snr in (30, 20, 10)]
    assert 0 < distances[0] < distances[1] < distances[2]


@pytest.mark.parametrize("measure", [si_snr, lambda a, b: mel_distance(a, b, 16000)], ids=["si_snr", "mel_distance"])
def test_lengths_must_agree(measure) -> None:
    with pytest.raises(ValueError, match="length"):
        measure(clip(), clip(n=3999))


@pytest.mark.parametrize(
    ("frame_rate", "n_q", "codebook_size", "nominal", "printed"),
    [(500, 1, 2048, 5.5, 5.37), (250, 2, 1024, 5.0, 4.88), (125, 4, 512, 4.5, 4.39)],
    ids=["x32", "x64", "x128"],
)
def test_bitrates_of_table_2(frame_rate: float, n_q: int, codebook_size: int, nominal: float, printed: float) -> None:
    usage = code_usage(np.ones((n_q, codebook_size)), frame_rate)
    found = Bitrate().judge_codes(bitrate(frame_rate, n_q, codebook_size), usage)
    assert found["kbps"] == nominal == pytest.approx(usage.kbps)
    assert round(found["paper_kbps"], 2) == printed


def test_uniform_codes_have_full_entropy_and_one_code_has_none() -> None:
    codes = np.stack([np.arange(64) % 16, np.full(64, 3)])
    usage = code_usage(count_codes(codes, 16), frame_rate=50)
    assert usage.entropy_bits == pytest.approx((4.0, 0.0))
    assert usage.perplexity == pytest.approx((16.0, 1.0))
    assert usage.used == (1.0, 1 / 16)
    assert usage.kbps == pytest.approx(0.2)


def test_counts_add_up_over_clips() -> None:
    first, second = np.array([[0, 1]]), np.array([[1, 1]])
    counts = count_codes(first, 4) + count_codes(second, 4)
    assert counts.tolist() == [[1, 3, 0, 0]]


def test_usage_of_no_codes_is_refused() -> None:
    with pytest.raises(ValueError, match="no codes"):
        code_usage(np.zeros((2, 8), int), 50)
