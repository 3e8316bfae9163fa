"""The codec's training: both players, resuming, refusals; on a few synthetic clips."""

import copy
import math
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from accelerate import Accelerator
from helpers.processes import run_ranks
from helpers.runs import read_losses, read_metrics

from audiogen_cli.codec import losses as losses_module
from audiogen_cli.codec import quantizer
from audiogen_cli.codec import train_step as stepping
from audiogen_cli.codec.config import (
    CodecConfig,
    CodecTrainConfig,
    DiscriminatorConfig,
    FlowConfig,
    LossConfig,
    QuantizerConfig,
    SEANetConfig,
    SpectralConfig,
)
from audiogen_cli.codec.losses import adversarial_loss, discriminator_loss, feature_loss, time_loss
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.codec.quantizer import VectorQuantizer
from audiogen_cli.codec.seanet import ResidualLSTM
from audiogen_cli.codec.train import ValidationReport, train
from audiogen_cli.codec.train_step import AdversarialTrainer
from audiogen_cli.data.audio import read_audio
from audiogen_cli.data.manifest import Clip
from audiogen_cli.devices import process_index
from audiogen_cli.errors import AudiogenError, AudiogenWarning, InputError, Interrupted
from audiogen_cli.evaluation.tasks.codec_validation import validate_codec
from audiogen_cli.model_folder import find_model, read_license
from audiogen_cli.training import throughput
from audiogen_cli.training.checkpoint import list_checkpoints
from audiogen_cli.training.recipe import load_recipe

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
LIGHT = recipe(codec=replace(SMOOTH, network=SPECTRAL), quantizer=QuantizerConfig(kmeans_vectors=0.5))


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


