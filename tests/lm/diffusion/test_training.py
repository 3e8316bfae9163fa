"""`decoder: diffusion` through train-lm and generate, on a dozen synthetic clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.processes import run_ranks
from helpers.runs import read_metrics
from helpers.zoo import make_rows, make_shards

from audiogen_cli.errors import InputError
from audiogen_cli.lm.config import TrainConfig
from audiogen_cli.lm.decoding.requests import UNKNOWN, DecodingRequest
from audiogen_cli.lm.diffusion.engine import DiffusionEngine
from audiogen_cli.lm.diffusion.network import DiffusionModel
from audiogen_cli.lm.probe import Probe
from audiogen_cli.lm.text.encoders import load_text_encoder
from audiogen_cli.lm.training.train import train
from audiogen_cli.model_folder import load_weights
from audiogen_cli.training.recipe import load_recipe

RECIPE = """
model: {decoder: diffusion, text_prefix: false, dim: 32, n_layers: 2, n_heads: 2, dropout: 0, diffusion: {steps: 8}}
text: {kind: static, name: VECTORS}
sampling: {guidance: 1, top_p: 0.85}
optim: {lr: 1e-2, schedule: constant, warmup_steps: 2, batch_size: 12, micro_batch: 4}
crop_seconds: 0.48
max_steps: 4
ema_decay: 0.5
log_every: 1
validate_every: 2
save_every: 2
"""


@pytest.fixture(scope="module")
def learn(tmp_path_factory: pytest.TempPathFactory, tiny_codec: Path, token_shards: Path, word_vectors: Path):
    """Return what trains into a folder of that name, with these settings, in n processes."""
    root = tmp_path_factory.mktemp("diffusion")
    (root / "recipe.yaml").write_text(RECIPE.replace("VECTORS", str(word_vectors)))

    def learn(name: str, *settings: str, n: int = 1, shards: Path = token_shards, **more: Path) -> Path:
        config = load_recipe(TrainConfig, root / "recipe.yaml", settings)
        if n == 1:
            return train(config, shards, tiny_codec, root / name, **more)
        run_ranks(train, config, token_shards, tiny_codec, root / name, n=n)
        return root / name

    return learn


@pytest.fixture(scope="module")
def plain(learn) -> Path:
    return learn("plain")


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(run, "train", "val")]


@pytest.mark.parametrize("n", [1, 2])
def test_resumed_or_in_two_processes_it_learns_the_same(learn, plain: Path, n: int) -> None:
    run = learn(f"parts-{n}", "max_steps=2", n=n)
    learn(run.name, n=n)
    assert losses(run) == pytest.approx(losses(plain), rel=1e-4)
    ours, theirs = load_weights(run), load_weights(plain)
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=2e-4) for name in ours)


def test_it_learns_and_fills_gaps(learn, tiny_codec: Path, tmp_path: Path) -> None:
    rows = make_rows([12] * 9) + make_rows([12] * 3, "val")  # no longer than a crop: a text has one right answer
    shards = make_shards(tmp_path / "tokens", tiny_codec, rows)
    long = ("max_steps=220", "validate_every=220", "save_every=220", "log_every=40", "ema_decay=0.9")
    run = learn("long", "text_dropout=0", "optim.schedule=cosine", "optim.micro_batch=12", *long, shards=shards)
    bound = losses(run)
    assert bound[0] > 0.5 and bound[-1] < 0.3 and set(read_metrics(run, "val")[-1]) >= {"loss", "loss_0", "loss_1"}
    model = DiffusionModel.load(run)
    probe = Probe.load(run, model.config)
    assert probe
    encode, engine = load_text_encoder(model.config.text).encode, DiffusionEngine(model)
    right, filled = [], []
    for row in make_rows([12, 12, 12]):
        codes, (vectors,) = torch.from_numpy(row.codes), encode(list(row.texts))
        ((_, drawn),) = engine.generate([DecodingRequest(vectors, 12, 0, model.config.sampling)])
        right.append((drawn == codes).float().mean())
        given = codes.clone()
        given[:, 4:9] = UNKNOWN
        ((_, drawn),) = engine.generate([DecodingRequest(vectors, 12, 0, model.config.sampling, given)])
        filled.append((drawn == codes).float().mean())
        assert all(-1 <= probe.score(engine.model, codes, text) <= 1 for text in encode(["dog", "rain"]))
    assert np.mean(right) > 0.9 and np.mean(filled) > 0.95


def test_a_shape_that_it_cannot_have_is_refused(learn, plain: Path) -> None:
    for setting in ("model.text_prefix=true", "model.pattern=delay", "model.cross_attention=false"):
        with pytest.raises(InputError, match="text_prefix: false"):
            learn("none", setting)
    with pytest.raises(InputError, match="its decoder is diffusion"):
        learn("none", "model.decoder=autoregressive", start_from=plain)


def test_generate_and_continue_take_it_and_stream_refuses(audiogen, tmp_path: Path, tiny_diffusion: Path) -> None:
    options = ("--model", tiny_diffusion, "--seed", "1")
    for name in ("a.wav", "b.wav"):
        done = audiogen("generate", "rain", "-o", name, "--duration", "0.5", "--passes", "3", *options)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    done = audiogen("continue", "a.wav", "dog", "--duration", "0.9", "-o", "c.wav", *options)
    assert done.returncode == 0, done.stderr
    done = audiogen("generate", "rain", "-o", "d.wav", "--stream", *options)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "--stream" in done.stderr
