"""The probe: what it reads, that its regression is the one in the books, and how it scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.zoo import make_model, make_probe
from torch.nn import functional as F

from audiogen_cli.errors import InputError
from audiogen_cli.lm.probe import Probe, features, read_blocks, text_vector
from audiogen_cli.lm.training.probe import RIDGE, regress
from audiogen_cli.model_folder import PROBE_FILE


def draw_codes(n_rows: int, n_frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(17, (n_rows, 3, n_frames), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("n_layers", "blocks"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (6, [1, 3, 5]), (24, [7, 15, 23])]
)
def test_blocks_are_spread_over_the_model(n_layers: int, blocks: list[int]) -> None:
    assert read_blocks(n_layers) == blocks


@pytest.mark.parametrize("changes", [{}, {"text_prefix": False}, {"pattern": "parallel"}, {"cross_attention": False}])
@torch.no_grad()
def test_the_last_state_is_what_the_heads_read(changes: dict[str, object]) -> None:
    model, codes = make_model(**changes), draw_codes(2, 9)
    (state,), held = model.hidden_states(codes, [model.config.n_layers - 1])
    logits = model.heads(model.norm(state))
    nothing = torch.zeros(2, 1, model.config.text_width)
    expected = model(codes, nothing, torch.zeros(2, 1, dtype=torch.bool)).logits
    for stream, late in enumerate(model.config.stream_delays):
        torch.testing.assert_close(logits[:, stream, late : late + 9], expected[:, stream], atol=1e-5, rtol=1e-5)
    assert not held[:, 0].any() and held[:, 1:].all()  # before the first step there is nothing


@torch.no_grad()
def test_padding_does_not_count() -> None:
    model, codes = make_model(), draw_codes(2, 9)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 5:] = False
    sounds = features(model, codes, mask)
    assert sounds.shape == (2, 2 * 2 * model.config.dim)
    torch.testing.assert_close(sounds[0], features(model, codes[:1])[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sounds[1], features(model, codes[1:, :, :5])[0], atol=1e-5, rtol=1e-5)


def test_regression_is_ridge_regression() -> None:
    """Against least squares with one more row for each dimension, which is what a ridge is."""
    rng = np.random.default_rng(0)
    n, width, out = 50, 12, 4
    sounds = rng.normal(size=(n, width)) * rng.uniform(0.1, 10, width) + rng.normal(size=width)
    sounds[:, 3] = 5.0  # says nothing
    vectors = rng.normal(size=(n, out))
    probe = regress(torch.tensor(sounds, dtype=torch.float32), torch.tensor(vectors, dtype=torch.float32))
    x = (sounds - sounds.mean(0)) / np.maximum(sounds.std(0), 1e-6)
    rows = np.concatenate([x, np.sqrt(RIDGE * n) * np.eye(width)])
    solution = np.linalg.lstsq(rows, np.concatenate([vectors - vectors.mean(0), np.zeros((width, out))]), rcond=None)[0]
    found = torch.tensor(sounds, dtype=torch.float32) @ probe.weight.T + probe.bias
    np.testing.assert_allclose(found.numpy(), x @ solution, atol=1e-4)
    np.testing.assert_allclose(probe.center.numpy(), vectors.mean(0), atol=1e-6)


@torch.no_grad()
def test_a_score_is_a_cosine_over_windows() -> None:
    model = make_model()
    probe, window = make_probe(model), model.config.window_frames
    codes, text = draw_codes(1, window + 4)[0], torch.randn(3, model.config.text_width)
    wanted = text_vector(text) - probe.center
    each = [
        float(F.cosine_similarity(probe.weight @ features(model, part[None])[0] + probe.bias, wanted, dim=0))
        for part in (codes[:, :window], codes[:, window:])
    ]
    assert probe.score(model, codes, text) == pytest.approx((each[0] * window + each[1] * 4) / (window + 4), abs=1e-5)
    apart = probe.score(model, codes, text) - probe.score(model, codes, text + 1)
    assert probe.score(model, codes, text, text + 1) == pytest.approx(apart, abs=1e-5)  # a negative text
    assert probe.score(model, codes, 7 * text) == pytest.approx(probe.score(model, codes, text), abs=1e-5)


def test_files(tmp_path: Path) -> None:
    assert Probe.load(tmp_path) is None
    probe = make_probe(make_model())
    probe.save(tmp_path)
    again = Probe.load(tmp_path)
    assert again
    torch.testing.assert_close(again.weight, probe.weight, atol=0, rtol=1e-3)
    file = tmp_path / PROBE_FILE
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"probe.safetensors is damaged or truncated"):
        Probe.load(tmp_path)