def test_learns_and_leaves_a_usable_folder(clips, tmp_path):
    heard = []

    def listen(codec: AudioCodec, chosen: list[Clip], folder: Path) -> ValidationReport:
        heard.append((codec.training, [clip.id for clip in chosen], folder.relative_to(tmp_path)))
        return ValidationReport({"si_snr": 1.0}, ["too quiet"])

    config = recipe(codec=SMOOTH, max_steps=30, adversary_start=99, lr=5e-3, validate_every=30, validate_clips=3)
    out = train(config, clips, clips, tmp_path / "run", listen)
    mel = [line["mel"] for line in read_metrics(out, "train")]  # the commitment jumps whenever codes are replaced
    assert np.mean(mel[-5:]) < 0.9 * np.mean(mel[:5])
    codec = AudioCodec.load(find_model(out))
    assert codec.encode(torch.zeros(1, 1, 1000)).shape == (1, 2, -(-1000 // codec.hop_length))
    assert len(codec.fingerprint) == 64
    assert heard == [(False, ["t/0", "t/2", "t/5"], Path("run/reconstructions/step-000030"))]
    validation = read_metrics(out)[-1]
    assert validation["kind"] == "val" and validation["si_snr"] == 1.0
    assert validation["share_time"] + validation["share_mel"] == pytest.approx(1)


@pytest.mark.parametrize("network", [SEANET, SPECTRAL])
def test_every_seed_that_a_recipe_may_name_trains(clips, tmp_path, network):
    codec = CodecConfig(network=network, latent_dim=8, n_q=2, codebook_size=16)
    assert len(read_losses(train(recipe(codec=codec, seed=2**53, max_steps=1), clips, [], tmp_path / "run"))) == 1


def test_a_steps_seconds_are_without_validation(clips, tmp_path, monkeypatch):
    honest, skipped = throughput.time.perf_counter, [0.0]
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: honest() + sum(skipped))

    def validator(codec: AudioCodec, chosen: list[Clip], folder: Path) -> ValidationReport:
        skipped.append(1e6)
        return ValidationReport({})

    lines = read_metrics(
        train(recipe(max_steps=5, validate_every=2), clips, clips, tmp_path / "run", validator), "train"
    )
    assert len(skipped) == 4 and all(0 < line["step_seconds"] < 1e5 for line in lines)
    assert all(0 <= line["data_wait"] <= 1 and line["memory_gb"] > 0 and "tokens_per_s" not in line for line in lines)


def test_a_run_has_a_model_card(clips, tmp_path):
    config = recipe(max_steps=2, log_every=9)  # the second step is no line of its own
    out = train(config, clips, clips, tmp_path / "run", lambda codec, heard, folder: ValidationReport({}))
    for folder in (out, out / "checkpoints" / "step-000002"):
        text = (folder / "README.md").read_text()
        assert 'license: "other"' in text and "| steps | 2 |" in text


def test_spectral_networks_train_and_resume(clips, tmp_path):
    config = CodecConfig(network=SPECTRAL, latent_dim=8, n_q=2, codebook_size=16)
    whole = train(recipe(codec=config, max_steps=10), clips, clips[:2], tmp_path / "whole")
    parts = train(recipe(codec=config, max_steps=5), clips, [], tmp_path / "parts")
    history = read_losses(train(recipe(codec=config, max_steps=10), clips, [], parts))
    assert history == pytest.approx(read_losses(whole), abs=1e-5)
    assert AudioCodec.load(whole).decode(torch.zeros(1, 2, 3, dtype=torch.long)).shape == (1, 1, 3 * 1280)


def test_a_codec_gets_a_flow_and_keeps_its_codes(clips, tmp_path):
    plain = CodecConfig(network=SPECTRAL, latent_dim=8, n_q=2, codebook_size=16)
    still = {"quantizer": QuantizerConfig(decay=1.0, dead_below=0.0, kmeans_vectors=0.5), "weights_dtype": "float16"}
    first = train(recipe(codec=plain, license="CC BY-NC 4.0", **still), clips, [], tmp_path / "first")
    flow = FlowConfig((8, 8, 8), dim=8, code_blocks=1, steps=1)
    config = recipe(codec=replace(plain, network=replace(SPECTRAL, flow=flow)), lr=1e-2, mix=0.5, fill=0.5, **still)
    whole = train(
        config, clips, clips[:1], tmp_path / "whole", lambda codec, heard, folder: ValidationReport({}), first
    )
    train(replace(config, max_steps=3), clips, clips[:1], tmp_path / "parts", None, first)
    assert_equal_runs(train(config, clips, clips[:1], tmp_path / "parts", None, first), whole, 1e-5)
    assert {read_license(folder) for folder in (first, whole, list_checkpoints(whole)[-1])} == {"CC BY-NC 4.0"}
    wav = 0.1 * torch.randn(1, 1, 16_000)
    codes = AudioCodec.load(first).encode(wav)
    outlines = [AudioCodec.load(folder).decoder.expand.state_dict() for folder in (first, whole)]
    assert all(torch.equal(outlines[0][name], outlines[1][name]) for name in outlines[0])
    assert torch.equal(AudioCodec.load(whole).encode(wav), codes)
    assert not torch.equal(AudioCodec.load(whole).decode(codes), AudioCodec.load(first).decode(codes))


def test_refuses_to_start_from_another_kind_of_codec(clips, tmp_path):
    other = train(recipe(max_steps=1), clips, [], tmp_path / "other")
    config = recipe(codec=CodecConfig(network=SPECTRAL, latent_dim=8, n_q=2, codebook_size=16))
    with pytest.raises(InputError, match=r"encoder\.\S+ is not as the recipe"):
        train(config, clips, [], tmp_path / "run", start_from=other)


def assert_equal_runs(run: Path, other: Path, tolerance: float) -> None:
    """Every logged loss of both players, and every weight and code."""
    for line, expected in zip(read_metrics(run, "train"), read_metrics(other, "train"), strict=True):
        names = set(expected) - {"step_seconds", "data_wait", "memory_gb", "kind"}
        found, wanted = {n: line[n] for n in names}, {n: expected[n] for n in names}
        assert found == pytest.approx(wanted, rel=tolerance, abs=tolerance)
    theirs = AudioCodec.load(other).state_dict()
    for name, value in AudioCodec.load(run).state_dict().items():
        assert torch.allclose(theirs[name], value, atol=tolerance), name


def test_a_run_killed_among_adversaries_goes_on_as_if_undisturbed(clips, tmp_path, monkeypatch):
    config = recipe(adversary_start=1, save_every=2)
    whole = train(config, clips, [], tmp_path / "whole")
    step = AdversarialTrainer.train_step

    def killed(self, wav, stop):
        if self.step == 5:  # past the checkpoint of step 4: a step that was logged is lost
            raise MemoryError
        return step(self, wav, stop)

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(AdversarialTrainer, "train_step", killed)
        train(config, clips, [], tmp_path / "killed")
    assert_equal_runs(train(config, clips, [], tmp_path / "killed"), whole, 1e-6)
    assert {"discriminator", "adversarial", "feature"} <= set(read_metrics(whole, "train")[-1])


@pytest.mark.parametrize("config", [SHARED, LIGHT], ids=["seanet", "spectral"])
def test_micro_batches_change_nothing(clips, tmp_path, config):
    whole = train(config, clips, [], tmp_path / "whole")
    parts = train(replace(config, micro_batch=3), clips, [], tmp_path / "parts")  # 4 crops as 3 and 1
    assert_equal_runs(parts, whole, 1e-4)


@pytest.mark.parametrize(("micro_batch", "sizes"), [(0, [8, 8, 1]), (9, [9, 8])])
def test_a_cpu_holds_eight_crops_at_once_unless_the_recipe_says_otherwise(micro_batch, sizes):
    trainer = AdversarialTrainer(replace(SHARED, micro_batch=micro_batch), Accelerator(cpu=True))
    assert [len(part) for part in trainer.micro_batches(torch.zeros(17, 1, 160))] == sizes
    assert trainer.try_step(17).micro_batch == sizes[0]


def test_where_memory_is_short_the_micro_batch_shrinks_and_learns_the_same(clips, tmp_path, monkeypatch, capsys):
    whole = train(SHARED, clips, [], tmp_path / "whole")
    assert "for micro-batches of 4; about" in capsys.readouterr().err
    needed = iter([1e9, 2e9, 2e9])  # of one crop, of two, and of two without an adversary
    monkeypatch.setattr(throughput, "measure", lambda work, device: (work(), (next(needed), 0.1))[1])
    monkeypatch.setattr(throughput, "free_memory", lambda device: 3e9)
    parts = train(SHARED, clips, [], tmp_path / "parts")
    said = capsys.readouterr().err
    assert "micro-batches of 4 would not fit into memory: 2 at once instead" in said
    assert_equal_runs(parts, whole, 1e-4)


def test_told_to_stop_it_leaves_the_step_before_the_next_micro_batch(clips, tmp_path, monkeypatch):
    whole = train(SHARED, clips, [], tmp_path / "whole")
    honest, calls = stepping.time_loss, iter(range(1000))

    def stop(*wavs):
        if next(calls) == 3 + 4 * 2 + 1:  # after the trial, in the second crop of the third step
            os.kill(os.getpid(), signal.SIGTERM)
        return honest(*wavs)

    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="stopped after step 2"):
        patch.setattr(throughput, "LONG_TRIAL", math.inf)  # else a busy machine tries less often
        patch.setattr(stepping, "time_loss", stop)
        train(replace(SHARED, micro_batch=1), clips, [], tmp_path / "run")
    assert next(calls) == 3 + 4 * 2 + 2
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == ["step-000002"]
    assert_equal_runs(train(replace(SHARED, micro_batch=1), clips, [], tmp_path / "run"), whole, 1e-4)


