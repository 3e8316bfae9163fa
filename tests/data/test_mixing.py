"""Mixing: what a mix measures, against a reference in float64, and that batches and padding change no bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from audiogen_cli.data.mixing import SNR_RANGE, UNMIXABLE_RMS, MixDraw, draw_mix, mix, mix_texts


def decibel(power: float) -> float:
    return float(10 * np.log10(power))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(*sounds: np.ndarray, length: int = 0, filler: float = 0.0) -> Tensor:
    """[B, 1, N]; filler: what follows the shorter sounds, which nobody may read."""
    longest = max(length, *map(len, sounds))
    rows = [np.pad(sound, (0, longest - len(sound)), constant_values=filler) for sound in sounds]
    return torch.from_numpy(np.stack(rows).astype(np.float32))[:, None]


def reference(a: np.ndarray, b: np.ndarray, draw: MixDraw) -> tuple[np.ndarray, np.ndarray]:
    """The two parts of a mix in float64, by the definition: powers over each sound's own samples."""
    first, second = np.zeros(draw.n_samples), np.zeros(draw.n_samples)
    first[: draw.n_a] = a[: draw.n_a]
    heard = b[: draw.n_samples - draw.offset].astype(np.float64)
    power_a, power_b = np.mean(first[: draw.n_a] ** 2), np.mean(heard**2)
    second[draw.offset : draw.offset + len(heard)] = heard * np.sqrt(power_a / power_b / 10 ** (draw.snr / 10))
    scale = 1 / max(1.0, np.abs(first + second).max())
    return scale * first, scale * second


@settings(max_examples=60, deadline=None)
@given(
    n_a=st.integers(1, 400),
    n_b=st.integers(1, 400),
    level=st.floats(1e-3, 1.0),
    seed=st.integers(0, 2**63),
    cut=st.booleans(),
)
def test_the_measured_snr_is_the_drawn_one(n_a: int, n_b: int, level: float, seed: int, cut: bool) -> None:
    random = np.random.default_rng(seed)
    a, b = random.uniform(-1, 1, n_a).astype(np.float32), (level * random.uniform(-1, 1, n_b)).astype(np.float32)
    limit = max(n_a, n_b) if cut else None
    draw = draw_mix(generator(seed), n_a, n_b, limit)
    # A sample or two may happen to be silence, which is left as it is.
    assume(min(np.square(a).mean(), np.square(b[: draw.n_audible]).mean()) > 4 * UNMIXABLE_RMS**2)
    mixed = mix(batch(a), batch(b), [draw])
    wav = mixed.wav[0, 0].double().numpy()
    first, second = reference(a, b, draw)
    np.testing.assert_allclose(wav, first + second, atol=2e-6)
    # what the gains say is what was mixed: taking the first sound away leaves the second
    rest = wav.copy()
    rest[:n_a] -= float(mixed.gains[0, 0]) * a
    power_a = np.mean((float(mixed.gains[0, 0]) * a) ** 2)
    power_b = np.mean(rest[draw.offset : draw.offset + draw.n_audible] ** 2)
    assert decibel(power_a / power_b) == pytest.approx(draw.snr, abs=0.1)
    assert SNR_RANGE[0] <= draw.snr <= SNR_RANGE[1]
    assert 0 <= draw.offset < n_a and draw.n_audible >= n_b // 2
    assert np.abs(wav).max() <= 1
    assert len(wav) == draw.n_samples == (limit if cut else max(n_a, draw.offset + n_b))


@pytest.mark.parametrize("quiet", ["last bit", "constant"])
def test_the_noise_of_a_silent_recording_is_not_raised(quiet: str) -> None:
    random = np.random.default_rng(0)
    sound = random.uniform(-0.3, 0.3, 1_000).astype(np.float32)
    bits = random.integers(-1, 2, 1_000) if quiet == "last bit" else np.ones(1_000)
    silent = (bits / (1 << 15)).astype(np.float32)
    draw = MixDraw(n_a=1_000, n_b=1_000, offset=0, snr=0.0, n_samples=1_000)
    for pair in ((sound, silent), (silent, sound)):
        assert mix(batch(pair[0]), batch(pair[1]), [draw]).gains.tolist() == [[1, 1]]


def test_a_row_is_the_same_alone_and_whatever_surrounds_it() -> None:
    random = np.random.default_rng(0)
    lengths = [(4_000, 900), (37, 2_500), (1, 1), (3_001, 3_000), (160_000, 80_000)]
    pairs = [[random.normal(0, 0.3, n).astype(np.float32) for n in pair] for pair in lengths]
    draws = [draw_mix(generator(seed), *pair) for seed, pair in enumerate(lengths)]
    a, b = zip(*pairs, strict=True)
    together = mix(batch(*a, length=170_000, filler=7.0), batch(*b, filler=7.0), draws)
    for row, draw in enumerate(draws):
        alone = mix(batch(a[row]), batch(b[row]), [draw])
        assert alone.wav.shape[-1] == draw.n_samples
        assert torch.equal(together.wav[row, :, : draw.n_samples], alone.wav[0])
        assert torch.equal(together.gains[row], alone.gains[0])
        assert not together.wav[row, :, draw.n_samples :].any()


