"""The whole road in small: the ESC-50 recipe from raw recordings to a sound, on a handful of clips."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from audiogen_cli.model_folder import read_license

RECIPE = Path(__file__).parents[1] / "recipes" / "esc50" / "run.sh"
CATEGORIES = {"dog": 0, "rain": 10, "sea_waves": 11}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A raw folder laid out as ESC-50: two synthetic clips of three categories, in folds 1 and 4."""
    folder = tmp_path / "raw" / "esc50"
    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    rng = np.random.default_rng(0)
    with (folder / "meta" / "esc50.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["filename", "fold", "target", "category", "esc10", "src_file", "take"])
        for fold in (1, 4):
            for number, (category, target) in enumerate(CATEGORIES.items()):
                name = f"{fold}-10{number}-A-{target}.wav"
                writer.writerow([name, fold, target, category, "True", f"10{number}", "A"])
                wav = rng.standard_normal(44_100) * np.exp(-np.arange(44_100) / 20_000) * 0.2
                soundfile.write(folder / "audio" / name, wav, 44_100)
    return folder.parent


@pytest.mark.skipif(shutil.which("bash") is None, reason="the recipe is a bash script")
def test_the_recipe_goes_from_raw_recordings_to_a_sound(raw, tmp_path):
    out = tmp_path / "out"
    environment = {**os.environ, "STEPS": "4", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", str(RECIPE), str(raw), str(out), "small"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    wav, rate = soundfile.read(out / "dog.wav")
    assert (rate, len(wav)) == (16_000, 80_000)
    assert read_license(out / "lm").startswith("CC BY-NC 4.0")
    assert (out / "lm" / "codec" / "model.safetensors").is_file()
    assert read_license(out / "lm-refined").startswith("CC BY-NC 4.0")
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert again.returncode == 0, again.stderr  # finished stages find their work done

    plain, better = (load_file(folder / "model.safetensors") for folder in (out / "codec", out / "lm" / "codec"))
    assert all(torch.equal(better[name], plain[name]) for name in plain)
    assert len(better) > len(plain)
