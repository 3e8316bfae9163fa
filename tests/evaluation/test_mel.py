"""VGGish's front end and PANN's filters against plain float64 computations."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.plain import hann, triangles

from audiogen_cli.evaluation.mel import log_mel
from audiogen_cli.evaluation.networks.pann import Cnn14At32k


def htk(frequency: np.ndarray) -> np.ndarray:
    return 1127 * np.log(1 + frequency / 700)


def slaney(frequency: float) -> float:
    return frequency * 3 / 200 if frequency < 1000 else 15 + 27 * np.log(frequency / 1000) / np.log(6.4)


def test_triangles_linear_in_hz_have_area_1() -> None:
    filters = Cnn14At32k.filters()
    hertz = np.linspace(0, 16_000, 20_001)
    mel = np.array([slaney(frequency) for frequency in hertz])
    edges = np.interp(np.linspace(slaney(50), slaney(14_000), 66), mel, hertz)
    expected = triangles(np.arange(513) * 31.25, edges) * 2 / (edges[2:] - edges[:-2])
    assert filters == pytest.approx(expected, abs=2e-6)
    assert filters[:, 40].sum() * 31.25 == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("offset", "n_samples", "n_frames"), [(0.01, 16_000, 98), (0.001, 15_600, 96)])
def test_log_mel(offset: float, n_samples: int, n_frames: int) -> None:
    wav = 0.1 * np.random.default_rng(0).normal(size=n_samples).astype(np.float32)
    frames = np.stack(
        [wav[160 * i : 160 * i + 400].astype(np.float64) * hann(400, periodic=True) for i in range(n_frames)]
    )
    magnitude = np.abs(np.fft.rfft(frames, 512))
    edges = np.linspace(htk(np.float64(125)), htk(np.float64(7500)), 66)
    expected = np.log(magnitude @ triangles(htk(np.arange(257) * 16_000 / 512), edges) + offset)
    assert log_mel(wav, offset) == pytest.approx(expected, abs=2e-5)
