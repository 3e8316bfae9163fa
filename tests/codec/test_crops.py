"""Crops that the codec trains on."""

import numpy as np
import soundfile

from audiogen_cli.codec.crops import CropDataset
from audiogen_cli.data.manifest import Clip

RATE = 16_000


def test_filled_crops_hold_sound_where_the_recording_is_silent(tmp_path):
    wav = np.zeros(5 * RATE, np.float32)
    wav[:RATE] = 0.02 * np.sin(np.arange(RATE))
    soundfile.write(tmp_path / "a.wav", wav, RATE)
    clip = Clip(
        id="x/a", dataset="x", split="train", path="a.wav", start=0.0, duration=5.0, sample_rate=RATE, channels=1,
        captions=(), tags=(), texts=("a",), license="", root=tmp_path,
    )  # fmt: skip
    plain, filled = (CropDataset([clip], 1.5, RATE, seed=0, filled=filled) for filled in (False, True))
    levels = [[float(crops[i].square().mean()) ** 0.5 for i in range(12)] for crops in (plain, filled)]
    assert min(levels[0]) < 0.005 and min(levels[1]) > 0.1
    assert all(crops[i].shape == (1, round(1.5 * RATE)) for crops in (plain, filled) for i in range(3))
