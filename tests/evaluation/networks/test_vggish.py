"""VGGish with tiny random weights against a plain float64 computation; the windows and levels of its two variants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.plain import conv2d, linear, pool, weights_of

from audiogen_cli.evaluation.mel import log_mel
from audiogen_cli.evaluation.networks.base import WeightSource
from audiogen_cli.evaluation.networks.vggish import (
    VggishGoogle,
    VggishNetwork,
    VggishTorch,
    normalize_peak,
)


def tiny() -> VggishNetwork:
    torch.manual_seed(0)
    return VggishNetwork(((2,), (3, 3)), width=6, dim=4)


class TinyGoogle(VggishGoogle):
    dim = 4

    def build(self) -> VggishNetwork:
        return tiny()


class TinyTorch(VggishTorch):
    dim = 4

    def build(self) -> VggishNetwork:
        return tiny()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.save(tiny().state_dict(), tmp_path / "vggish.pth")
    return tmp_path / "vggish.pth"


def expected_embedding(patch: np.ndarray) -> np.ndarray:
    w = weights_of(tiny())
    x = patch[None]
    for layer, pooled in ((0, True), (3, False), (5, True)):
        x = np.maximum(conv2d(x, w[f"features.{layer}.weight"], w[f"features.{layer}.bias"]), 0)
        x = pool(x, "max") if pooled else x
    x = x.transpose(1, 2, 0).ravel()
    for layer in (0, 2):
        x = np.maximum(linear(x, w, f"embeddings.{layer}"), 0)
    return linear(x, w, "embeddings.4")


def sound(seconds: float) -> np.ndarray:
    return (0.1 * np.random.default_rng(1).normal(size=round(seconds * 16_000))).astype(np.float32)


def test_golden_of_the_torch_variant(checkpoint: Path) -> None:
    wav = sound(2.0)
    output = TinyTorch(WeightSource(checkpoint, device="cpu"))(wav, 16_000)
    expected = [expected_embedding(log_mel(wav, 0.01)[start : start + 96].astype(np.float64)) for start in (0, 96)]
    assert output.embeddings[0] == pytest.approx(np.stack(expected), abs=1e-4)
    assert output.window_logits.shape == (1, 2, 0)


def test_golden_of_the_google_variant(checkpoint: Path) -> None:
    wav = sound(1.6)
    scaled = np.rint(wav * 10 ** (-1 / 20) / np.abs(wav).max() * 32768)
    scaled = (scaled / scaled.max()).astype(np.float32)
    expected = [expected_embedding(log_mel(scaled[s : s + 16_000], 0.01)[:96].astype(np.float64)) for s in (0, 8000)]
    output = TinyGoogle(WeightSource(checkpoint, device="cpu"))(wav, 16_000)
    assert output.embeddings[0] == pytest.approx(np.stack(expected), abs=1e-4)


@pytest.mark.parametrize(
    ("seconds", "google", "torch_"), [(10.0, 19, 10), (5.0, 9, 5), (1.0, 1, 1), (1.49, 1, 1), (1.5, 2, 1)]
)
def test_windows(seconds: float, google: int, torch_: int) -> None:
    assert VggishGoogle.patches(sound(seconds)).shape == (google, 96, 64)
    assert VggishTorch.patches(sound(seconds)).shape == (torch_, 96, 64)


@pytest.mark.parametrize("variant", [TinyGoogle, TinyTorch])
def test_less_than_a_window_is_refused(checkpoint: Path, variant: type[TinyGoogle]) -> None:
    with pytest.raises(ValueError, match=variant.name):
        variant(WeightSource(checkpoint, device="cpu"))(sound(0.9), 16_000)


def test_the_google_variant_is_blind_to_loudness_the_other_is_not() -> None:
    assert VggishGoogle.patches(0.1 * sound(1)) == pytest.approx(VggishGoogle.patches(sound(1)), abs=0.02)
    assert np.abs(VggishTorch.patches(0.1 * sound(1)) - VggishTorch.patches(sound(1))).max() > 1


def test_the_level_is_set_by_the_largest_positive_sample() -> None:
    wav = np.array([0.25, -0.5, 0.1], np.float32)
    assert normalize_peak(wav) == pytest.approx([1, -2, 0.4], abs=1e-3)
    assert not normalize_peak(np.zeros(3, np.float32)).any()


def test_the_published_network_has_the_published_size() -> None:
    with torch.device("meta"):
        network = VggishNetwork()
    assert sum(tensor.numel() for tensor in network.parameters()) == pytest.approx(72.1e6, rel=1e-3)
    assert {VggishGoogle.name, VggishTorch.name} == {"vggish_google", "vggish_torch"}
