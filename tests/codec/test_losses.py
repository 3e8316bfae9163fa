"""Losses against float64 written from the equations."""

import numpy as np
import pytest
import torch

from audiogen_cli.codec.config import DiscriminatorConfig, LossConfig
from audiogen_cli.codec.discriminators import MultiScaleSTFTDiscriminator
from audiogen_cli.codec.losses import (
    MelLoss,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
    mel_filters,
    si_snr,
)


def reference_mel(wav: np.ndarray, window: int) -> np.ndarray:
    """Mel magnitudes in float64: reflected edges, periodic Hann, normalised by √window."""
    padded = np.pad(wav, window // 2, mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    starts = range(0, len(padded) - window + 1, window // 4)
    frames = np.stack([padded[s : s + window] * hann for s in starts], 1)
    magnitude = np.abs(np.fft.rfft(frames, axis=0)) / np.sqrt(window)
    return mel_filters(window, 64, 16_000).double().numpy() @ magnitude


def test_mel_loss_is_equation_1():
    rng = np.random.default_rng(0)
    wav, decoded = 0.1 * rng.standard_normal((2, 1, 1, 6000))
    expected = 0.0
    for i in range(5, 12):
        difference = reference_mel(decoded[0, 0], 2**i) - reference_mel(wav[0, 0], 2**i)
        expected += (np.abs(difference).mean() + np.sqrt((difference**2).mean())) / 7
    loss = MelLoss(LossConfig(), 16_000)(torch.from_numpy(wav).float(), torch.from_numpy(decoded).float())
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_mel_loss_of_silence_has_a_finite_gradient():
    decoded = torch.zeros(1, 1, 4000, requires_grad=True)
    MelLoss(LossConfig(mel_log=True), 16_000)(torch.zeros(1, 1, 4000), decoded).backward()
    assert torch.isfinite(decoded.grad).all()


@pytest.mark.parametrize("n_fft", [32, 256, 2048])
def test_every_mel_band_hears_something(n_fft):
    filters = mel_filters(n_fft, 64, 16_000)
    assert filters.shape == (64, n_fft // 2 + 1)
    assert (filters.sum(1) > 0).all()
    assert filters.max() <= 1 and filters.min() >= 0


def judgement(*logits: float):
    return [(torch.tensor([value]), [torch.full((2, 2), value)]) for value in logits]


def test_hinge_losses_by_hand():
    real, decoded = judgement(2.0, 0.5), judgement(-3.0, 0.5)
    assert float(adversarial_loss(decoded)) == pytest.approx((4.0 + 0.5) / 2)
    assert float(discriminator_loss(real, decoded)) == pytest.approx(((0 + 0) + (0.5 + 1.5)) / 2)
    assert float(feature_loss(real, decoded)) == pytest.approx((5.0 + 0.0) / 2)


def test_discriminators_have_the_papers_scales_and_shapes():
    discriminator = MultiScaleSTFTDiscriminator(DiscriminatorConfig(channels=2))
    judged = discriminator(torch.randn(2, 1, 4000))
    assert [scale.n_fft for scale in discriminator.scales] == [2048, 1024, 512, 256, 128]
    for scale, (logits, features) in zip(discriminator.scales, judged, strict=True):
        frames = 4000 // (scale.n_fft // 4) + 1
        assert logits.shape[:3] == (2, 1, frames)
        assert len(features) == 5
        assert [feature.shape[2] for feature in features] == [frames] * 5  # time is kept, frequency divided
        assert features[3].shape[3] == pytest.approx((scale.n_fft // 2 + 1) / 8, abs=1)


def test_si_snr_anchors():
    rng = np.random.default_rng(0)
    target = rng.standard_normal(8000)
    target -= target.mean()
    noise = rng.standard_normal(8000)
    noise -= noise.mean() + (noise @ target) / (target @ target) * target
    noise -= noise.mean()
    noise *= np.sqrt((target @ target) / (noise @ noise) / 10**0.5)
    wav, estimate = (torch.from_numpy(x)[None, None] for x in (target, 3 * (target + noise) + 0.2))
    assert float(si_snr(wav, estimate)) == pytest.approx(5.0, abs=0.01)
    assert torch.isnan(si_snr(torch.zeros(1, 1, 10), torch.ones(1, 1, 10))).all()
