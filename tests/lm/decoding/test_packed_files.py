"""Weights kept in int8 or int4: the second start maps what the first one rounded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from helpers.zoo import make_model
from torch import Tensor

from audiogen_cli.lm.decoding import packed_files
from audiogen_cli.lm.decoding.engine import Engine
from audiogen_cli.lm.decoding.packed_files import load_rounded
from audiogen_cli.lm.decoding.requests import DecodingRequest
from audiogen_cli.model_folder import fingerprint, save_model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(packed_files, "KEPT_WEIGHTS", 1)
    monkeypatch.setenv("AUDIOGEN_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "model")
    return tmp_path / "model"


def write(folder: Path, **changes: object) -> None:
    model = make_model(**changes)
    save_model(folder, "lm", model.config, {name: x.half() for name, x in model.state_dict().items()}, "free")


def decode(folder: Path, dtype: str) -> Tensor:
    model = load_rounded(folder, dtype)
    request = DecodingRequest(torch.ones(2, model.config.text_width), 12, seed=0)
    return next(iter(Engine(model, dtype).generate([request])))[1]


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_a_second_start_takes_the_kept_weights(
    folder: Path, dtype: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = Engine(make_model_of(folder), dtype)
    expected = next(iter(plain.generate([DecodingRequest(torch.ones(2, 6), 12, seed=0)])))[1]
    assert torch.equal(decode(folder, dtype), expected)
    assert f"packed-{dtype}.safetensors" in capfd.readouterr().err
    monkeypatch.setattr(packed_files, "_round", None)  # it must not be called again
    assert torch.equal(decode(folder, dtype), expected)
    assert capfd.readouterr().err == ""


def make_model_of(folder: Path):
    from audiogen_cli.lm.model import AudioLanguageModel

    return AudioLanguageModel.load(folder).requires_grad_(False)


def test_other_weights_are_packed_again(folder: Path) -> None:
    decode(folder, "int8")
    before = (folder / "packed-int8.safetensors").read_bytes()
    model = make_model()
    changed = {name: -x for name, x in model.state_dict().items()}
    save_model(folder, "lm", model.config, changed, "free")
    decode(folder, "int8")
    assert (folder / "packed-int8.safetensors").read_bytes() != before


def test_a_copied_folder_keeps_its_packed_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode(folder, "int8")
    known = fingerprint(folder)
    os.utime(folder / "model.safetensors", (1, 1))
    monkeypatch.setattr(packed_files, "_round", None)
    decode(folder, "int8")
    assert fingerprint(folder) == known


def test_a_folder_that_cannot_be_written_to_is_kept_in_the_cache(folder: Path) -> None:
    (folder / "packed-int8.safetensors").mkdir()  # even root cannot write a file there
    decode(folder, "int8")
    assert len(list((folder.parent / "cache").rglob("packed-int8.safetensors"))) == 1


def test_a_linked_file_is_read(folder: Path) -> None:
    expected = decode(folder, "int8")
    kept = folder / "packed-int8.safetensors"
    kept.rename(folder.parent / "blob")
    kept.symlink_to(folder.parent / "blob")
    assert torch.equal(decode(folder, "int8"), expected)
    assert kept.is_symlink()


def test_a_damaged_or_foreign_file_is_made_again(folder: Path) -> None:
    expected = decode(folder, "int4")
    (folder / "packed-int4.safetensors").write_bytes(b"nothing")
    assert torch.equal(decode(folder, "int4"), expected)
    assert (folder / "packed-int4.safetensors").stat().st_size > 1000
