"""PaSST with tiny random weights against a plain float64 computation, and how audio is cut into chunks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.plain import gelu, hann, layer_norm, linear, power_spectrum, softmax, triangles, weights_of

from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.networks.base import WeightSource
from audiogen_cli.evaluation.networks.passt import Passt, PasstConfig, PasstNetwork, chunks

CONFIG = PasstConfig(dim=8, n_layers=2, n_heads=2, n_classes=5)


def tiny() -> PasstNetwork:
    torch.manual_seed(0)
    network = PasstNetwork(CONFIG)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return network


class TinyPasst(Passt):
    dim = CONFIG.dim

    def build(self) -> PasstNetwork:
        return tiny()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    state = {**tiny().state_dict(), "head_dist.weight": torch.zeros(5, 8), "head_dist.bias": torch.zeros(5)}
    torch.save(state, tmp_path / "passt.pt")
    return tmp_path / "passt.pt"


def expected_output(wav: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits [5] and features [8] of a chunk [N] at 32 kHz."""
    w = weights_of(tiny())
    power = power_spectrum(wav[1:] - 0.97 * wav[:-1], hann(800, periodic=False), 1024, 320)
    mel = 1127 * np.log(1 + np.arange(513) * 31.25 / 700)
    filters = triangles(mel, np.linspace(0, 1127 * np.log(1 + 15_000 / 700), 130))
    image = ((np.log(power @ filters + 1e-5) + 4.5) / 5).T  # [128, frames]
    n_times = (image.shape[1] - 16) // 10 + 1
    kernel, bias = w["patch_embed.proj.weight"][:, 0], w["patch_embed.proj.bias"]
    tokens = [w["cls_token"][0, 0] + w["new_pos_embed"][0, 0], w["dist_token"][0, 0] + w["new_pos_embed"][0, 1]]
    for band in range(12):
        for time in range(n_times):
            patch = image[10 * band : 10 * band + 16, 10 * time : 10 * time + 16]
            position = w["freq_new_pos_embed"][0, :, band, 0] + w["time_new_pos_embed"][0, :, 0, time]
            tokens.append((kernel * patch).sum((1, 2)) + bias + position)
    x = np.stack(tokens)
    for block in range(CONFIG.n_layers):
        name = f"blocks.{block}"
        q, k, v = np.split(linear(layer_norm(x, w, f"{name}.norm1", 1e-6), w, f"{name}.attn.qkv"), 3, 1)
        heads = [softmax(q[:, s] @ k[:, s].T / 2) @ v[:, s] for s in (slice(0, 4), slice(4, 8))]  # √4 = 2
        x = x + linear(np.concatenate(heads, 1), w, f"{name}.attn.proj")
        hidden = gelu(linear(layer_norm(x, w, f"{name}.norm2", 1e-6), w, f"{name}.mlp.fc1"))
        x = x + linear(hidden, w, f"{name}.mlp.fc2")
    features = layer_norm(x, w, "norm", 1e-6)[:2].mean(0)
    return linear(layer_norm(features, w, "head.0", 1e-5), w, "head.1"), features


def test_golden(checkpoint: Path) -> None:
    wav = 0.1 * np.random.default_rng(1).normal(size=20_000).astype(np.float32)
    output = TinyPasst(WeightSource(checkpoint, device="cpu"))(wav, 32_000)
    logits, features = expected_output(wav.astype(np.float64))
    assert output.logits[0] == pytest.approx(logits, abs=1e-4)
    assert output.embeddings[0, 0] == pytest.approx(features, abs=1e-4)


@pytest.mark.parametrize(
    ("seconds", "lengths"),
    [(5.0, [5.0]), (10.0, [10.0]), (10.1, [10.0]), (10.15, [10.0]), (10.2, [10.0, 0.2]), (20.0, [10.0, 10.0])],
)
def test_chunks(seconds: float, lengths: list[float]) -> None:
    assert [(end - start) / 32_000 for start, end in chunks(round(seconds * 32_000))] == pytest.approx(lengths)


def test_each_chunk_is_a_window(checkpoint: Path) -> None:
    wav = 0.1 * np.random.default_rng(1).normal(size=326_400).astype(np.float32)  # 10.2 s
    classifier = TinyPasst(WeightSource(checkpoint, device="cpu"))
    output = classifier(wav, 32_000)
    assert output.window_logits.shape == (1, 2, 5)
    assert output.window_logits[:, :1] == pytest.approx(classifier(wav[:320_000], 32_000).window_logits, abs=1e-5)


def test_the_published_network_has_the_published_size() -> None:
    with torch.device("meta"):
        network = PasstNetwork(PasstConfig())
    head_dist = 768 * 527 + 527  # in the file, and in no number
    assert sum(tensor.numel() for tensor in network.parameters()) + head_dist == 86_153_758


def test_another_networks_file_is_refused(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="holds another network's weights"):
        TinyPasst(WeightSource(tmp_path / "other.pt"))


def test_the_shortest_clip(checkpoint: Path) -> None:
    classifier = TinyPasst(WeightSource(checkpoint, device="cpu"))
    assert np.isfinite(classifier(np.zeros(5440, np.float32), 32_000).logits).all()
    with pytest.raises(ValueError, match=r"passt needs 0\.17 s"):
        classifier(np.zeros(5000, np.float32), 32_000)
