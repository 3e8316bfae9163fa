"""The language model learns real recordings by heart (by hand: `pytest -m benchmark tests/lm/test_overfit.py`)."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.runs import read_losses

from audiogen_cli.codec.batch_encoder import shard_meta
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.data.audio import read_audio
from audiogen_cli.data.shards import ShardWriter, TokenRow
from audiogen_cli.lm.config import Sampling, TrainConfig
from audiogen_cli.lm.decoding.engine import Engine
from audiogen_cli.lm.decoding.requests import UNKNOWN, DecodingRequest
from audiogen_cli.lm.diffusion.engine import DiffusionEngine
from audiogen_cli.lm.diffusion.network import DiffusionModel
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.text.encoders import load_text_encoder
from audiogen_cli.lm.training.train import train
from audiogen_cli.model_folder import EMBEDDED_MODEL
from audiogen_cli.training.recipe import load_recipe

CLIPS = 64
SETTINGS = (
    # the tiny size as it is, without what keeps a model from learning by heart
    *("model.dropout=0", "text_dropout=0", "ema_decay=0", "weights_dtype=float32", "optim.weight_decay=0"),
    *("optim.lr=2e-3", "optim.warmup_steps=30", "optim.batch_size=16", "optim.micro_batch=16", "log_every=10"),
)
TAKES = ("one", "two", "three", "four", "five", "six", "seven", "eight")  # tells clips of one class apart


def rows_of(esc50: Path, codec: AudioCodec, seconds: float | None) -> list[TokenRow]:
    """The codes of ESC-50's first clips, or of their first seconds, each with a text of its own."""
    rows: list[TokenRow] = []
    with (esc50 / "meta" / "esc50.csv").open() as file:
        for line in list(csv.DictReader(file))[:CLIPS]:
            (path,) = (esc50 / "audio").glob(Path(line["filename"]).stem + ".*")
            wav = torch.from_numpy(read_audio(path, codec.sample_rate, 0.0, seconds))[None, None]
            words = line["category"].replace("_", " ")
            text = f"{words} {TAKES[sum(row.texts[0].startswith(words) for row in rows)]}"
            codes = codec.encode(wav)[0].numpy()
            rows.append(TokenRow(f"esc50/{path.stem}", "esc50", "train", (text,), codes))
    return rows


def make_shards(esc50: Path, folder: Path, seconds: float | None = None) -> list[TokenRow]:
    codec = AudioCodec.load(EMBEDDED_MODEL / "codec")
    with torch.inference_mode():
        rows = rows_of(esc50, codec, seconds)
    writer = ShardWriter(folder / "tokens", shard_meta(codec), ["overfit"])
    writer.write(0, rows)
    writer.finish()
    return rows


@pytest.mark.shared
@pytest.mark.benchmark
@pytest.mark.timeout(7200)
def test_a_diffusion_model_learns_64_real_clips_by_heart(esc50: Path, tmp_path: Path) -> None:
    """The bound below 0.1 nats a code, and with three of four codes hidden at least 95% of those are found.

    The clips' first second and a smaller model, so that it takes a quarter of an hour.
    """
    folder = Path(os.environ.get("AUDIOGEN_OVERFIT", tmp_path))
    rows = make_shards(esc50, folder, 1.0)
    steps = os.environ.get("AUDIOGEN_OVERFIT_STEPS", "4000")
    smaller = ("model.dim=128", "model.n_layers=4", "model.n_heads=2")
    more = ("precision=no", "ema_decay=0.98", "probe_samples=0", f"max_steps={steps}")
    config = load_recipe(TrainConfig, "diffsound-tiny", [*SETTINGS, *smaller, *more])
    out = train(config, folder / "tokens", EMBEDDED_MODEL / "codec", folder / "run")
    losses = read_losses(out)
    last = sum(losses[-10:]) / 10  # which steps of the diffusion are drawn varies
    print(f"bound {losses[0]:.3f} -> {last:.4f} nats a code")

    model = DiffusionModel.load(out)
    encoder, engine = load_text_encoder(model.config.text), DiffusionEngine(model)
    hidden = np.random.default_rng(0).random((len(rows), *rows[0].codes.shape)) < 0.75
    jobs = [
        DecodingRequest(
            encoder.encode(row.texts)[0],
            row.codes.shape[1],
            0,
            Sampling(guidance=1, temperature=0, passes=10),
            torch.from_numpy(np.where(hide, UNKNOWN, row.codes)),
        )
        for row, hide in zip(rows, hidden, strict=True)
    ]
    found = [(codes.numpy() == rows[i].codes)[hidden[i]] for i, codes in engine.generate(jobs)]
    share = float(np.concatenate(found).mean())
    print(f"share of hidden codes reproduced: {share:.4f}")
    assert last < 0.1 and share > 0.95


@pytest.mark.shared
@pytest.mark.benchmark
@pytest.mark.timeout(7200)
def test_tiny_learns_64_real_clips_by_heart(esc50: Path, tmp_path: Path) -> None:
    """Cross-entropy below 0.1 nats a code, and the likeliest codes, one after the other, are a clip's own.

    Fifteen minutes on a shared core. AUDIOGEN_OVERFIT keeps the run in that folder, where a stopped one goes on.
    """
    folder = Path(os.environ.get("AUDIOGEN_OVERFIT", tmp_path))
    rows = make_shards(esc50, folder)
    steps = os.environ.get("AUDIOGEN_OVERFIT_STEPS", "300")
    config = load_recipe(TrainConfig, "lm-tiny", [*SETTINGS, f"max_steps={steps}"])
    out = train(config, folder / "tokens", EMBEDDED_MODEL / "codec", folder / "run")
    losses = read_losses(out)
    print(f"cross-entropy {losses[0]:.3f} -> {losses[-1]:.4f} nats a code")
    assert losses[-1] < 0.1

    lm = AudioLanguageModel.load(out)
    encoder = load_text_encoder(lm.config.text)
    greedy = Sampling(guidance=1, temperature=0)
    chosen = rows[:: CLIPS // 8]
    jobs = [DecodingRequest(encoder.encode(row.texts)[0], row.codes.shape[1], 0, greedy) for row in chosen]
    equal = {i: float((codes.numpy() == chosen[i].codes).mean()) for i, codes in Engine(lm).generate(jobs)}
    print("share of codes reproduced greedily:", {chosen[i].texts[0]: round(share, 3) for i, share in equal.items()})
    assert max(equal.values()) == 1.0
