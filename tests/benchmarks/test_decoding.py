"""What the engine promises about speed (`pytest -m benchmark`): ratios within one run, on an idle machine."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from audiogen_cli.bench.decode import Setup, measure_lm

pytestmark = pytest.mark.benchmark
CPU = torch.device("cpu")


def measure(**setup: object) -> dict[str, Any]:
    return measure_lm(Setup(**{"steps": 20, **setup}), CPU)


@pytest.mark.parametrize(("dtype", "ratio"), [("float32", 3.0), ("int8", 6.0), ("int4", 8.0)])
def test_base_size_beside_musicgen(dtype: str, ratio: float) -> None:
    result = measure(dtype=dtype)
    assert result["peer_ratio"] >= ratio, result


@pytest.mark.parametrize("dtype", ["float32", "auto"])
def test_four_samples_cost_little_more_than_one(dtype: str) -> None:
    one, four = (measure(dtype=dtype, batch_size=n, peer=False) for n in (1, 4))
    assert four["tokens_per_s"] >= 3 * one["tokens_per_s"], (one, four)


def test_streams_shorten_the_way() -> None:
    """Seconds of computing per second of sound, halfway through ten seconds."""
    factors = {k: measure(streams=k, cached=2500 // k, peer=False)["real_time_factor"] for k in (1, 2, 4)}
    assert factors[1] >= 2.0 * factors[2] and factors[1] >= 4.0 * factors[4], factors


def test_a_long_past_costs_its_bytes() -> None:
    """The time that 4,900 cached frames add is that of reading their keys and values, within a factor."""
    short, long = (measure(cached=cached, peer=False) for cached in (0, 4900))
    added = 1 / long["steps_per_s"] - 1 / short["steps_per_s"]
    n_bytes = long["bytes_per_step"] - short["bytes_per_step"]
    bandwidth = max(short["bandwidth_gb_s"], long["bandwidth_gb_s"]) * 1e9
    assert added <= 3 * n_bytes / bandwidth, (short, long)
