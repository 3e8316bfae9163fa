"""`recipes/gpu/check.py`: every section runs, tiny and on a CPU."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "recipes" / "gpu" / "check.py"


def test_every_section_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--out", str(tmp_path), "--dry"])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    lines = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    assert [line for line in lines if "failed" in line or "skipped" in line] == []
    found: dict[str, dict[str, object]] = {line["section"]: line for line in lines}
    assert [*found] == [
        "machine",
        "decoding",
        "codes",
        "gradients",
        "decode",
        "train",
        "tokenize",
        "codec_step",
        "shapes",
        "probe",
    ]
    assert min(found["decoding"]["agrees_with_cpu"]) == 1 and found["decoding"]["undecided"] == 0  # type: ignore[call-overload]
    assert min(found["codes"]["batch_agrees_with_alone"]) > 0.99  # type: ignore[call-overload]
    assert found["gradients"]["lstm_zeros"] == 0 and found["gradients"]["lstm_cosine"] > 0.95  # type: ignore[operator]
    assert len(capsys.readouterr().out.splitlines()) == len(lines)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT)])
    with pytest.raises(SystemExit):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert "there is no GPU here" in capsys.readouterr().err