def test_two_processes_with_half_the_batch_learn_what_one_learns(clips, tmp_path):
    one = train(SHARED, clips, [], tmp_path / "one")
    run_ranks(train, replace(SHARED, micro_batch=1), clips, [], tmp_path / "two")
    assert_equal_runs(tmp_path / "two", one, 1e-4)


def train_where_sums_round_otherwise(config, clips, out):
    """Train, the second process rounding sums of codebooks otherwise, as GPUs do; print a digest of its codebooks."""
    error, trainers = 1e-6 * process_index(), []
    honest_learn, honest_kmeans, honest_init = VectorQuantizer.learn, quantizer.kmeans, AdversarialTrainer.__init__

    def learn(self, *inputs, seed):
        honest_learn(self, *inputs, seed)
        self.codebook.add_(error)

    def init(self, *inputs):
        honest_init(self, *inputs)
        trainers.append(self)

    quantizer.kmeans = lambda *inputs: honest_kmeans(*inputs) + error
    VectorQuantizer.learn, AdversarialTrainer.__init__ = learn, init
    train(config, clips, [], out)
    print(sum(stream.codebook.double().sum() for stream in trainers[0].codec.quantizer).item().hex())


def test_codebooks_are_the_first_processs_after_kmeans_and_in_every_checkpoint(clips, tmp_path):
    for steps in (3, 5):  # k-means in the third
        one, two = run_ranks(
            train_where_sums_round_otherwise, replace(SHARED, max_steps=steps), clips, tmp_path / "run"
        )
        assert one == two


def test_checkpoints_are_models_and_only_the_newest_stay(clips, tmp_path):
    run = train(recipe(save_every=1), clips, [], tmp_path / "run")
    assert [path.name for path in list_checkpoints(run)] == ["step-000005", "step-000006"]
    assert AudioCodec.load(list_checkpoints(run)[0]).n_q == 2


def make_trainer(**changes) -> AdversarialTrainer:
    return AdversarialTrainer(recipe(**changes), Accelerator())


