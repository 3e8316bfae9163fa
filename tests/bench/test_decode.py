"""`bench lm`: its arithmetic, on a model too small to be slow; speeds themselves depend on the machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.diffusion import make_config
from helpers.gpu import CUDA, CountOps, fake_gpu
from helpers.zoo import CONFIG, make_model

from audiogen_cli.bench import decode as benchmark
from audiogen_cli.bench.decode import Setup, measure_lm, step_bytes
from audiogen_cli.bench.timing import Timings
from audiogen_cli.errors import InputError
from audiogen_cli.lm.config import TextConfig
from audiogen_cli.lm.decoding.engine import Engine

CPU = torch.device("cpu")


def test_bytes_of_a_step() -> None:
    d, layers = CONFIG.dim, CONFIG.n_layers
    # By layer: queries, keys, values, output; cross-attention's query and output; up and down. Then the heads.
    weights = layers * (4 + 2 + 8) * d * d + d * CONFIG.n_q * CONFIG.codebook_size
    past = 2 * 2 * 3 * (16 + 100 + 16) * d * layers  # keys and values, two rows, three samples; text, frames, text
    # An output's weights in whole groups, of 128 and 64, each with a scale; in int4 with half a byte for a zero, too.
    int8 = {n_inputs: -(-n_inputs // 128) * (128 + 4) for n_inputs in (d, 4 * d)}
    int4 = {n_inputs: (n_groups := -(-n_inputs // 64)) * (32 + 4) + -(-n_groups // 2) for n_inputs in (d, 4 * d)}
    heads = CONFIG.n_q * CONFIG.codebook_size * int8[d]
    assert step_bytes(Engine(make_model(), "float32"), 3, 100) == 4 * weights + 4 * past
    for dtype, row in (("int8", int8), ("int4", int4)):
        blocks = layers * ((4 + 2 + 4) * d * row[d] + d * row[4 * d])
        assert step_bytes(Engine(make_model(), dtype), 3, 100) == blocks + heads + 4 * past


@pytest.mark.filterwarnings("error::FutureWarning")
@pytest.mark.parametrize(("cached", "peer"), [(0, True), (50, True), (50, False)])
def test_what_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cached: int, peer: bool) -> None:
    (tmp_path / "lm-tiny.yaml").write_text("model: {dim: 32, n_layers: 2, n_heads: 2}")
    monkeypatch.setattr("audiogen_cli.training.recipe.RECIPES", tmp_path)
    monkeypatch.setattr(benchmark, "PROBE_BYTES", 1 << 20)
    result = measure_lm(Setup("tiny", streams=2, batch_size=3, steps=4, repeats=2, cached=cached, peer=peer), CPU)
    assert result["tokens_per_s"] == pytest.approx(result["steps_per_s"] * 3 * 2)
    assert result["real_time_factor"] == pytest.approx(250 / 3 / result["steps_per_s"])
    assert 0 < result["floor_ratio"] <= 1
    seconds_of_bytes = result["bytes_per_step"] / (result["bandwidth_gb_s"] * 1e9)
    assert result["floor_ratio"] == pytest.approx(min(1, seconds_of_bytes * result["steps_per_s"]))
    assert (result["peer_ratio"] is not None) == peer
    assert (result["device"], result["dtype"], result["repeats"], result["cached"]) == ("cpu", "float32", 2, cached)


def test_a_models_own_shape_is_measured_in_place_of_a_size() -> None:
    result = measure_lm(Setup(steps=4, repeats=1, peer=False, shape=CONFIG), CPU)
    assert (result["size"], result["streams"]) == ("model", CONFIG.n_q)
    assert result["tokens_per_s"] == pytest.approx(result["steps_per_s"] * CONFIG.n_q)
    assert result["real_time_factor"] == pytest.approx(CONFIG.frame_rate / result["steps_per_s"])
    lookup = replace(CONFIG, text=TextConfig("lookup"), text_width=1)
    assert measure_lm(Setup(steps=4, repeats=1, peer=False, shape=lookup), CPU)["steps_per_s"] > 0
    with pytest.raises(InputError, match="--cached"):
        Setup(cached=CONFIG.max_frames, shape=CONFIG)
    # A step of the other decoder is a pass over the whole window.
    assert Setup(steps=CONFIG.max_frames + 1, shape=make_config("mask", 6)).steps == CONFIG.max_frames + 1


@pytest.mark.parametrize("wrong", [{"streams": 3}, {"size": "huge"}, {"cached": 4990}])
def test_what_cannot_be_measured_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"--{next(iter(wrong))}"):
        Setup(**wrong)


def test_a_gpus_bandwidth_is_measured_without_the_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []

    def time_in_turn(runs: Any, rounds: int, device: torch.device) -> Timings:
        with CountOps() as counting:
            runs["read"]()
        passes.append(counting.counts["aten::sum"])
        return Timings({"read": [0.5]})

    monkeypatch.setattr(benchmark, "time_in_turn", time_in_turn)
    with fake_gpu():
        assert benchmark.read_bandwidth(CUDA) == 2 * benchmark.GPU_PROBE_BYTES * benchmark.GPU_PROBES
    assert passes == [benchmark.GPU_PROBES]
