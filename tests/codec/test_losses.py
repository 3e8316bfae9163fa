"""Losses against float64 written from the equations."""

import numpy as np
import pytest
import torch
from helpers.plain import triangles

from audiogen_cli.codec.config import DiscriminatorConfig
from audiogen_cli.codec.discriminators import MultiScaleSTFTDiscriminator, STFTDiscriminator
from audiogen_cli.codec.losses import (
    MelLoss,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
    mel_spectrogram,
    time_loss,
)


def reference_mel(wav: np.ndarray, window: int) -> np.ndarray:
    """Mel magnitudes in float64: reflected edges, periodic Hann, normalised by √window."""
    padded = np.pad(wav, window // 2, mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    starts = range(0, len(padded) - window + 1, window // 4)
    frames = np.stack([padded[s : s + window] * hann for s in starts], 1)
    magnitude = np.abs(np.fft.rfft(frames, axis=0)) / np.sqrt(window)
    edges = 700 * (10 ** (np.linspace(0, np.log10(1 + 8000 / 700), 66)) - 1)
    filters = triangles(np.arange(window // 2 + 1) * 16_000 / window, edges).T
    for band, row in enumerate(filters):  # an empty band takes the nearest bin
        if not row.any():
            row[round(edges[band + 1] * window / 16_000)] = 1
    return filters @ magnitude


def test_mel_loss_is_equation_1():
    rng = np.random.default_rng(0)
    wav, decoded = 0.1 * rng.standard_normal((2, 1, 1, 6000))
    expected = 0.0
    for i in range(5, 12):
        difference = reference_mel(decoded[0, 0], 2**i) - reference_mel(wav[0, 0], 2**i)
        expected += (np.abs(difference).mean() + np.sqrt((difference**2).mean())) / 7
    loss = MelLoss(16_000)(torch.from_numpy(wav).float(), torch.from_numpy(decoded).float())
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_a_batch_in_parts_has_the_mel_loss_of_the_whole():
    rng = np.random.default_rng(0)
    levels = np.array([0.3, 0.1, 0.01, 0.001])[:, None, None]  # the L2 term of a whole batch would be the loud one's
    wav, decoded = (torch.from_numpy(levels * rng.standard_normal((4, 1, 4000))).float() for _ in range(2))
    loss = MelLoss(16_000)
    parts = 0.75 * loss(wav[:3], decoded[:3]) + 0.25 * loss(wav[3:], decoded[3:])
    assert float(loss(wav, decoded)) == pytest.approx(float(parts), rel=1e-5)


def test_mel_loss_of_silence_has_a_finite_gradient():
    decoded = torch.zeros(1, 1, 4000, requires_grad=True)
    MelLoss(16_000)(torch.zeros(1, 1, 4000), decoded).backward()
    assert torch.isfinite(decoded.grad).all()


def test_signals_keep_their_size_through_a_fresh_discriminator():
    torch.manual_seed(0)
    with torch.no_grad():
        _, features = STFTDiscriminator(512, 32)(0.1 * torch.randn(2, 1, 8000))
    sizes = [float(each.std()) for each in features]
    assert max(sizes) < 2 * min(sizes)


@pytest.mark.parametrize("n_fft", [32, 256, 2048])
def test_every_mel_band_hears_something(n_fft):
    filters = mel_spectrogram(n_fft, 16_000).mel_scale.fb
    assert filters.shape == (n_fft // 2 + 1, 64)
    assert (filters.sum(0) > 0).all()
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
        assert len(features) == 4  # sec. 3.1: one 3×8, three dilated; the last 3×3 gives the logits
        assert [feature.shape[2] for feature in features] == [frames] * 4  # time is kept, frequency divided
        assert features[3].shape[3] == pytest.approx((scale.n_fft // 2 + 1) / 8, abs=1)


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int, dilation: int) -> np.ndarray:
    """2-d convolution of padded x [I, T, F] with [O, I, 3, width]: dilated over time, strided over frequency."""
    width = weight.shape[3]
    n_frames, bands = x.shape[1] - 2 * dilation, (x.shape[2] - width) // stride + 1
    out = np.empty((len(weight), n_frames, bands))
    for t in range(n_frames):
        for f in range(bands):
            patch = x[:, t : t + 2 * dilation + 1 : dilation, f * stride : f * stride + width]
            out[:, t, f] = np.einsum("itf,oitf->o", patch, weight) + bias
    return out


def reference_judgement(scale: STFTDiscriminator, wav: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """One discriminator in float64 from the paper's description: (logits, feature maps)."""
    n_fft = scale.n_fft
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    padded = np.pad(wav, n_fft // 2, mode="reflect")
    starts = range(0, len(padded) - n_fft + 1, n_fft // 4)
    spectrum = np.stack([np.fft.rfft(padded[s : s + n_fft] * hann) for s in starts]) / np.sqrt(n_fft)
    x, features = np.stack([spectrum.real, spectrum.imag]), []
    convs = [*(layer.conv for layer in scale.layers), scale.head]
    shapes = [(1, 1), (2, 1), (2, 2), (2, 4), (1, 1)]  # stride over frequency, dilation over time
    for conv, (stride, dilation) in zip(convs, shapes, strict=True):
        direction = conv.parametrizations.weight.original1.detach().double().numpy()
        length = conv.parametrizations.weight.original0.detach().double().numpy()
        weight = length * direction / np.sqrt((direction**2).sum((1, 2, 3), keepdims=True))
        left, right = (4, 3) if weight.shape[3] == 8 else (1, 1)
        x = np.pad(x, ((0, 0), (dilation, dilation), (left, right)))
        x = convolve(x, weight, conv.bias.detach().double().numpy(), stride, dilation)
        if conv is not scale.head:
            x = np.where(x > 0, x, 0.2 * x)
            features.append(x)
    return x, features


def test_discriminators_losses_and_features_equal_float64():
    torch.manual_seed(0)
    discriminator = MultiScaleSTFTDiscriminator(DiscriminatorConfig(channels=3), windows=(64, 128))
    wavs = 0.3 * np.random.default_rng(0).standard_normal((2, 1, 1, 600))
    with torch.no_grad():
        real, decoded = (discriminator(torch.from_numpy(wav).float()) for wav in wavs)
    expected = [[reference_judgement(scale, wav[0, 0]) for scale in discriminator.scales] for wav in wavs]
    for judged, reference in zip((real, decoded), expected, strict=True):
        for (logits, maps), (true_logits, true_maps) in zip(judged, reference, strict=True):
            np.testing.assert_allclose(logits[0], true_logits, atol=1e-5)
            for ours, theirs in zip(maps, true_maps, strict=True):
                np.testing.assert_allclose(ours[0], theirs, atol=1e-5)
    pairs = list(zip(*expected, strict=True))
    hinge = np.mean([np.maximum(0, 1 - logits).mean() for logits, _ in expected[1]])
    both = np.mean([np.maximum(0, 1 - r).mean() + np.maximum(0, 1 + d).mean() for (r, _), (d, _) in pairs])
    distances = [np.abs(ours - theirs).mean() for (_, r), (_, d) in pairs for ours, theirs in zip(r, d, strict=True)]
    assert float(adversarial_loss(decoded)) == pytest.approx(hinge, abs=1e-5)
    assert float(discriminator_loss(real, decoded)) == pytest.approx(both, abs=1e-5)
    assert float(feature_loss(real, decoded)) == pytest.approx(np.mean(distances), abs=1e-5)
    assert float(time_loss(*(torch.from_numpy(wav) for wav in wavs))) == pytest.approx(np.abs(wavs[0] - wavs[1]).mean())


def test_feature_matching_teaches_the_codec_and_leaves_real_features_alone():
    real, decoded = (torch.randn(2, 2, requires_grad=True) for _ in range(2))
    feature_loss([(real, [real])], [(decoded, [decoded])]).backward()
    assert real.grad is None
    assert torch.allclose(decoded.grad, (decoded - real).sign() / 4)