def test_the_time_told_beforehand_counts_steps_without_an_adversary_as_what_they_take(monkeypatch):
    judged = []

    def measure(work, device):
        judged.clear()
        work()
        return 1e6, 1.5 if judged else 0.5

    honest = AdversarialTrainer.judge
    monkeypatch.setattr(AdversarialTrainer, "judge", lambda self, *wavs: judged.append(1) or honest(self, *wavs))
    monkeypatch.setattr(throughput, "measure", measure)
    trainer = make_trainer(adversary_start=5, micro_batch=4)
    trial = trainer.try_step(4)
    assert "about 0.5 s and later 1.5 s a step, 10 s in all" in trial.describe(10)
    assert "about 0.5 s a step, 2 s in all" in trial.describe(4)
    trainer.step = 7
    assert "about 1.5 s a step, 15 s in all" in trainer.try_step(4).describe(10)
    without = make_trainer(adversary_start=6, micro_batch=4)  # which is after the last step
    assert "about 0.5 s a step, 5 s in all" in without.try_step(4).describe(10)


def test_each_player_gets_the_gradient_of_its_own_loss_alone(monkeypatch):
    # Codebooks not yet in use: they would move within the step.
    trainer = make_trainer(codec=SMOOTH, adversary_start=1, quantizer=QuantizerConfig(start_step=9))
    codec, discriminator, wav = trainer.codec, trainer.discriminator, 0.1 * torch.randn(2, 1, 3200)
    gradients = {}

    def keep(*players: tuple[torch.nn.Module, torch.optim.Optimizer]) -> list[torch.Tensor]:
        for network, optimizer in players:
            gradients[network] = [parameter.grad for parameter in network.parameters()]
            optimizer.zero_grad()
        return [torch.zeros(()) for _ in players]

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


def test_a_training_that_diverges_stops_with_step_clips_and_checkpoint(clips, tmp_path):
    with pytest.raises(AudiogenError, match=r"step 9: the gradient is not .*t/\d.*--from .*checkpoint: .*step-000008"):
        train(recipe(lr=float("inf"), save_every=1, max_steps=20), clips, [], tmp_path / "run")


