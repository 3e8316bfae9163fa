"""Model folders: found by any of their names, refused with a reason when something is amiss."""

import json
from dataclasses import dataclass

import pytest
import torch

from audiogen_cli import model_folder
from audiogen_cli.errors import InputError


@dataclass
class Config:
    width: int


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    model_folder.save_model(path, "codec", Config(3), {"weight": torch.ones(3, 3), "bias": torch.ones(3)}, "CC0")
    return path


def test_round_trip(folder):
    assert model_folder.load_config(folder, "codec", Config) == Config(3)
    linear = torch.nn.Linear(3, 3)
    model_folder.load_into(linear, folder)
    assert torch.equal(linear.weight, torch.ones(3, 3))
    assert model_folder.read_license(folder) == "CC0"
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "LICENSE"}
    assert (folder / "model.safetensors").stat().st_mode & 0o044  # others may read it


def test_half_precision_weights_load_as_float32(tmp_path):
    weights = {"weight": torch.ones(2, dtype=torch.float16), "steps": torch.tensor([1])}
    model_folder.save_model(tmp_path, "codec", Config(2), weights, "")
    loaded = model_folder.load_weights(tmp_path)
    assert loaded["weight"].dtype == torch.float32
    assert loaded["steps"].dtype == torch.int64


def test_fingerprint_tells_weights_apart(folder, tmp_path):
    model_folder.copy_model(folder, tmp_path / "copy")
    assert model_folder.fingerprint(folder) == model_folder.fingerprint(tmp_path / "copy")
    model_folder.save_model(tmp_path / "copy", "codec", Config(3), {"weight": torch.zeros(3, 3)}, "")
    assert model_folder.fingerprint(folder) != model_folder.fingerprint(tmp_path / "copy")


def test_find_model(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIOGEN_MODEL", str(folder))
    assert model_folder.find_model() == folder
    assert model_folder.find_model(folder) == folder
    run = tmp_path / "run"
    for step in ("step-000001", "step-000020"):
        (run / "checkpoints" / step).mkdir(parents=True)
    assert model_folder.find_model(run).name == "step-000020"
    with pytest.raises(InputError, match="unknown model 'nowhere'"):
        model_folder.find_model("nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is not a model folder"):
        model_folder.find_model(tmp_path / "empty")


def test_the_shipped_model_has_a_name(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(model_folder.MODEL_VARIABLE, str(folder))
    assert model_folder.find_model("embedded") == model_folder.EMBEDDED_MODEL
    model_folder.copy_model(folder, tmp_path / "embedded")  # a folder of that name comes first
    assert model_folder.find_model("embedded").resolve() == tmp_path / "embedded"


def break_weights(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-10])


def set_document(**changes):
    def change(folder):
        document = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**document, **changes}))

    return change


@pytest.mark.parametrize(
    "damage,message",
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (break_weights, "damaged or truncated"),
        (lambda folder: (folder / "config.json").write_text("{"), "not readable as JSON"),
        (set_document(kind="lm"), "holds a lm model"),
        (set_document(format_version=99), "newer audiogen"),
        (set_document(config={"width": "wide"}), "width: "),
    ],
)
def test_what_is_amiss_is_said(folder, damage, message):
    damage(folder)
    with pytest.raises(InputError, match=message):
        model_folder.load_config(folder, "codec", Config)
        model_folder.load_into(torch.nn.Linear(3, 3), folder)


def test_weights_of_another_shape_are_refused(folder):
    with pytest.raises(InputError, match=r"does not fit its configuration: bias"):
        model_folder.load_into(torch.nn.Linear(4, 4), folder)


def test_weights_that_share_memory_are_saved(tmp_path):
    whole = torch.arange(12.0).view(3, 4)
    tensors = {"whole": whole, "tied": whole, "row": whole[1], "column": whole[:, 1], "empty": whole[:0]}
    model_folder.save_tensors(tmp_path / "shared.safetensors", tensors)
    loaded = model_folder.load_tensors(tmp_path / "shared.safetensors")
    assert all(torch.equal(loaded[name], each) for name, each in tensors.items())
