"""Adapters without their training: what belongs together, whose license holds, what a fingerprint costs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from helpers.zoo import make_adapter

from audiogen_cli import model_folder
from audiogen_cli.errors import InputError
from audiogen_cli.files import hash_file
from audiogen_cli.lm.adapters import Adapter, add_adapters, find_adapters
from audiogen_cli.lm.generation.generator import Generator
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.model_folder import UNLICENSED, explain_rights, license_line


def _make(names: Iterable[str], model: Path, license: str) -> None:
    for seed, name in enumerate(names):
        make_adapter(Path(name), model, license, seed)


def test_a_generator_takes_only_adapters_of_its_model(
    tiny_lm: Path, delayed_lm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = (make_adapter(tmp_path / each.name, each, "CC0\n") for each in (tiny_lm, delayed_lm))
    generators = [Generator.load(tiny_lm, "cpu", adapters=[each]) for each in (f"{own}=0.5", Adapter(own, 0.5))]
    assert len({each.fingerprint for each in generators}) == 1 and generators[0].adapters == (Adapter(own, 0.5),)
    assert Generator.load(tiny_lm, "cpu", adapters=[own]).adapters == (Adapter(own),)
    with pytest.raises(InputError, match="was trained on the model"):
        Generator.load(tiny_lm, "cpu", adapters=[Adapter(other)])


def test_a_strength_is_written_as_exactly_as_it_is_used(tiny_lm: Path, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a", tiny_lm, "CC0\n")
    for strength in (0.123456789, -1.0, 1e-9, 1.0):
        assert find_adapters([Adapter(folder, strength)], tiny_lm) == (Adapter(folder, strength),)
    assert [str(Adapter(Path("a"), strength)) for strength in (0.5, 2.0, -1.0, 1.0)] == ["a=0.5", "a=2", "a=-1", "a"]


def test_strengths_scale_what_is_added(tiny_lm: Path, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a", tiny_lm, "CC0\n")
    model, before = AudioLanguageModel.load(tiny_lm), AudioLanguageModel.load(tiny_lm)
    add_adapters(model, find_adapters([f"{folder}=0.5", f"{folder}=-0.5", f"{folder}=0"], tiny_lm))
    for weight, old in zip(model.parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(weight, old)


def test_what_peft_scales_apart_is_refused(tiny_lm: Path, tmp_path: Path) -> None:
    for number, pattern in enumerate((None, {}, {"heads.linear": 64})):
        folder = make_adapter(tmp_path / str(number), tiny_lm, "CC0\n", alpha_pattern=pattern)
        if not pattern:
            Generator.load(tiny_lm, "cpu", adapters=[folder])
            continue
        with pytest.raises(InputError, match=r"not a plain LoRA.*alpha_pattern"):
            Generator.load(tiny_lm, "cpu", adapters=[folder])


def test_sounds_and_merged_models_are_under_the_adapters_license_too(audiogen, tiny_lm: Path) -> None:
    _make("ab", tiny_lm, "CC BY-NC 4.0: not to be sold\nmore\n")
    call = ["generate", "rain", "--model", tiny_lm, "--duration", "0.2", "--seed", "1", "--json", "-o", "x.wav"]
    done = audiogen(*call, "--adapter", "a=0.5", "--adapter", "b")
    record = json.loads(done.stdout)
    assert record["licence"] == "CC0: for tests only; CC BY-NC 4.0: not to be sold"
    assert "forbids selling" in record["rights"] and "(CC0 and CC BY-NC 4.0)" in record["rights"]
    assert "model tiny + a=0.5 + b: " in done.stderr and "forbids selling: CC BY-NC 4.0" in done.stderr
    plain = json.loads(audiogen(*call, "--adapter", "a=0").stdout)
    assert plain["licence"] == "CC0: for tests only" and "does not forbid selling" in plain["rights"]
    audiogen("import", tiny_lm, "--adapter", "a", "--out", "merged")
    license = Path("merged/LICENSE").read_text()
    assert license_line(license) == record["licence"] and "more words" in license and "to be sold\nmore" in license


@pytest.mark.parametrize("line", [UNLICENSED, f"{UNLICENSED[:-1]}; the codec in codec/ is under CC0", " \n"])
def test_weights_that_nobody_licensed_are_under_no_license(line: str) -> None:
    rights = explain_rights(license_line(line), "mine")
    assert rights.startswith("No license is stated for the weights of mine.") and "does not forbid" not in rights


@pytest.mark.parametrize(
    ("license", "says"),
    [
        ("CC BY-NC 4.0: trained on ESC-50", "forbids selling"),
        ("CC_BY_NC 4.0", "forbids selling"),
        ("Not for commercial use", "forbids selling"),
        ("Custom: no commercial use", "forbids selling"),
        ("Creative Commons Attribution Non Commercial 4.0 International", "forbids selling"),
        ("MIT License", "does not forbid selling"),
        ("CC BY 4.0", "does not forbid selling"),
        ("CC0; Apache License 2.0", "does not forbid selling"),
        ("CC0; Model License", "Read that license"),
        ("Model License\n\nNon-commercial research use only.", "Read that license"),
        ("Mitsubishi Sound License", "Read that license"),
    ],
)
def test_only_licenses_that_are_known_to_allow_selling_are_said_to(license: str, says: str) -> None:
    assert says in explain_rights(license_line(license), "mine")


def test_an_adapter_that_nobody_licensed_leaves_no_license(audiogen, tiny_lm: Path) -> None:
    _make("a", tiny_lm, UNLICENSED)
    audiogen("import", tiny_lm, "--adapter", "a", "--out", "merged")
    line = license_line(Path("merged/LICENSE").read_text())
    assert line == f"{UNLICENSED}; CC0: for tests only" and "No license is stated" in explain_rights(line, "merged")


def test_the_weights_of_a_model_are_hashed_once(audiogen, tiny_lm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _make("ab", tiny_lm, "CC0\n")
    hashed: list[Path] = []
    monkeypatch.setattr(model_folder, "_FINGERPRINTS", {})
    monkeypatch.setattr(model_folder, "hash_file", lambda path: [hashed.append(path), hash_file(path)][1])
    call = ["generate", "rain", "--model", tiny_lm, "--duration", "0.2", "--adapter", "a", "--adapter", "b"]
    assert audiogen(*call, "--out-dir", "o").returncode == 0
    assert hashed.count(tiny_lm / "model.safetensors") == 1


def test_a_text_encoder_is_not_left_out_in_silence(audiogen, tiny_lm: Path) -> None:
    _make("a", tiny_lm, "CC0\n")
    done = audiogen("import", tiny_lm, "--adapter", "a", "--text-encoder", "t5-base", "--out", "merged")
    assert done.returncode == 2 and "--text-encoder" in done.stderr and not Path("merged").exists()


def test_a_training_says_what_an_adapter_cannot_do(
    audiogen, delayed_lm: Path, tiny_lm: Path, token_shards: Path
) -> None:
    call = ["train-lm", "--tokens", token_shards, "--codec", delayed_lm / "codec", "--max-steps", "1", "--out", "r"]
    for more, what in (
        (["--lora", "4"], "give --from MODEL"),
        (["--lora", "4", "--from", delayed_lm, "--set", "sampling.guidance=5"], "settings of sampling to generate"),
        (["--from", tiny_lm], f"its codec_fingerprint is .*; tokenize with its codec: --codec {tiny_lm}"),
    ):
        done = audiogen(*call, *more)
        assert done.returncode == 2 and re.search(what, done.stderr), done.stderr
