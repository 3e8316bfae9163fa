"""The spectral networks: their STFT, their start from principal components, and the sound they make."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._device import _device_constructors

from audiogen_cli.codec.config import CodecConfig, SpectralConfig
from audiogen_cli.codec.light.spectral import (
    CEILING,
    KNEE,
    STFT,
    LogMel,
    WhiteNoise,
    init_from_pca,
    interpolation_matrix,
    mel_bands,
    soft_limit,
)
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.lm.config import TextConfig
from audiogen_cli.lm.text.encoders import load_text_encoder

CONFIG = SpectralConfig(n_fft=640, frames_per_code=4, noise_power=0.0)
RATE = 16_000


@given(n_frames=st.integers(4, 40), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_analysis_and_synthesis_are_inverse(n_frames, seed):
    frames = STFT(640, 160)
    wav = torch.randn(2, n_frames * 160, generator=torch.Generator().manual_seed(seed))
    spectrum = frames.analyze(wav)
    assert spectrum.shape == (2, 321, n_frames)
    restored = frames.synthesize(spectrum)
    assert restored.shape == wav.shape
    # The outer half window has frames on one side only: what the missing ones held cannot come back there.
    assert torch.allclose(restored[:, 320:-320], wav[:, 320:-320], atol=1e-4)


def test_a_sine_peaks_in_its_own_bin():
    frames = STFT(640, 160)
    wav = torch.sin(2 * torch.pi * 1000 * torch.arange(RATE) / RATE)[None]
    assert frames.analyze(wav).abs()[0, :, 50].argmax() == 1000 / (RATE / 640)


@given(n_mels=st.integers(2, 120), half=st.sampled_from([64, 256, 320, 512]), rate=st.sampled_from([8000, 16_000]))
@settings(max_examples=30, deadline=None)
def test_mel_bands_average_and_ascend(n_mels, half, rate):
    bands, centers = mel_bands(n_mels, half + 1, rate)
    assert bands.shape == (n_mels, half + 1) and (bands >= 0).all()
    assert torch.allclose(bands.sum(1), torch.ones(n_mels))  # a flat spectrum stays as loud as it is
    assert (centers.diff() >= 0).all() and centers[0] >= 0 and centers[-1] <= half
    weights = interpolation_matrix(centers, half + 1)
    assert torch.allclose(weights.sum(1), torch.ones(half + 1))
    # what is linear over the bins comes back between the outer centers
    inside = (torch.arange(half + 1) >= centers[0]) & (torch.arange(half + 1) <= centers[-1])
    assert torch.allclose((weights @ centers)[inside], torch.arange(half + 1.0)[inside], atol=0.51)


def make_log_mel(noise_power: float = 0.0) -> LogMel:
    return LogMel(replace(CONFIG, noise_power=noise_power), RATE)


@pytest.mark.parametrize("noise_power", [0.0, 1.0])
def test_noise_comes_back_as_noise_of_the_same_color_and_level(noise_power):
    generator = torch.Generator().manual_seed(1)
    wav = 0.1 * torch.randn(1, 1, RATE, generator=generator)
    wav[..., RATE // 2 :] *= 0.1
    loudness = make_log_mel(noise_power)
    back = loudness.to_wav(loudness(wav), WhiteNoise().draw(RATE))[0]
    for part in (slice(1000, 7000), slice(9000, 15_000)):
        assert 0.7 < float(back[..., part].std() / wav[..., part].std()) < 1.5


@pytest.mark.parametrize("hertz", [220.0, 440.0, 1003.7])
def test_a_tone_comes_back_as_a_tone(hertz):
    wav = 0.3 * torch.sin(2 * torch.pi * hertz * torch.arange(RATE) / RATE)[None, None]
    loudness = make_log_mel(noise_power=0.5)
    back = loudness.to_wav(loudness(wav), WhiteNoise().draw(RATE))[0][0, 0, 3000:13_000]
    power = torch.fft.rfft(back * torch.hann_window(len(back))).abs().square()
    bins = torch.arange(len(power)) * RATE / len(back)
    assert abs(float(bins[power.argmax()]) - hertz) < 15
    assert float(power[(bins - hertz).abs() < 30].sum() / power.sum()) > 0.9


def test_the_iteration_of_griffin_and_lim_brings_the_spectrum_nearer_to_the_magnitudes(monkeypatch):
    t = torch.arange(RATE) / RATE
    wav = 0.3 * torch.sin(2 * torch.pi * (300 * t + 400 * t**2))[None, None]
    loudness, spectra, synthesize = make_log_mel(), [], STFT.synthesize
    monkeypatch.setattr(
        STFT, "synthesize", lambda self, spectrum: synthesize(self, spectra.append(spectrum) or spectrum)
    )
    wanted = loudness(wav)
    loudness.to_wav(wanted, WhiteNoise().draw(RATE))

    def error(spectrum: torch.Tensor) -> float:
        return float((loudness(synthesize(loudness.stft, spectrum)[:, None]) - wanted).square().mean())

    before, after = spectra
    assert error(before) > error(after)


def test_noise_power_is_how_much_an_even_sound_wavers():
    steady = torch.full((1, RATE // CONFIG.hop_length, CONFIG.frames_per_code * CONFIG.n_mels), -2.0)

    def wavering(noise_power: float) -> float:
        loudness = make_log_mel(noise_power)
        heard = loudness(loudness.to_wav(steady, WhiteNoise().draw(RATE))[0])
        return float(heard.unflatten(2, (CONFIG.frames_per_code, -1))[0, 2:-2].std(0).mean())

    assert wavering(0.0) < wavering(0.5) < wavering(1.0)


def test_silence_stays_silent():
    loudness = make_log_mel()
    assert float(loudness.to_wav(loudness(torch.zeros(1, 1, 3200)), WhiteNoise().draw(3200))[0].abs().max()) < 1e-4


def test_the_limiter_is_smooth_monotonic_and_spares_what_is_below_its_knee():
    wav = torch.linspace(-4, 4, 20_001, dtype=torch.float64)
    limited = soft_limit(wav)
    assert torch.equal(limited[wav.abs() <= KNEE], wav[wav.abs() <= KNEE])
    assert float(limited.abs().max()) <= CEILING
    steps = limited.diff() / wav.diff()
    assert steps.min() >= 0 and steps.max() <= 1 + 1e-9
    assert steps.diff().abs().max() < 1e-2  # no corner at the knee


def test_starts_from_principal_components():
    torch.manual_seed(0)
    codec = AudioCodec(CodecConfig(network=CONFIG, latent_dim=6, codebook_size=8)).eval()
    batches = [torch.randn(2, 1, 6400) * 10.0 ** -(i % 4) for i in range(6)]
    encoder, decoder = codec.encoder, codec.decoder
    init_from_pca(encoder, decoder, batches)
    with torch.no_grad():
        patches = torch.cat([encoder.log_mel(wav).flatten(0, 1) for wav in batches]).double().numpy()
        decoded = torch.cat([decoder.outline(encoder(wav)).flatten(0, 1) for wav in batches]).double().numpy()
    _, values, _ = np.linalg.svd(patches - patches.mean(0), full_matrices=False)
    assert np.isclose(((patches - decoded) ** 2).sum(), (values[6:] ** 2).sum(), rtol=1e-3)


def test_decoding_does_not_depend_on_the_batch():
    torch.manual_seed(0)
    codec = AudioCodec(CodecConfig(network=CONFIG, latent_dim=6, n_q=2, codebook_size=8)).eval()
    codes = torch.randint(8, (3, 2, 10))
    with torch.no_grad():
        assert torch.allclose(codec.decode(codes)[1], codec.decode(codes[1:2])[0], atol=1e-5)


def test_training_leaves_the_encoder_at_its_principal_components():
    codec = AudioCodec(CodecConfig(network=CONFIG, latent_dim=6, codebook_size=8))
    wav = torch.randn(2, 1, 6400)
    init_from_pca(codec.encoder, codec.decoder, [wav])
    codec.decoder.loss(codec.encoder(wav), wav).backward()
    assert all(parameter.grad is None for parameter in codec.encoder.parameters())
    assert codec.decoder.expand.weight.grad.abs().sum() > 0


def test_it_loads_after_transformers_has_loaded_a_model(tiny_t5: Path, light_codec: Path) -> None:
    """Load T5 first: transformers changes torch.linspace meanwhile, which torch.device("meta") then misses for good."""
    _device_constructors.cache_clear()
    try:
        load_text_encoder(TextConfig("t5", str(tiny_t5)))
        AudioCodec.load(light_codec)
    finally:
        _device_constructors.cache_clear()