def test_energy_is_the_sum_of_the_parts_and_the_first_sounds_level_stays() -> None:
    time = np.arange(16_000) / 16_000
    a, b = 0.1 * np.sin(2 * np.pi * 440 * time), 0.001 * np.sin(2 * np.pi * 880 * time)  # orthogonal
    draw = MixDraw(16_000, 16_000, 16_000, offset=0, snr=3.0)
    mixed = mix(batch(a), batch(b), [draw])
    power = float(mixed.wav.double().square().mean())
    assert mixed.gains[0, 0] == 1  # nothing clips, so the first sound is as it was
    assert decibel(power / np.mean(a**2)) == pytest.approx(decibel(1 + 10**-0.3), abs=0.01)


def test_the_second_sound_begins_at_the_offset() -> None:
    a, b = np.full(100, 0.1), np.full(50, 0.2)
    wav = mix(batch(a), batch(b), [MixDraw(100, 50, 110, offset=60, snr=0.0)]).wav[0, 0]
    torch.testing.assert_close(wav[:60], torch.full((60,), 0.1))
    torch.testing.assert_close(wav[60:100], torch.full((40,), 0.2))  # 0 dB: both at 0.1
    torch.testing.assert_close(wav[100:], torch.full((10,), 0.1))


def test_a_mix_beyond_full_scale_is_scaled_down_as_a_whole() -> None:
    a, b = np.full(100, 0.9), np.full(100, 0.5)
    mixed = mix(batch(a), batch(b), [MixDraw(100, 100, 100, offset=0, snr=-5.0)])
    assert float(mixed.wav.max()) == 1.0
    gain_a, gain_b = mixed.gains[0].tolist()
    assert decibel((gain_a * 0.9) ** 2 / (gain_b * 0.5) ** 2) == pytest.approx(-5.0, abs=1e-4)


def test_silence_is_left_as_it_is() -> None:
    sound = np.array([0.5, -0.5, 0.5, -0.5])
    faint = 1e-7 * sound
    draw = draw_mix(generator(0), 4, 4)
    for a, b in ((sound, np.zeros(4)), (np.zeros(4), sound), (np.zeros(4), np.zeros(4)), (sound, faint)):
        mixed = mix(batch(a), batch(b), [draw])
        assert mixed.gains.tolist() == [[1.0, 1.0]]
        assert float(mixed.wav.abs().max()) == pytest.approx(max(np.abs(a).max(), np.abs(b).max()), rel=1e-6)


def test_draws_are_uniform_and_reproducible() -> None:
    draws = [draw_mix(generator(seed), 1_000, 1_000, max_samples=1_000) for seed in range(400)]
    offsets, ratios = [draw.offset for draw in draws], [draw.snr for draw in draws]
    # uniform over 0..500 and -5..5: means 250 and 0 with standard errors 7.2 and 0.14
    assert np.mean(offsets) == pytest.approx(250, abs=30) and min(offsets) < 25 and max(offsets) > 475
    assert np.mean(ratios) == pytest.approx(0, abs=0.6) and min(ratios) < -4.5 and max(ratios) > 4.5
    assert draw_mix(generator(7), 1_000, 1_000, max_samples=1_000) == draws[7]


def test_what_does_not_fit_is_refused() -> None:
    wav = torch.zeros(1, 1, 10)
    fits = MixDraw(10, 10, 10, 0, 0.0)
    for a, b, draws in (
        (wav[0], wav, [fits]),
        (wav, wav[..., :9], [fits]),
        (wav, wav, [fits, fits]),
        (wav[:0], wav[:0], []),
        (wav, wav, [MixDraw(10, 10, 9, 0, 0.0)]),
    ):
        with pytest.raises(ValueError):
            mix(a, b, draws)
    with pytest.raises(ValueError, match="0 samples"):
        draw_mix(generator(0), 10, 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_mixes_the_same_bits() -> None:
    random = np.random.default_rng(1)
    a, b = batch(random.normal(0, 0.3, 5_000)), batch(random.normal(0, 0.1, 3_000))
    draws = [draw_mix(generator(1), 5_000, 3_000)]
    assert torch.equal(mix(a.cuda(), b.cuda(), draws).wav.cpu(), mix(a, b, draws).wav)


def test_captions_are_concatenated_and_none_is_lost() -> None:
    assert mix_texts(("dog bark",), ("rain", "heavy rain")) == ("dog bark rain", "dog bark heavy rain")
    assert mix_texts(("a", "b", "c"), ("x", "y")) == ("a x", "b y", "c x")
