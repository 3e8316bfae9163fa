"""The choice of networks, by name or the best whose file is here; and the names of the metrics."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.metrics.registry import GENERATION
from audiogen_cli.evaluation.networks import pann, vggish
from audiogen_cli.evaluation.networks.base import WeightSource
from audiogen_cli.evaluation.networks.registry import AUTO, Networks, load_networks

KL_AND_FAD = ("fad", "kl")


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Files of tiny networks that stand for PANN's and VGGish's."""
    cnn, vgg = pann.Cnn14((2, 3), 5), vggish.VggishNetwork(((2,), (3,)), 4, 4)
    monkeypatch.setattr(pann.Pann, "build", lambda _: pann.Cnn14((2, 3), 5))
    monkeypatch.setattr(vggish.Vggish, "build", lambda _: vggish.VggishNetwork(((2,), (3,)), 4, 4))
    torch.save({"model": cnn.state_dict()}, tmp_path / "pann.pth")
    torch.save(vgg.state_dict(), tmp_path / "vggish.pth")
    return {"pann": tmp_path / "pann.pth", "vggish-google": tmp_path / "vggish.pth"}


def load(
    metrics: tuple[str, ...] = KL_AND_FAD,
    classifier: str = AUTO,
    embedding: str | None = None,
    weights: dict[str, Path] | None = None,
) -> Networks:
    roles = {GENERATION[metric].role for metric in metrics}
    return load_networks(roles, classifier, embedding, lambda name: WeightSource((weights or {}).get(name), "cpu"))


def label(networks: Networks, metric: str) -> str:
    return GENERATION[metric].label(networks)


@pytest.mark.usefixtures("yamnet")
def test_yamnet_where_nothing_else_is() -> None:
    networks = load()
    assert networks.classifier is networks.embedding
    assert [label(networks, metric) for metric in ("fad", "kl", "kl_reverse", "is")] == [
        "fad_yamnet",
        "kl_yamnet",
        "kl_reverse_yamnet",
        "is_yamnet",
    ]
    assert [network.name for network in networks.all()] == ["yamnet"]


def test_auto_takes_the_best_that_is_here(weights: dict[str, Path]) -> None:
    networks = load(weights=weights)
    assert [label(networks, metric) for metric in KL_AND_FAD] == ["fad_vggish_google", "kl_pann_cnn14_32k"]
    networks = load(weights={"pann": weights["pann"]})
    assert label(networks, "fad") == "fd_pann_cnn14_32k"
    assert label(networks, "fad_infinity") == "fd_infinity_pann_cnn14_32k"
    assert networks.all() == [networks.classifier]


def test_a_named_classifier_is_taken_for_both_unless_an_embedding_is_named(weights: dict[str, Path]) -> None:
    networks = load(classifier="pann", weights=weights)
    assert label(networks, "fad") == "fd_pann_cnn14_32k"
    networks = load(classifier="pann", embedding="vggish-google", weights=weights)
    assert label(networks, "fad") == "fad_vggish_google"
    assert set(networks.describe()) == {"classifier", "embedding", "clap"}
    assert networks.describe()["clap"] is None


def test_only_what_the_metrics_need_is_loaded(weights: dict[str, Path]) -> None:
    assert load(("fad",), weights=weights).classifier is None
    assert load(("kl",), weights=weights).embedding is None


@pytest.mark.parametrize(("name", "file"), [("passt", "passt-s-f128-p16-s10-ap.476-swa.pt"), ("pann-16k", "Cnn14_16k")])
def test_a_named_backend_without_its_file_is_an_error(name: str, file: str) -> None:
    with pytest.raises(InputError, match=file):
        load(classifier=name)


def test_all_missing_files_are_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        load(("fad", "kl"), classifier="passt", embedding="vggish-google")
    assert all(name in str(caught.value) for name in ("passt-s-f128", "vggish", "--download"))


def test_nothing_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError

    from audiogen_cli.evaluation.networks import yamnet

    def absent(_: str) -> None:
        raise PackageNotFoundError

    monkeypatch.setattr(yamnet, "distribution", absent)
    yamnet.class_names.cache_clear()
    with pytest.raises(InputError, match=r"pip install '\.\[eval\]', or add --classifier passt --emb.*--download"):
        load()
