"""On ESC-50's recordings: numbers equal an independent computation, and rows stand in the order that they must."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audiogen_cli.commands.eval import eval_
from audiogen_cli.evaluation.audio_sources import Recording
from audiogen_cli.evaluation.networks.base import AudioNetwork
from audiogen_cli.model_folder import EMBEDDED_MODEL

pytestmark = [pytest.mark.shared, pytest.mark.usefixtures("yamnet")]
CLASSES = 8


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _one_cache(cache: Path, monkeypatch: pytest.MonkeyPatch, _a_bare_machine: None) -> None:
    """Share the embeddings: all tests here use the same clips."""
    monkeypatch.setenv("AUDIOGEN_CACHE", str(cache))


@pytest.fixture
def folds(esc50: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two folders with a clip of each of 8 classes, from folds 1 and 2, named by class."""
    for fold in (1, 2):
        (tmp_path / f"fold{fold}").mkdir()
        by_class = {int(path.stem.split("-")[-1]): path for path in sorted((esc50 / "audio").glob(f"{fold}-*"))}
        for target in sorted(by_class)[:CLASSES]:
            (tmp_path / f"fold{fold}" / f"{target}{by_class[target].suffix}").symlink_to(by_class[target])
    return tmp_path / "fold1", tmp_path / "fold2"


def run(capsys: pytest.CaptureFixture[str], **options: Any) -> dict[str, Any]:
    capsys.readouterr()
    assert eval_(json_=True, **options) == 0
    results: dict[str, Any] = json.loads(capsys.readouterr().out)
    return results


def root(rows: np.ndarray) -> np.ndarray:
    """The root of the covariance of rows [n, D]."""
    centred = (rows - rows.mean(0)) / math.sqrt(len(rows) - 1)
    _, values, vectors = np.linalg.svd(centred, full_matrices=False)
    return (vectors.T * values) @ vectors


def test_fad_and_kl_equal_an_independent_computation(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, folds: tuple[Path, Path], yamnet: AudioNetwork
) -> None:
    results = run(capsys, reference=folds[0], generated=folds[1], out=tmp_path / "out")
    sides = []
    for folder in folds:
        outputs = [yamnet(Recording(path).read(), 16_000) for path in sorted(folder.iterdir())]
        embeddings = np.concatenate([output.embeddings[0] for output in outputs]).astype(np.float64)
        sides.append((embeddings, [output.window_logits[0].astype(np.float64).mean(0) for output in outputs]))
    (real, p_logits), (fake, q_logits) = sides

    # tr((Cr·Cg)^½) is the nuclear norm of Cr^½·Cg^½
    cross = np.linalg.svd(root(real) @ root(fake), compute_uv=False).sum()
    shift = real.mean(0) - fake.mean(0)
    traces = np.var(real, axis=0, ddof=1).sum() + np.var(fake, axis=0, ddof=1).sum()
    assert results["metrics"]["fad_yamnet"] == pytest.approx(shift @ shift + traces - 2 * cross, rel=1e-6)

    divergences = []
    for p_logit, q_logit in zip(p_logits, q_logits, strict=True):
        p, q = (np.exp(logit - logit.max()) / np.exp(logit - logit.max()).sum() for logit in (p_logit, q_logit))
        divergences.append(math.fsum(a * (math.log(a) - math.log(b + 1e-6)) for a, b in zip(p, q, strict=True)))
    assert results["metrics"]["kl_yamnet"] == pytest.approx(np.mean(divergences), abs=1e-4)


def test_real_codec_noise_and_silence_stand_in_that_order(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, folds: tuple[Path, Path]
) -> None:
    results = run(
        capsys,
        reference=tmp_path / "fold1" / "*",
        generated=tmp_path / "fold2" / "*",
        unpaired=True,
        model=str(EMBEDDED_MODEL),
        out=tmp_path / "out",
    )
    rows = {name: values["fad_yamnet"] for name, values in results["baselines"].items()}
    assert rows["reference"] == pytest.approx(0, abs=1e-6)
    # So few clips: another fold is nearer than the codec's copy only with 400 of them (README).
    assert 0 < results["metrics"]["fad_yamnet"] < rows["white noise"] < rows["silence"]
    assert 0 < rows["codec reconstruction"] < rows["white noise"]


def test_kl_to_itself_is_0_and_to_a_random_other_larger_than_to_one_of_its_class(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, folds: tuple[Path, Path]
) -> None:
    results = run(capsys, reference=folds[0], generated=folds[1], model=str(EMBEDDED_MODEL), out=tmp_path / "out")
    rows = {name: values.get("kl_yamnet") for name, values in results["baselines"].items()}
    assert rows["reference"] == pytest.approx(0, abs=1e-3)
    assert 0 < rows["codec reconstruction"] < results["metrics"]["kl_yamnet"] < rows["reference, shuffled"]


def test_the_same_call_gives_the_same_numbers(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    folds: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {
        "reference": folds[0],
        "generated": folds[1],
        "limit": 4,
        "metrics": "fad,kl,is",
        "out": tmp_path / "out",
    }
    first = run(capsys, **options)
    assert run(capsys, **options) == first  # from the cache
    monkeypatch.setenv("AUDIOGEN_CACHE", str(tmp_path / "another cache"))
    assert run(capsys, **options) == first
