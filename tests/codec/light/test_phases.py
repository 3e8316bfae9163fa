"""First phases of a spectrum: which bins are a tone's, and how its angle runs on."""

import math

import torch

from audiogen_cli.codec.light.phases import find_peaks, tonality, tone_angles
from audiogen_cli.codec.light.spectral import STFT

N_FFT, HOP, RATE = 512, 160, 16_000
N_FRAMES = 40


def spectrum_of(wav: torch.Tensor) -> torch.Tensor:
    return STFT(N_FFT, HOP).analyze(wav[None])


def chirp(begin: float, end: float) -> torch.Tensor:
    t = torch.arange(N_FRAMES * HOP, dtype=torch.float64) / RATE
    return torch.sin(2 * math.pi * (begin * t + (end - begin) * t**2 / (2 * t[-1]))).float()


def test_a_peak_has_the_frequency_of_its_tone():
    for hertz in (300.0, 1234.5, 5000.0):
        peak, frequency = find_peaks(spectrum_of(chirp(hertz, hertz)).abs())
        near = round(hertz * N_FFT / RATE)
        assert (frequency.gather(1, peak)[0, near, 4:-4] * RATE / N_FFT - hertz).abs().max() < 1.0


def test_every_bin_has_the_nearest_peak_and_without_one_itself():
    magnitude = torch.zeros(1, 9, 2)
    magnitude[0, [2, 6], 0] = 1
    peak, frequency = find_peaks(magnitude)
    assert peak[0, :, 0].tolist() == [2, 2, 2, 2, 6, 6, 6, 6, 6]
    assert peak[0, :, 1].tolist() == [*range(9)]
    assert frequency[0, [2, 6], 0].tolist() == [2, 6]


def test_angles_are_those_of_the_sound_but_for_a_constant():
    """On a rising tone, from frame to frame; it rises by 15 Hz a frame, and the angle turns as at the frame's end."""
    spectrum = spectrum_of(chirp(900, 1500))
    angles = tone_angles(spectrum.abs(), math.tau * HOP / N_FFT, torch.zeros(1, N_FFT // 2 + 1))
    top = spectrum.abs()[0].argmax(0)
    frames = torch.arange(4, N_FRAMES - 4)
    true = (spectrum[0].angle() - math.pi * torch.arange(N_FFT // 2 + 1)[:, None])[top[frames], frames]
    ours = angles[0][top[frames], frames]
    error = torch.polar(torch.ones(len(frames)), ours - true)
    assert float((error[1:] / error[:-1]).angle().abs().max()) < math.tau * 8 * HOP / RATE + 0.1


def test_a_tone_stands_out_and_an_even_spectrum_does_not():
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn(N_FRAMES * HOP, generator=generator)
    smooth = torch.full((1, N_FFT // 2 + 1, N_FRAMES), 0.3)  # as a codec's outline of noise is
    assert tonality(smooth).max() == 0
    tone = tonality(spectrum_of(noise / 100 + chirp(1000, 1000)).abs())
    assert tone[0, 31:34, 4:-4].min() == 1


def test_angles_run_on_where_a_block_ends():
    magnitude = spectrum_of(chirp(400, 900)).abs()
    turn, zero = math.tau * HOP / N_FFT, torch.zeros(1, N_FFT // 2 + 1)
    whole = tone_angles(magnitude, turn, zero)
    begin = tone_angles(magnitude[..., :17], turn, zero)
    end = tone_angles(magnitude[..., 17:], turn, begin[..., -1])
    assert torch.equal(torch.cat([begin, end], 2), whole)
