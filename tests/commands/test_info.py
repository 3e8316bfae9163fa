"""`audiogen info`: the table and the JSON object."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from audiogen_cli.data.audio import write_audio
from audiogen_cli.model_folder import fingerprint


def test_a_language_model_as_lines(audiogen, tiny_lm: Path) -> None:
    lines = dict(line.split("  ", 1) for line in audiogen("info", tiny_lm).stdout.splitlines())
    facts = {label.strip(): value.strip() for label, value in lines.items()}
    assert facts["kind"] == "lm"
    assert facts["fingerprint"] == fingerprint(tiny_lm)
    assert facts["codec is its own"] == "yes"
    assert facts["codec: kind"] == "codec"


def test_a_diffusion_model_names_its_decoder(audiogen, tiny_diffusion: Path) -> None:
    from audiogen_cli.lm.diffusion.network import DiffusionModel

    facts = json.loads(audiogen("info", tiny_diffusion, "--json").stdout)
    assert (facts["kind"], facts["config"]["decoder"]) == ("lm", "diffusion")
    assert facts["config"]["diffusion"] == {"schedule": "mask_uniform", "steps": 10}
    network = DiffusionModel.load(tiny_diffusion)
    assert facts["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert "diffusion" in audiogen("info", tiny_diffusion).stdout


def test_a_language_model_as_json_counts_what_torch_counts(audiogen, tiny_lm: Path) -> None:
    from audiogen_cli.lm.model import AudioLanguageModel

    facts = json.loads(audiogen("info", tiny_lm, "--json").stdout)
    network = AudioLanguageModel.load(tiny_lm)
    assert facts["parameters"] == sum(parameter.numel() for parameter in network.parameters())


def test_a_sound_that_was_cut_short_does_not_pass_for_whole(audiogen, tmp_path: Path) -> None:
    write_audio(tmp_path / "in" / "rain.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 32_000))
    (tmp_path / "in" / "rain.wav").write_bytes((tmp_path / "in" / "rain.wav").read_bytes()[:20_001])
    for command in (["info"], ["convert", "-o", "b.wav"], ["continue", "-o", "b.wav"]):
        done = audiogen(*command, "in/rain.wav")
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.splitlines()[-1] == "error: in/rain.wav: damaged or cut short: 22022 samples are missing"
    assert not (tmp_path / "b.wav").exists()
    assert json.loads(audiogen("info", "in", "--json").stdout)["unreadable"] == 1
    prepared = audiogen("prep", "--folder", "in", "--out", "manifests", "--workers", "1")
    assert prepared.returncode == 1 and "no clip is usable (1 unreadable)" in prepared.stderr
    assert "22022 samples are missing" in (tmp_path / "manifests" / "in.dropped.jsonl").read_text()