def test_a_step_without_a_finite_gradient_changes_nothing_and_is_counted(clips, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(throughput, "LONG_TRIAL", math.inf)  # else a busy machine tries less often
    honest, calls = losses_module.time_loss, iter(range(100))
    monkeypatch.setattr(
        stepping, "time_loss", lambda *wavs: honest(*wavs) * (math.nan if next(calls) in (6, 7) else 1)
    )  # 0 to 3: the trial
    run = train(recipe(quantizer=QuantizerConfig(kmeans_vectors=0.1), save_every=1), clips, [], tmp_path / "run")
    lines = read_metrics(run, "train")
    assert [line.get("skipped_steps") for line in lines] == [None, None, 1, 2, 2, 2]
    assert math.isfinite(lines[-1]["loss"]) and math.isfinite(lines[-1]["grad_norm"])
    assert capsys.readouterr().err.count("the gradient is not finite; skipped") == 2
    assert all(value.isfinite().all() for value in AudioCodec.load(run).state_dict().values())


def test_a_skipped_step_leaves_weights_codebooks_and_optimizers_as_they_are():
    trainer = make_trainer(quantizer=QuantizerConfig(kmeans_vectors=0.1), adversary_start=0)
    trainer.train_step(0.1 * torch.randn(4, 1, 3200))
    before = copy.deepcopy([trainer.codec.state_dict(), trainer.state_dict()])
    metrics = trainer.train_step(torch.full((4, 1, 3200), math.nan))
    assert math.isnan(metrics["grad_norm"])
    torch.testing.assert_close([trainer.codec.state_dict(), trainer.state_dict()], before, rtol=0, atol=0)


HARD = {
    "half silent": lambda x: torch.where(torch.arange(len(x)) < len(x) // 2, x, 0.0),
    "a short clip, padded": lambda x: torch.where(torch.arange(len(x)) < 0.4 * len(x), x, 0.0),
    "silent": torch.zeros_like,
    "one bit of noise": lambda x: torch.round(x.clamp(-0.1, 0.1) * 10) / 32768,
    "a constant": lambda x: torch.full_like(x, 0.3),
    "a full-scale square wave": lambda x: torch.sign(torch.sin(torch.arange(len(x)) * 0.05)),
}


@pytest.mark.parametrize("norm", ["layer", "weight"])
@pytest.mark.parametrize("kind", HARD)
def test_hard_inputs_give_gradients_of_the_size_of_noise(kind, norm):
    config = CodecConfig(network=SEANetConfig(channels=8, norm=norm), latent_dim=16, codebook_size=16)
    noise = 0.1 * torch.randn(4000, generator=torch.Generator().manual_seed(0))
    norms = []
    for wav in (noise, HARD[kind](noise)):
        torch.manual_seed(0)
        trainer = make_trainer(codec=config, adversary_start=0)
        norms.append([trainer.train_step(wav.expand(2, 1, -1).contiguous())["grad_norm"] for _ in range(3)])
    assert np.isfinite(norms).all()
    assert max(norms[1]) < 10 * max(norms[0])  # 1e28 times where silence stays zero up to the latents


def damage(path: Path, how: str) -> None:
    if how == "deleted":
        path.unlink()
    elif how == "cut":
        wav, rate = soundfile.read(path)
        soundfile.write(path, wav, rate, format="FLAC")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        soundfile.write(path, np.full(8000, np.nan, np.float32), 16_000, subtype="FLOAT")


def test_unreadable_recordings_are_left_out_named_once_and_may_be_removed(clips, tmp_path, capsys):
    root = tmp_path / "audio"
    shutil.copytree(clips[0].root, root)
    clips = list_clips(root)
    for number, how in enumerate(("deleted", "cut", "not finite")):
        damage(root / f"{number}.wav", how)
    config = recipe(validate_clips=6, quantizer=QuantizerConfig(kmeans_vectors=0.1))
    run = train(config, clips, clips, tmp_path / "run", validate_codec)
    said = capsys.readouterr().err
    assert all(said.count(f"left out: {root / f'{number}.wav'}") == 1 for number in range(3)), said
    assert "no such file" in said and "(3 so far)" in said
    assert len(read_metrics(run, "train")) == 6 and all(math.isfinite(loss) for loss in read_losses(run))
    train(replace(config, max_steps=7), clips[3:], clips[3:], run, validate_codec)
    said = capsys.readouterr().err
    assert "note: inputs.clips was 6, now it is 3" in said and "max_steps was 6, now it is 7\n" in said
    assert len(read_metrics(run, "train")) == 7
    with pytest.raises(InputError, match="8 clips in a row cannot be read"):
        train(config, clips[:3], [], tmp_path / "other")


def test_a_run_whose_discriminators_had_another_layer_resumes(clips, tmp_path):
    run = train(recipe(max_steps=3), clips, [], tmp_path / "run")
    path = list_checkpoints(run)[-1] / "training.pt"
    state = torch.load(path, weights_only=True)
    state["discriminator"]["scales.0.layers.4.bias"] = torch.zeros(2)
    torch.save(state, path)
    with pytest.warns(AudiogenWarning, match="fresh ones begin"):
        train(recipe(), clips, [], run)
    assert len(read_metrics(run, "train")) == 6


def test_the_lstm_stays_in_float32_under_autocast():
    lstm, seen = ResidualLSTM(8, 2), []
    lstm.lstm.register_forward_pre_hook(lambda module, inputs: seen.append(torch.is_autocast_enabled("cpu")))
    with torch.autocast("cpu", torch.bfloat16):
        output = lstm(torch.zeros(2, 8, 5, dtype=torch.bfloat16))
    assert seen == [False] and output.dtype == torch.float32


@pytest.mark.shared
def test_the_papers_recipe_trains_on_real_clips_with_silence(esc50):
    changes = ["codec.network.channels=4", "discriminator.channels=4", "adversary_start=16"]
    config = load_recipe(CodecTrainConfig, "codec-x32", changes)
    wavs = [torch.from_numpy(read_audio(path, 16_000)) for path in sorted((esc50 / "audio").iterdir())[:40]]
    silent = [
        wav[start : start + 4000] for wav in wavs for start in [int((wav == 0).float().argmax())] if wav[start] == 0
    ]
    trainer = AdversarialTrainer(replace(config, precision="no"), Accelerator())
    batch = torch.stack([wav for wav in silent if len(wav) == 4000][:4])[:, None]
    history = []
    for trainer.step in range(20):
        history.append(trainer.train_step(batch))
    assert all(math.isfinite(value) for metrics in history for value in metrics.values())
    # eq. 1 alone falls; against discriminators it may rise for some tens of steps
    assert history[15]["mel"] < history[0]["mel"]
    assert [step for step, metrics in enumerate(history) if "discriminator" in metrics] == [16, 17, 18, 19]


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
