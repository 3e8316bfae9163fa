"""Crops that the codec trains on."""

import numpy as np
import pytest
import soundfile
import torch

from audiogen_cli.codec.dataset import CropDataset
from audiogen_cli.data import windows
from audiogen_cli.data.audio import read_audio
from audiogen_cli.data.augment import AugmentConfig
from audiogen_cli.data.manifest import Clip

RATE = 16_000


@pytest.fixture
def write(tmp_path):
    """Writes a sound [n] and gives its clip."""

    def writing(name: str, wav: np.ndarray) -> Clip:
        soundfile.write(tmp_path / f"{name}.wav", wav.astype(np.float32), RATE, subtype="FLOAT")
        return Clip(
            id=f"x/{name}", dataset="x", split="train", path=f"{name}.wav", start=0.0, duration=len(wav) / RATE,
            sample_rate=RATE, channels=1, captions=(), tags=(), texts=(name,), license="", root=tmp_path,
        )  # fmt: skip

    return writing


def test_filled_crops_hold_sound_where_the_recording_is_silent(write):
    wav = np.zeros(5 * RATE, np.float32)
    wav[:RATE] = 0.02 * np.sin(np.arange(RATE))
    clip = write("a", wav)
    plain, filled = (CropDataset([clip], 1.5, RATE, 0, AugmentConfig(fill=fill)) for fill in (0, 1))
    levels = [[float(crops[i].wav.square().mean()) ** 0.5 for i in range(12)] for crops in (plain, filled)]
    assert min(levels[0]) < 0.005 and min(levels[1]) > 0.1
    assert all(crops[i].wav.shape == (1, round(1.5 * RATE)) for crops in (plain, filled) for i in range(3))


def test_a_filled_crop_of_a_long_clip_reads_one_window(write, monkeypatch):
    wav = np.zeros(25 * RATE, np.float32)
    wav[:RATE] = 0.1 * np.sin(np.arange(RATE) / 9)
    wav[12 * RATE : 13 * RATE] = 0.1 * np.sin(np.arange(RATE) / 5)
    crops = CropDataset([write("long", wav)], 1.5, RATE, 0, AugmentConfig(fill=1))
    lengths = []

    def read(path, rate, start, length):
        lengths.append(length)
        return read_audio(path, rate, start, length)

    monkeypatch.setattr(windows, "read_audio", read)
    assert all(crops[i].wav.shape == (1, round(1.5 * RATE)) for i in range(12))
    assert set(lengths) == {10.0}


def heard(wav: np.ndarray) -> set[int]:
    """The multiples of 100 Hz that sound in wav [N]."""
    spectrum = np.abs(np.fft.rfft(wav * np.hanning(len(wav))))
    frequencies = np.fft.rfftfreq(len(wav), 1 / RATE)[spectrum > 0.1 * spectrum.max()]
    return set(np.round(frequencies / 100).astype(int) * 100)


def test_a_share_of_the_crops_is_two_clips_mixed(write):
    t = np.arange(2 * RATE) / RATE
    clips = [write(str(hz), 0.3 * np.sin(2 * np.pi * hz * t)) for hz in (500, 1500, 2500, 3500)]
    crops = CropDataset(clips, 0.5, RATE, 0, AugmentConfig(mix=0.5))
    found = [heard(crops[i].wav[0].numpy()) for i in range(80)]
    assert {len(each) for each in found} == {1, 2}
    assert 0.4 < np.mean([len(each) == 2 for each in found]) < 0.6  # a partner is always another clip
    assert torch.equal(crops[7].wav, CropDataset(clips, 0.5, RATE, 0, AugmentConfig(mix=0.5))[7].wav)
    assert all(len(heard(CropDataset(clips, 0.5, RATE, seed=0)[i].wav[0].numpy())) == 1 for i in range(20))


@pytest.mark.parametrize("filled", [False, True])
def test_varied_crops_are_slower_and_faster(write, filled):
    clip = write("tone", 0.3 * np.sin(2 * np.pi * 1000 * np.arange(2 * RATE) / RATE))
    crops = CropDataset([clip], 0.8, RATE, 0, AugmentConfig(fill=float(filled), vary=0.1))
    peaks = []
    for i in range(30):
        wav = crops[i].wav[0].numpy()
        assert wav.shape == (round(0.8 * RATE),)
        peaks.append(np.abs(np.fft.rfft(wav * np.hanning(len(wav)))).argmax() / 0.8)
    assert 895 <= min(peaks) < 950 and 1050 < max(peaks) <= 1105
