"""`audiogen info`: the table and the JSON object."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from audiogen_cli.commands.info import info
from audiogen_cli.model_folder import fingerprint


def test_a_language_model_as_lines(tiny_lm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info(tiny_lm)
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    facts = {label.strip(): value.strip() for label, value in lines.items()}
    assert facts["kind"] == "lm"
    assert facts["fingerprint"] == fingerprint(tiny_lm)
    assert facts["codec is its own"] == "yes"
    assert facts["codec: kind"] == "codec"


def test_a_language_model_as_json_counts_what_torch_counts(tiny_lm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from audiogen_cli.lm.model import AudioLanguageModel

    info(tiny_lm, json_=True)
    facts = json.loads(capsys.readouterr().out)
    network = AudioLanguageModel.load(tiny_lm)
    assert facts["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    words = facts["parameters_text_encoder"]
    assert words % network.config.text_width == 0 and words > 1_000_000
    assert facts["parameters_with_text_encoder"] == facts["parameters"] + words


def test_audio_needs_no_torch(audiogen_process, tmp_path: Path) -> None:
    import numpy as np
    import soundfile

    soundfile.write(tmp_path / "a.wav", np.zeros(1_600), 16_000)
    result = audiogen_process("info", "a.wav", python=("-X", "importtime"))
    assert result.returncode == 0
    assert "near silent      yes" in result.stdout
    assert not any(line.endswith(" torch") for line in result.stderr.splitlines())
