from __future__ import annotations

import operator
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.raw_trees import build_raw

from audiogen_cli.data.preparation import worker_pool as workers
from audiogen_cli.data.preparation.prep import prepare
from audiogen_cli.data.preparation.worker_pool import start_workers
from audiogen_cli.errors import InputError


@pytest.mark.parametrize("count", [1, 2])
def test_results_come_in_order_and_tasks_are_drawn_in_rounds(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ROUND", 2)
    drawn = 0

    def tasks() -> Iterator[tuple[int, int]]:
        nonlocal drawn
        for number in range(11):
            drawn += 1
            yield number, 1

    with start_workers(count=count) as pool:
        results = pool.map(operator.add, tasks())
        assert next(results) == 1
        assert drawn == 2 * count  # a list of two million tasks is never whole in memory
        assert list(results) == list(range(2, 12))


def test_ray_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'audiogen-cli\[ray\]'"), start_workers("ray"):
        pass


def test_ray_gives_the_same_manifests(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        build_raw(tmp_path / "raw", "paramount", "clotho")
        for engine in ("processes", "ray"):
            prepare(["paramount", "clotho"], tmp_path / "raw", tmp_path / engine, workers=1, engine=engine)  # type: ignore[arg-type]
    finally:
        ray.shutdown()
    for name in ("paramount.parquet", "clotho.parquet", "clotho.dropped.jsonl"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "processes" / name).read_bytes()
