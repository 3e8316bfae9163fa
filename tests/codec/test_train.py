"""The codec's training: both players, resuming, refusals; on a few synthetic clips."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from accelerate import Accelerator
from helpers.processes import run_ranks

from audiogen_cli.codec.config import (
    CodecConfig,
    CodecTrainConfig,
    DiscriminatorConfig,
    LossConfig,
    QuantizerConfig,
    SEANetConfig,
)
from audiogen_cli.codec.light.config import FlowConfig, SpectralConfig
from audiogen_cli.codec.losses import adversarial_loss, discriminator_loss, feature_loss, time_loss
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.codec.train import ValidationReport, train
from audiogen_cli.codec.train_step import AdversarialTrainer
from audiogen_cli.data.manifest import Clip
from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.model_folder import find_model
from audiogen_cli.training.checkpoint import list_checkpoints

SPECTRAL = SpectralConfig()


SEANET = SEANetConfig(channels=4, lstm_layers=1)


def recipe(**changes) -> CodecTrainConfig:
    settings = {
        "codec": CodecConfig(network=SEANET, latent_dim=8, n_q=2, codebook_size=16),
        "discriminator": DiscriminatorConfig(channels=2),
        "pca_crops": 4,
        "precision": "no",
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


# k-means starts in the third step, the adversaries in the second. Not with LayerNorm: over the two channels of so
# narrow a residual unit it is nearly a sign, and turns float32's rounding into another run.
SMOOTH = CodecConfig(network=replace(SEANET, norm="weight"), latent_dim=8, n_q=2, codebook_size=16)
SHARED = recipe(codec=SMOOTH, quantizer=QuantizerConfig(start_step=2), adversary_start=1, max_steps=5)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Clip]:
    root = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    for i in range(6):
        tone = np.sin(2 * np.pi * 200 * (i + 1) * np.arange(8000) / 16_000)
        soundfile.write(root / f"{i}.wav", 0.3 * tone + 0.05 * rng.standard_normal(8000), 16_000)
    return list_clips(root)


def list_clips(root: Path) -> list[Clip]:
    return [
        Clip(f"t/{i}", "t", "train", f"{i}.wav", 0.0, 0.5, 16_000, 1, (), ("tone",), ("tone",), "", root)
        for i in range(6)
    ]


def logged(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "train"]


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in logged(run)]


def test_learns_and_leaves_a_usable_folder(clips, tmp_path):
    heard = []

    def listen(codec: AudioCodec, chosen: list[Clip], folder: Path) -> ValidationReport:
        heard.append((codec.training, [clip.id for clip in chosen], folder.relative_to(tmp_path)))
        return ValidationReport({"si_snr": 1.0}, ["too quiet"])

    config = recipe(codec=SMOOTH, max_steps=30, adversary_start=99, lr=5e-3, validate_every=30, validate_clips=3)
    out = train(config, clips, clips, tmp_path / "run", listen)
    mel = [line["mel"] for line in logged(out)]  # the commitment jumps whenever codes are replaced
    assert np.mean(mel[-5:]) < 0.9 * np.mean(mel[:5])
    codec = AudioCodec.load(find_model(out))
    assert codec.encode(torch.zeros(1, 1, 1000)).shape == (1, 2, -(-1000 // codec.hop_length))
    assert len(codec.fingerprint) == 64
    assert heard == [(False, ["t/0", "t/2", "t/4"], Path("run/reconstructions/step-000030"))]
    validation = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert validation["kind"] == "val" and validation["si_snr"] == 1.0
    assert validation["share_time"] + validation["share_mel"] == pytest.approx(1)


def test_spectral_networks_train_and_resume(clips, tmp_path):
    config = CodecConfig(network=SPECTRAL, latent_dim=8, n_q=2, codebook_size=16)
    whole = train(recipe(codec=config, max_steps=10), clips, clips[:2], tmp_path / "whole")
    parts = train(recipe(codec=config, max_steps=5), clips, [], tmp_path / "parts")
    history = losses(train(recipe(codec=config, max_steps=10), clips, [], parts))
    assert history == pytest.approx(losses(whole), abs=1e-5)
    assert AudioCodec.load(whole).decode(torch.zeros(1, 2, 3, dtype=torch.long)).shape == (1, 1, 3 * 1280)


def test_a_codec_gets_a_flow_and_keeps_its_codes(clips, tmp_path):
    plain = CodecConfig(network=SPECTRAL, latent_dim=8, n_q=2, codebook_size=16)
    still = {"quantizer": QuantizerConfig(decay=1.0, dead_below=0.0, kmeans_vectors=0.5), "weights_dtype": "float16"}
    first = train(recipe(codec=plain, **still), clips, [], tmp_path / "first")
    flow = FlowConfig((8, 8, 8), dim=8, code_blocks=1, steps=1)
    config = recipe(codec=replace(plain, network=replace(SPECTRAL, flow=flow)), lr=1e-2, mix=0.5, fill=0.5, **still)
    whole = train(
        config, clips, clips[:1], tmp_path / "whole", lambda codec, heard, folder: ValidationReport({}), first
    )
    train(replace(config, max_steps=3), clips, clips[:1], tmp_path / "parts", None, first)
    assert_equal_runs(train(config, clips, clips[:1], tmp_path / "parts", None, first), whole, 1e-5)
    wav = 0.1 * torch.randn(1, 1, 16_000)
    codes = AudioCodec.load(first).encode(wav)
    outlines = [AudioCodec.load(folder).decoder.expand.state_dict() for folder in (first, whole)]
    assert all(torch.equal(outlines[0][name], outlines[1][name]) for name in outlines[0])
    assert torch.equal(AudioCodec.load(whole).encode(wav), codes)
    assert not torch.equal(AudioCodec.load(whole).decode(codes), AudioCodec.load(first).decode(codes))


def test_refuses_to_start_from_another_kind_of_codec(clips, tmp_path):
    other = train(recipe(max_steps=1), clips, [], tmp_path / "other")
    config = recipe(codec=CodecConfig(network=SPECTRAL, latent_dim=8, n_q=2, codebook_size=16))
    with pytest.raises(InputError, match=r"no codec to start from: encoder\.\S+ is not as the recipe has it"):
        train(config, clips, [], tmp_path / "run", start_from=other)


def assert_equal_runs(run: Path, other: Path, tolerance: float) -> None:
    """Every logged loss of both players, and every weight and code."""
    for line, expected in zip(logged(run), logged(other), strict=True):
        names = set(expected) - {"step_seconds", "kind"}
        found, wanted = {n: line[n] for n in names}, {n: expected[n] for n in names}
        assert found == pytest.approx(wanted, rel=tolerance, abs=tolerance)
    theirs = AudioCodec.load(other).state_dict()
    for name, value in AudioCodec.load(run).state_dict().items():
        assert torch.allclose(theirs[name], value, atol=tolerance), name


def test_a_run_killed_among_adversaries_goes_on_as_if_undisturbed(clips, tmp_path, monkeypatch):
    config = recipe(adversary_start=1, save_every=2)
    whole = train(config, clips, [], tmp_path / "whole")
    step = AdversarialTrainer.train_step

    def killed(self, wav):
        if self.step == 5:  # past the checkpoint of step 4: a step that was logged is lost
            raise MemoryError
        return step(self, wav)

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(AdversarialTrainer, "train_step", killed)
        train(config, clips, [], tmp_path / "killed")
    assert_equal_runs(train(config, clips, [], tmp_path / "killed"), whole, 1e-6)
    assert {"discriminator", "adversarial", "feature"} <= set(logged(whole)[-1])


def test_micro_batches_change_nothing(clips, tmp_path):
    whole = train(SHARED, clips, [], tmp_path / "whole")
    parts = train(replace(SHARED, micro_batch=3), clips, [], tmp_path / "parts")  # 4 crops as 3 and 1
    assert_equal_runs(parts, whole, 1e-4)


def test_two_processes_with_half_the_batch_learn_what_one_learns(clips, tmp_path):
    one = train(SHARED, clips, [], tmp_path / "one")
    run_ranks(train, replace(SHARED, micro_batch=1), clips, [], tmp_path / "two")
    assert_equal_runs(tmp_path / "two", one, 1e-4)


def test_checkpoints_are_models_and_only_the_newest_stay(clips, tmp_path):
    run = train(recipe(save_every=1), clips, [], tmp_path / "run")
    assert [path.name for path in list_checkpoints(run)] == ["step-000005", "step-000006"]
    assert AudioCodec.load(list_checkpoints(run)[0]).n_q == 2


def make_trainer(**changes) -> AdversarialTrainer:
    return AdversarialTrainer(recipe(**changes), Accelerator())


def test_each_player_gets_the_gradient_of_its_own_loss_alone(monkeypatch):
    # Codebooks not yet in use: they would move within the step.
    trainer = make_trainer(codec=SMOOTH, adversary_start=1, quantizer=QuantizerConfig(start_step=9))
    codec, discriminator, wav = trainer.codec, trainer.discriminator, 0.1 * torch.randn(2, 1, 3200)
    gradients = {}

    def keep(network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        gradients[network] = [parameter.grad for parameter in network.parameters()]
        optimizer.zero_grad()
        return torch.zeros(())

    monkeypatch.setattr(trainer, "update", keep)
    assert not {"discriminator", "adversarial"} & set(trainer.train_step(wav)) and set(gradients) == {codec}
    trainer.step = 1
    assert {"discriminator", "adversarial", "feature"} <= set(trainer.train_step(wav))
    decoded, weights = codec(wav).decoded, trainer.config.losses
    real, fake = discriminator(wav), discriminator(decoded)
    losses = {"time": time_loss(wav, decoded), "mel": trainer.mel_loss(wav, decoded)}
    losses |= {"adversarial": adversarial_loss(fake), "feature": feature_loss(real, fake)}
    generator_loss = sum(getattr(weights, name) * loss for name, loss in losses.items())
    for network, loss in ((codec, generator_loss), (discriminator, discriminator_loss(real, fake))):
        expected = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
        for found, wanted in zip(gradients[network], expected, strict=True):
            assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-6)


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


def test_a_fresh_codec_passes_quiet_sounds_on_and_begins_near_silence():
    torch.manual_seed(0)
    codec = make_trainer(codec=CodecConfig(network=SEANetConfig(channels=8), latent_dim=16)).codec
    wav = 0.02 * torch.randn(4, 1, 3200)
    with torch.no_grad():
        latent = codec.encoder(wav)
        assert latent.std(2).mean() > 0.3 * latent.abs().mean()  # 0.05 with the usual random biases
        assert codec.decoder(latent).std() < 0.1


def test_gradient_shares_count_the_adversarial_losses_once_there_are_any():
    trainer = make_trainer(adversary_start=1)
    wav = 0.1 * torch.randn(2, 1, 3200)
    assert set(trainer.gradient_shares(wav)) == {"share_time", "share_mel"}
    trainer.step = 1
    shares = trainer.gradient_shares(wav)
    assert set(shares) == {"share_time", "share_mel", "share_adversarial", "share_feature"}
    assert sum(shares.values()) == pytest.approx(1)
    assert all(parameter.grad is None for parameter in trainer.discriminator.parameters())
    only = make_trainer(adversary_start=0, losses=LossConfig(mel=0.0, adversarial=0.0, feature=0.0))
    assert only.gradient_shares(wav)["share_time"] == pytest.approx(1)
