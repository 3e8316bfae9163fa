"""The codec's training: both players, resuming, refusals; on a few synthetic clips."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from accelerate import Accelerator

from audiogen_cli.codec.config import (
    CodecConfig,
    CodecTrainConfig,
    DiscriminatorConfig,
    LossConfig,
    SEANetConfig,
    SpectralConfig,
)
from audiogen_cli.codec.losses import MelLoss
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.codec.train import build_state, train, train_step
from audiogen_cli.data.manifest import Clip
from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.interop.model_folder import find_model
from audiogen_cli.training.checkpoint import list_checkpoints

SPECTRAL = SpectralConfig(dim=8, blocks=1, start_crops=4)


SEANET = SEANetConfig(channels=4, lstm_layers=1)


def recipe(**changes) -> CodecTrainConfig:
    settings = {
        "codec": CodecConfig(network=SEANET, latent_dim=8, n_q=2, codebook_size=16),
        "discriminator": DiscriminatorConfig(windows=(256,), channels=2),
        "losses": LossConfig(mel_scales=(6, 8)),
        "max_steps": 6,
        "batch_size": 4,
        "crop_seconds": 0.2,
        "adversary_start": 2,
        "workers": 0,
        "log_every": 1,
        "validate_every": 3,
        "save_every": 3,
    }
    return CodecTrainConfig(**{**settings, **changes})


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Clip]:
    root = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    for i in range(6):
        tone = np.sin(2 * np.pi * 200 * (i + 1) * np.arange(8000) / 16_000)
        soundfile.write(root / f"{i}.wav", 0.3 * tone + 0.05 * rng.standard_normal(8000), 16_000)
    return [
        Clip(f"t/{i}", "t", "train", f"{i}.wav", 0.0, 0.5, 16_000, 1, (), ("tone",), ("tone",), "", root)
        for i in range(6)
    ]


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "train"]


def test_learns_and_leaves_a_usable_folder(clips, tmp_path):
    config = recipe(max_steps=25, adversary_start=99, lr=3e-3, validate_every=25)
    out = train(config, clips, clips[:2], tmp_path / "run")
    history = losses(out)
    assert np.mean(history[-5:]) < 0.9 * np.mean(history[:5])
    codec = AudioCodec.load(find_model(out))
    assert codec.encode(torch.zeros(1, 1, 1000)).shape == (1, 2, -(-1000 // codec.hop_length))
    assert len(codec.fingerprint) == 64
    validation = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"si_snr", "mel", "usage_0", "perplexity_1"} <= set(validation)


def test_spectral_networks_train_and_resume(clips, tmp_path):
    config = CodecConfig(network=SPECTRAL, latent_dim=8, n_q=2, codebook_size=16)
    whole = train(recipe(codec=config, max_steps=10), clips, clips[:2], tmp_path / "whole")
    parts = train(recipe(codec=config, max_steps=5), clips, [], tmp_path / "parts")
    history = losses(train(recipe(codec=config, max_steps=10), clips, [], parts))
    assert history == pytest.approx(losses(whole), abs=1e-5)
    assert AudioCodec.load(whole).decode(torch.zeros(1, 2, 3, dtype=torch.long)).shape == (1, 1, 3 * 640)


def test_resumed_run_equals_an_undisturbed_one(clips, tmp_path):
    whole = train(recipe(), clips, [], tmp_path / "whole")
    halves = train(recipe(max_steps=3), clips, [], tmp_path / "halves")
    train(recipe(), clips, [], halves)
    assert losses(halves) == pytest.approx(losses(whole), abs=1e-6)
    for name, value in AudioCodec.load(whole).state_dict().items():
        assert torch.allclose(AudioCodec.load(halves).state_dict()[name], value, atol=1e-6), name


def test_checkpoints_are_models_and_only_the_newest_stay(clips, tmp_path):
    run = train(recipe(save_every=1, keep_checkpoints=2), clips, [], tmp_path / "run")
    assert [path.name for path in list_checkpoints(run)] == ["step-000005", "step-000006"]
    assert AudioCodec.load(list_checkpoints(run)[0]).n_q == 2


def test_each_player_moves_only_itself(clips):
    config = recipe(adversary_start=0)
    accelerator = Accelerator()
    state = build_state(config, accelerator.device)
    wav = 0.1 * torch.randn(2, 1, 3200)
    mel = MelLoss(config.losses, 16_000)
    before = {name: value.clone() for name, value in state.discriminator.state_dict().items()}
    train_step(state, wav, mel, recipe(adversary_start=0, adversary_every=2), accelerator)  # step 0: both play
    assert any(not torch.equal(value, before[name]) for name, value in state.discriminator.state_dict().items())
    before = {name: value.clone() for name, value in state.discriminator.state_dict().items()}
    state.step = 1
    metrics = train_step(state, wav, mel, recipe(adversary_start=0, adversary_every=2), accelerator)  # G alone
    assert all(torch.equal(value, before[name]) for name, value in state.discriminator.state_dict().items())
    assert "adversarial" in metrics and "discriminator" not in metrics


def test_refuses_to_resume_with_other_settings(clips, tmp_path):
    run = train(recipe(max_steps=1), clips, [], tmp_path / "run")
    with pytest.raises(InputError, match=r"recipe\.lr = 0\.0003, now it is 0\.001"):
        train(recipe(lr=1e-3), clips, [], run)


def test_a_loss_that_is_no_number_stops_with_step_and_clips(clips, tmp_path):
    with pytest.raises(AudiogenError, match=r"not a number at step 1 .*t/\d.*last good checkpoint: .*step-000001"):
        train(recipe(lr=float("inf"), save_every=1), clips, [], tmp_path / "run")


def test_no_clips_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no clips to train on"):
        train(recipe(), [], [], tmp_path / "run")
