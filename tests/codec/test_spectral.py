"""The STFT of the spectral networks: frames tile the signal, and the inverse gives it back."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiogen_cli.codec.spectral import Frames


@given(n_frames=st.integers(4, 40), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_analysis_and_synthesis_are_inverse(n_frames, seed):
    frames = Frames(640, 160)
    wav = torch.randn(2, n_frames * 160, generator=torch.Generator().manual_seed(seed))
    spectrum = frames.analyse(wav)
    assert spectrum.shape == (2, 321, n_frames)
    restored = frames.synthesise(spectrum)
    assert restored.shape == wav.shape
    # The outer half window has frames on one side only: what the missing ones held cannot come back there.
    assert torch.allclose(restored[:, 320:-320], wav[:, 320:-320], atol=1e-4)


def test_a_sine_peaks_in_its_own_bin_with_unit_norm_energy():
    frames = Frames(640, 160)
    wav = torch.sin(2 * torch.pi * 1000 * torch.arange(16_000) / 16_000)[None]
    magnitude = frames.analyse(wav).abs()[0, :, 50]
    assert magnitude.argmax() == 1000 / (16_000 / 640)
