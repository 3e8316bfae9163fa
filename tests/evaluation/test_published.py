"""Published rows stand beside a result only where network, split and set size are theirs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from audiogen_cli.data.datasets.registry import SOURCES
from audiogen_cli.evaluation.config import EvalConfig
from audiogen_cli.evaluation.published import (
    FAD,
    KL,
    TABLE_1,
    TABLE_2_GENERATION,
    TABLE_3,
    TABLE_5,
    published_cells,
    published_codecs,
    published_ratings,
    published_rows,
)
from audiogen_cli.evaluation.results import Findings
from audiogen_cli.evaluation.tables import rating_tables

CONFIG = EvalConfig(Path("out"), split="audiocaps-test")
OURS = Findings(n=964, n_available=964, metrics={FAD: 2.0, KL: 1.7, "near_silent": 0}, inputs={})


def test_the_papers_rows_beside_the_papers_protocol() -> None:
    rows = published_rows(CONFIG, OURS)
    assert rows["AudioGen-large (paper, Table 1)"] == {FAD: 1.82, KL: 1.69}
    assert rows["DiffSound (paper, Table 1)"] == {FAD: 7.39, KL: 2.57}
    assert rows["AudioGen-base, AudioSet + AudioCaps only (paper, sec. 4.2)"] == {FAD: 4.39, KL: 2.46}
    assert rows["AudioGen-large, 4 streams (paper, Table 2)"] == {FAD: 10.89, KL: 2.59}
    assert rows["AudioGen-large, T5-base (paper, Table 5)"] == {FAD: 2.27, KL: 1.92}
    assert rows["AudioGen-base, T5-large (paper, Table 5)"] == {FAD: 3.03, KL: 1.91}
    assert not any(name.startswith("reference") for name in rows)


@pytest.mark.parametrize(
    ("config", "findings"),
    [
        (replace(CONFIG, split="esc50-test"), OURS),
        (replace(CONFIG, limit=900), OURS),
        (replace(CONFIG, reference=Path("elsewhere")), OURS),
        (CONFIG, replace(OURS, n=500, n_available=500)),
        (CONFIG, replace(OURS, n=900, n_available=964)),
        (CONFIG, replace(OURS, metrics={"fad_yamnet": 30.0, "kl_pann_cnn14_32k": 1.5, "fad_vggish_torch": 2.0})),
    ],
    ids=["split", "limit", "reference", "small", "many skipped", "networks"],
)
def test_none_beside_another(config: EvalConfig, findings: Findings) -> None:
    assert published_rows(config, findings) == {}


def test_only_the_metrics_that_compare() -> None:
    rows = published_rows(CONFIG, replace(OURS, metrics={KL: 1.7, "fad_yamnet": 30.0}))
    assert set(rows["AudioGen-base (paper, Table 1)"]) == {KL}


def test_tables_say_one_thing() -> None:
    for size, name in (("base", "AudioGen-base"), ("large", "AudioGen-large")):
        scores = TABLE_1[name][2:]
        assert scores == TABLE_2_GENERATION[size, 1][:2] == TABLE_5[f"T5-{size}", size]
    assert sum(TABLE_3.values()) == 7026 and set(TABLE_3) == set(SOURCES) - {"esc50"}


def test_codecs_of_table_2() -> None:
    config = replace(CONFIG, task="codec")
    rows = published_codecs(config, OURS)
    assert rows["x64, 2 streams (paper, Table 2)"] == {"paper_kbps": 4.88, "si_snr": 4.5, "visqol": 3.94}
    assert published_codecs(replace(config, split="esc50-val"), OURS) == {}
    assert published_codecs(config, replace(OURS, n=100)) == {}
    assert published_codecs(replace(config, reference=Path("elsewhere")), OURS) == {}


def test_ratings_of_table_1() -> None:
    assert published_ratings("audiocaps-test", "ovl")["AudioGen-large (paper, Table 1)"] == (71.85, 1.07)
    assert published_ratings("audiocaps-test", "rel")["reference (paper, Table 1)"] == (92.97, 0.85)
    scored = {
        "mean": 70.0,
        "ci95": 1.0,
        "crowdmos_ci95": 2.0,
        "mean_before": 60.0,
        "ratings": 9,
        "raters": 5,
        "items": 3,
    }
    detail = {"systems": {"ours": scored}, "differences": {}, "published": published_ratings("audiocaps-test", "ovl")}
    beside = rating_tables(detail)[1]
    assert ["DiffSound (paper, Table 1)", "65.7", "1.58"] in beside.rows and beside.head[1:] == ["mean", "± 95% CI"]
    assert published_ratings("esc50-val", "rel") == published_ratings("audiocaps-test", "smell") == {}


def test_cells_of_table_4() -> None:
    config = replace(CONFIG, task="continuation")
    cells = published_cells(config, [FAD, f"{KL}_src", f"{KL}_rnd"], 960, 964)
    assert len(cells) == 15
    assert {"prompt_seconds": 4.0, "text": "rnd", FAD: 2.29, f"{KL}_src": 1.34, f"{KL}_rnd": 4.37} in cells
    assert published_cells(config, ["fad_yamnet", "kl_yamnet_src"], 960, 964) == []
