"""How much an evaluation costs beside its classifier: the line is twice the network's own time."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from audiogen_cli.commands.eval import eval_
from audiogen_cli.evaluation.networks.base import NetworkOutput
from audiogen_cli.evaluation.networks.yamnet import YamNet

CLIPS = 400


@pytest.mark.benchmark
@pytest.mark.shared
@pytest.mark.usefixtures("yamnet")
def test_400_clips_cost_less_than_twice_the_classifiers_own_time(
    esc50: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted((esc50 / "audio").iterdir())
    for folder, chosen in (("reference", files[:CLIPS]), ("generated", files[CLIPS : 2 * CLIPS])):
        (tmp_path / folder).mkdir()
        for index, path in enumerate(chosen):
            (tmp_path / folder / f"{index}{path.suffix}").symlink_to(path)
    spent = []
    classify = YamNet.classify

    def timed(self: YamNet, wav: np.ndarray) -> NetworkOutput:
        start = time.perf_counter()
        output = classify(self, wav)
        spent.append(time.perf_counter() - start)
        return output

    monkeypatch.setattr(YamNet, "classify", timed)
    options = {"reference": tmp_path / "reference", "generated": tmp_path / "generated", "out": tmp_path / "out"}
    start = time.perf_counter()
    eval_(**options)
    whole = time.perf_counter() - start
    own = sum(spent)
    start = time.perf_counter()
    eval_(**options)
    again = time.perf_counter() - start
    with capsys.disabled():
        print(
            f"\n{CLIPS} clips: {whole:.1f} s, of which the classifier {own:.1f} s; again, from the cache: {again:.1f} s"
        )
    assert whole < 2 * own
    assert again < 0.5 * whole
