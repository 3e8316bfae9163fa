"""`audiogen info`: the table and the JSON object."""

from __future__ import annotations

import json
from pathlib import Path

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
