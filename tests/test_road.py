"""The whole road in small: the ESC-50 recipe from raw recordings to a sound, on a handful of clips.

Its stages run in this process, which spares importing torch twenty times.
"""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers.scripts import list_calls
from safetensors.torch import load_file

from audiogen_cli.model_folder import read_license

RECIPE = Path(__file__).parents[1] / "recipes" / "esc50" / "run.sh"
CATEGORIES = {"dog": 0, "rain": 10, "sea_waves": 11}
SMALLER = {  # and narrower than the recipe's networks, by stage
    "train-lm": ("model.dim=32", "model.n_layers=2", "validate_samples=2", "probe_samples=8"),
    "flow.yaml": ("codec.network.flow.channels=[8,8,8]", "codec.network.flow.dim=16"),
}


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


def stages(raw: Path, out: Path) -> list[list[str]]:
    """Return the arguments of every `audiogen` that the recipe calls, made smaller."""
    found = list_calls(out.parent, RECIPE, raw, out, "small", STEPS="2")
    for call in found:
        for stage, settings in SMALLER.items():
            if any(argument.endswith(stage) for argument in call):
                call += [f"--set={setting}" for setting in settings]
        call += ["--duration", "1", "--candidates", "2"] if call[0] == "generate" else []
    return found


@pytest.mark.skipif(shutil.which("bash") is None, reason="the recipe is a bash script")
def test_the_recipe_goes_from_raw_recordings_to_a_sound(audiogen, raw, tmp_path):
    out = tmp_path / "out"
    calls = stages(raw, out)
    trainings = ["train-codec", "train-codec", "tokenize", "tokenize", "train-lm", "train-lm", "train-lm"]
    assert [call[0] for call in calls] == ["prep", *trainings, "generate", "info"]
    for call in calls:
        done = audiogen(*call)
        assert done.returncode == 0, done.stderr
    wav, rate = soundfile.read(out / "dog.wav")
    assert (rate, len(wav)) == (16_000, 16_000)
    assert read_license(out / "lm").startswith("CC BY-NC 4.0")
    assert (out / "lm" / "codec" / "model.safetensors").is_file()
    assert read_license(out / "lm-refined").startswith("CC BY-NC 4.0")
    weights = {path: path.read_bytes() for path in out.rglob("*.safetensors")}
    for call in calls[:-2]:  # finished stages find their work done
        again = audiogen(*call)
        assert again.returncode == 0, again.stderr
    assert all(path.read_bytes() == before for path, before in weights.items())

    plain, better = (load_file(folder / "model.safetensors") for folder in (out / "codec", out / "lm" / "codec"))
    assert all(torch.equal(better[name], plain[name]) for name in plain)
    assert len(better) > len(plain)
