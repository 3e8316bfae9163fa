"""`bench lm --train`: what it reports, on a model too small to be slow; speeds themselves depend on the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.state import AcceleratorState, PartialState

from audiogen_cli.bench.train_step import measure_training, recipe_step
from audiogen_cli.lm.config import TrainConfig
from audiogen_cli.training.recipe import load_recipe


@pytest.mark.parametrize("streams", [1, 4])
def test_what_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, streams: int) -> None:
    AcceleratorState._reset_state()
    PartialState._reset_state()
    (tmp_path / "lm-tiny.yaml").write_text("model: {dim: 32, n_layers: 2, n_heads: 2}\nprecision: bf16")
    monkeypatch.setattr("audiogen_cli.training.recipe.RECIPES", tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("audiogen_cli.training.launch.has_native_bfloat16", lambda: False)
    result = measure_training("tiny", streams, batch_size=2, n_frames=20, repeats=3)
    assert result["tokens_per_s"] == pytest.approx(2 * 20 * streams / result["step_seconds"])
    assert result["peer_ratio"] == pytest.approx(result["peer_step_seconds"] / result["step_seconds"])
    assert result["mfu"] is None and result["days_on_64_gpus"] is None
    assert {"device", "threads", "repeats"} <= result.keys() and result["dtype"] == "float32"  # not the recipe's


@pytest.mark.parametrize(
    ("size", "streams", "shape"), [("base", 1, (8, 5000)), ("large", 1, (2, 5000)), ("base", 4, (8, 1250))]
)
def test_a_gpu_measures_the_recipes_own_step(size: str, streams: int, shape: tuple[int, int]) -> None:
    assert recipe_step(load_recipe(TrainConfig, f"lm-{size}"), streams) == shape
