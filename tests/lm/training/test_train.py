"""The language model's training: learning, resuming, refusals; on a dozen synthetic clips."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import signal
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from helpers.manifests import write_manifest
from helpers.runs import read_losses, read_metrics
from helpers.zoo import CODEBOOK_SIZE, N_Q, WORDS, make_codec, make_rows, make_shards

from audiogen_cli.data.manifest import Clip
from audiogen_cli.errors import AudiogenError, InputError, Interrupted
from audiogen_cli.lm.config import (
    LOOKUP_ROWS,
    ModelShape,
    OptimConfig,
    PreviewConfig,
    Sampling,
    TextConfig,
    TrainConfig,
)
from audiogen_cli.lm.decoding.engine import Engine
from audiogen_cli.lm.decoding.requests import DecodingRequest
from audiogen_cli.lm.model import AudioLanguageModel, CodeModel
from audiogen_cli.lm.probe import Probe
from audiogen_cli.lm.text.encoders import load_text_encoder
from audiogen_cli.lm.training import batches
from audiogen_cli.lm.training import step as stepping
from audiogen_cli.lm.training import train as training
from audiogen_cli.lm.training.batches import encode_texts, pad_shapes
from audiogen_cli.lm.training.state import State
from audiogen_cli.lm.training.step import add_text_noise, corrupt_codes
from audiogen_cli.lm.training.train import train
from audiogen_cli.model_folder import find_model, fingerprint, read_license
from audiogen_cli.training import launch, throughput
from audiogen_cli.training.checkpoint import list_checkpoints, load_state


@dataclasses.dataclass(frozen=True)
class World:
    vectors: Path
    codec: Path
    tokens: Path


@pytest.fixture(scope="module")
def world(word_vectors: Path, tiny_codec: Path, token_shards: Path) -> World:
    return World(word_vectors, tiny_codec, token_shards)


def recipe(world: World, **changes: object) -> TrainConfig:
    settings = {
        "model": ModelShape(dim=16, n_layers=1, n_heads=2, pattern="delay", dropout=0.1),
        "text": TextConfig("static", str(world.vectors)),
        "optim": OptimConfig(lr=1e-2, schedule="constant", warmup_steps=2, batch_size=6, micro_batch=4),
        "crop_seconds": 0.48,  # 12 frames
        "max_steps": 6,
        "log_every": 1,
        "validate_every": 3,
        "save_every": 3,
    }
    return TrainConfig(**{**settings, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plain_run(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run of `recipe`, to compare with and to begin from; its files are shared."""
    return train(recipe(world), world.tokens, world.codec, tmp_path_factory.mktemp("plain") / "run")


def test_learns_and_leaves_a_usable_folder(world: World, tmp_path: Path) -> None:
    optim = OptimConfig(lr=1e-2, schedule="cosine", warmup_steps=5, batch_size=9, micro_batch=9)
    model = ModelShape(dim=32, n_layers=2, n_heads=2, pattern="delay", dropout=0.0)
    config = recipe(
        world,
        optim=optim,
        model=model,
        max_steps=150,
        validate_every=150,
        save_every=150,
        text_dropout=0.0,
        license="mine",
    )
    out = train(config, world.tokens, world.codec, tmp_path / "run")
    assert read_losses(out)[0] == pytest.approx(torch.tensor(CODEBOOK_SIZE).log().item(), rel=0.2)
    assert read_losses(out)[-1] < 0.1
    assert set(read_metrics(out, "val")[-1]) == {"step", "kind", "loss", "loss_0", "loss_1"}
    assert read_license(out) == "mine" and read_license(out / "codec") == "codec's licence"
    assert fingerprint(out / "codec") == fingerprint(world.codec)
    lm = AudioLanguageModel.load(find_model(out))
    text = load_text_encoder(lm.config.text).encode(["rain"])[0]
    ((_, codes),) = Engine(lm).generate([DecodingRequest(text, 12, seed=0)])
    expected = make_rows([12, 12])[1].codes
    assert (codes.numpy() == expected).mean() > 0.9
    probe = Probe.load(out)
    assert probe
    for row in make_rows([12, 12, 12]):
        texts = load_text_encoder(lm.config.text).encode(["dog", "rain", "bark"])
        fits = [probe.score(lm, torch.from_numpy(row.codes), text) for text in texts]
        assert ["dog", "rain", "bark"][int(np.argmax(fits))] == row.texts[0]


def test_learns_a_table_of_words_in_place_of_an_encoder(world: World, tmp_path: Path) -> None:
    text = TextConfig("lookup", str(world.vectors))
    model = ModelShape(dim=32, n_layers=2, n_heads=2, pattern="delay", dropout=0.0)
    optim = OptimConfig(lr=1e-2, schedule="cosine", warmup_steps=5, batch_size=9, micro_batch=9)
    steps = {"max_steps": 120, "validate_every": 120, "save_every": 120}
    config = recipe(world, text=text, model=model, optim=optim, text_dropout=0.0, **steps)
    out = train(config, world.tokens, world.codec, tmp_path / "run")
    assert read_losses(out)[-1] < 0.15 and not (out / "probe.safetensors").exists()

    lm, encoder = AudioLanguageModel.load(out), load_text_encoder(text)
    rain = encoder.encode(["rain"])[0]
    alone = Sampling(guidance=1.0, top_k=1)  # "no text" was never trained
    ((_, codes),) = Engine(lm).generate([DecodingRequest(rain, 12, 0, alone)])
    assert (codes.numpy() == make_rows([12, 12])[1].codes).mean() > 0.9
    moments = load_state(list_checkpoints(out)[-1], "cpu", mapped=False)["optimizer"]["state"]
    table = next(each["exp_avg_sq"] for each in moments.values() if each["exp_avg_sq"].shape == (LOOKUP_ROWS, 32))
    learned = table.any(1).nonzero().flatten().tolist()
    assert learned == [WORDS.index(word) for word in ("dog", "bark", "rain")]  # blind to every other word

    numbers = torch.tensor([[[32_001.0], [32_000.0]]])  # one number in bfloat16
    half = AudioLanguageModel.load(out).to(torch.bfloat16)
    vectors, _ = half.project_text(numbers, torch.ones(1, 2, dtype=torch.bool))
    assert torch.equal(vectors[0], half.text_projection.weight[[32_001, 32_000]])


def test_the_trained_model_is_gone_when_the_probe_is_made(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, alive = [], []
    build_state = training.build_state

    def build(model: CodeModel, *others: Any) -> State:
        models.append(weakref.ref(model))
        return build_state(model, *others)

    monkeypatch.setattr(training, "build_state", build)
    monkeypatch.setattr(training, "train_probe", lambda *given: alive.append(models[0]()))
    train(recipe(world, max_steps=1), world.tokens, world.codec, tmp_path / "run")
    assert alive == [None]


def test_a_finished_run_gets_or_loses_its_probe(world: World, tmp_path: Path) -> None:
    without = train(recipe(world, probe_samples=0), world.tokens, world.codec, tmp_path / "run")
    weights = fingerprint(without)
    assert Probe.load(without) is None
    assert Probe.load(train(recipe(world), world.tokens, world.codec, tmp_path / "run"))
    assert fingerprint(without) != weights
    train(recipe(world, probe_samples=0), world.tokens, world.codec, tmp_path / "run")
    assert fingerprint(without) == weights
    silent = train(recipe(world, text_dropout=1.0), world.tokens, world.codec, tmp_path / "silent")
    assert Probe.load(silent) is None


def test_a_model_that_never_reads_a_text_is_validated_without_any(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []
    monkeypatch.setattr(
        stepping, "encode_texts", lambda batch, *rest: (read.append(batch), encode_texts(batch, *rest))[1]
    )
    for share in (0.9, 1.0):
        read.clear()
        config = recipe(world, text_dropout=share, max_steps=1, probe_samples=0)
        train(config, world.tokens, world.codec, tmp_path / f"{share}")
        texts = {text for batch in read if batch.ids[0] for text in batch.texts}  # those of the trial have no ids
        assert texts and (None in texts) == (share == 1) and (texts == {None}) == (share == 1)


@pytest.mark.parametrize("codebooks", [False, True])
def test_a_run_begins_with_the_weights_it_is_given(
    world: World, plain_run: Path, tmp_path: Path, codebooks: bool
) -> None:
    still = OptimConfig(lr=1e-12, schedule="constant", warmup_steps=0, batch_size=6, micro_batch=4)
    config = recipe(world, optim=still, codebooks=codebooks, ema_decay=0.9, seed=1, crop_seconds=0.4)
    second = train(config, world.tokens, world.codec, tmp_path / "second", start_from=plain_run)
    one, two = AudioLanguageModel.load(plain_run), AudioLanguageModel.load(second)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    with pytest.raises(InputError, match=r"was started with inputs\.start_from"):
        train(config, world.tokens, world.codec, second)
    other = dataclasses.replace(config, model=ModelShape(dim=16, n_layers=2, n_heads=2, pattern="delay"))
    with pytest.raises(InputError, match="its n_layers is 1, the run's is 2"):
        train(other, world.tokens, world.codec, tmp_path / "third", start_from=plain_run)
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"ema_decay": 0.9, "code_dropout": 0.3, "text_noise": 1.0},
        {"codebooks": True},
        {"codebooks": True, "ema_decay": 0.9},
    ],
    ids=" ".join,
)
def test_resumed_run_equals_an_undisturbed_one(world: World, tmp_path: Path, changes: dict[str, object]) -> None:
    config = recipe(world, **changes, max_steps=4, validate_every=2, save_every=2)
    whole = train(config, world.tokens, world.codec, tmp_path / "whole")
    train(dataclasses.replace(config, max_steps=2), world.tokens, world.codec, tmp_path / "parts")
    parts = train(config, world.tokens, world.codec, tmp_path / "parts")
    assert read_losses(parts) == pytest.approx(read_losses(whole), abs=1e-6)
    one, two = AudioLanguageModel.load(whole), AudioLanguageModel.load(parts)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_told_to_stop_it_saves_and_goes_on_later(
    world: World, plain_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = stepping.update_average

    def interrupt(state: State, decay: float) -> None:
        honest(state, decay)
        if state.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(stepping, "update_average", interrupt)
        with pytest.raises(Interrupted, match="stopped after step 2"):
            train(recipe(world), world.tokens, world.codec, tmp_path / "run")
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == ["step-000002"]
    assert not (tmp_path / "run" / "model.safetensors").exists()
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="stopped after step 2"):
        patch.setattr(launch.StopSignal, "asked", lambda self: True)  # before a micro-batch: nothing is lost
        train(recipe(world), world.tokens, world.codec, tmp_path / "run")
    resumed = train(recipe(world), world.tokens, world.codec, tmp_path / "run")
    assert read_losses(resumed) == read_losses(plain_run) and fingerprint(resumed) == fingerprint(plain_run)


def test_micro_batches_do_not_change_the_step(world: World, tmp_path: Path) -> None:
    model = ModelShape(dim=16, n_layers=1, n_heads=2, dropout=0.0)
    histories = []
    for size in (1, 6):
        optim = OptimConfig(lr=1e-2, batch_size=6, micro_batch=size, warmup_steps=1)
        config = recipe(world, model=model, optim=optim, max_steps=3)
        histories.append(read_losses(train(config, world.tokens, world.codec, tmp_path / str(size))))
    assert histories[0] == pytest.approx(histories[1], abs=1e-4)


def test_every_checkpoint_is_a_model_folder(world: World, tmp_path: Path) -> None:
    config = recipe(world, ema_decay=0.5, precision="bf16", weights_dtype="float16")
    out = train(config, world.tokens, world.codec, tmp_path / "run")
    checkpoints = list_checkpoints(out)
    assert [path.name for path in checkpoints] == ["step-000003", "step-000006"]
    for folder in checkpoints:
        assert AudioLanguageModel.load(folder).config.n_q == N_Q
        assert fingerprint(folder / "codec") == fingerprint(world.codec)
    assert (out / "model.safetensors").stat().st_size < (checkpoints[-1] / "model.safetensors").stat().st_size


def test_a_loss_that_is_no_number_stops_the_run(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = stepping.lm_loss
    steps = iter(range(100))
    monkeypatch.setattr(
        stepping, "lm_loss", lambda output, codes: honest(output, codes) * (float("nan") if next(steps) > 8 else 1)
    )
    with pytest.raises(AudiogenError, match=r"not finite.*batch: t/train.*checkpoint: .*0000"):
        train(recipe(world, max_steps=30), world.tokens, world.codec, tmp_path / "run")


def test_shards_of_another_codec_are_refused(world: World, tmp_path: Path) -> None:
    other = make_codec(tmp_path / "other", seed=1)
    with pytest.raises(InputError, match=f"{fingerprint(world.codec)[:12]}.*{fingerprint(other)[:12]}"):
        train(recipe(world), world.tokens, other, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_shards_no_training_split_and_other_settings_are_refused(
    world: World, plain_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no token shards"):
        train(recipe(world), tmp_path, world.codec, tmp_path / "run")
    only_val = make_shards(tmp_path / "val", world.codec, make_rows([9], "val"))
    with pytest.raises(InputError, match="no rows of split train"):
        train(recipe(world), only_val, world.codec, tmp_path / "run")
    with pytest.raises(InputError, match=r"recipe\.seed = 0, now it is 1"):
        train(recipe(world, seed=1), world.tokens, world.codec, plain_run)


def test_the_models_own_defaults_may_change_when_it_resumes(world: World, plain_run: Path, tmp_path: Path) -> None:
    train(recipe(world, max_steps=3), world.tokens, world.codec, tmp_path / "run")
    run = train(recipe(world, sampling=Sampling(guidance=5.0)), world.tokens, world.codec, tmp_path / "run")
    assert read_losses(run) == read_losses(plain_run)
    assert AudioLanguageModel.load(run).config.sampling.guidance == 5.0


def test_without_a_validation_split_it_says_so(world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tokens = make_shards(tmp_path / "tokens", world.codec, make_rows([9, 9]))
    out = train(recipe(world, max_steps=1), tokens, world.codec, tmp_path / "run")
    assert "no validation loss" in capfd.readouterr().err
    assert not read_metrics(out, "val")


def test_it_does_not_resume_on_other_shards_of_equal_counts(world: World, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    shutil.copytree(world.tokens, tokens)
    train(recipe(world, max_steps=1), tokens, world.codec, tmp_path / "run")
    path = next(tokens.glob("shard-*.parquet"))
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"content": b"other"}), path)
    with pytest.raises(InputError, match=r"inputs\.training_data"):
        train(recipe(world, max_steps=2), tokens, world.codec, tmp_path / "run")


def test_trained_on_recordings_it_resumes_exactly(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    for i in range(5):
        wav = np.random.default_rng(i).normal(0, 0.1, 8000 + 2000 * i)
        soundfile.write(sounds / f"{i}.wav", wav, 16_000)
    splits = ["train", "train", "train", "train", "val"]
    clips = [
        Clip(f"t/{i}", "t", split, f"{i}.wav", 0.0, (8000 + 2000 * i) / 16_000, 16_000, 1, (), (), ("dog",), "")  # type: ignore[arg-type]
        for i, split in enumerate(splits)
    ]
    manifests = tmp_path / "manifests"
    write_manifest(manifests / "t.parquet", clips, {"dataset": "t", "root": sounds, "options": {}})
    config = recipe(world, mix=0.5, bucket_steps=2, max_steps=4, validate_every=2, save_every=2)
    (sounds / "4.wav").rename(tmp_path / "4.wav")
    blind = train(config, None, world.codec, tmp_path / "blind", manifests)
    said = capfd.readouterr().err
    assert said.count(f"left out: {sounds / '4.wav'}") == 1 and "no row of split val can be read" in said
    assert not read_metrics(blind, "val")
    (tmp_path / "4.wav").rename(sounds / "4.wav")
    whole = train(config, None, world.codec, tmp_path / "whole", manifests)
    assert len(read_metrics(whole, "val")) == 2 and read_losses(blind) == read_losses(whole)
    train(dataclasses.replace(config, max_steps=2), None, world.codec, tmp_path / "parts", manifests)
    parts = train(config, None, world.codec, tmp_path / "parts", manifests)
    assert read_losses(parts) == pytest.approx(read_losses(whole), abs=1e-6)
    with pytest.raises(InputError, match=r"inputs\.(rows|source)"):
        train(config, world.tokens, world.codec, tmp_path / "parts")


def test_samples_are_generated_on_a_schedule(world: World, plain_run: Path, tmp_path: Path) -> None:
    previews = PreviewConfig(every=2, prompts=("a dog barks", "Rain!"), duration=0.5)
    out = train(recipe(world, previews=previews, max_steps=4), world.tokens, world.codec, tmp_path / "run")
    found = sorted(str(path.relative_to(out / "samples")) for path in out.rglob("*.wav"))
    names = ("01-a-dog-barks.wav", "02-rain.wav")
    assert found == [f"step-{step:06d}/{name}" for step in (2, 4) for name in names]
    assert all(soundfile.info(path).frames == 8000 for path in out.rglob("*.wav"))
    assert read_losses(out) == read_losses(plain_run)[:4]  # listening changes nothing


def test_activations_computed_twice_change_nothing(world: World, plain_run: Path, tmp_path: Path) -> None:
    again = train(recipe(world, checkpoint_activations=True), world.tokens, world.codec, tmp_path / "again")
    assert read_losses(again) == pytest.approx(read_losses(plain_run), abs=1e-6)


def test_sharded_models_do_not_learn_through_codebooks(world: World) -> None:
    with pytest.raises(ValueError, match="distributed: ddp"):
        recipe(world, codebooks=True, distributed="fsdp")


def test_a_full_disk_costs_no_earlier_checkpoint(
    world: World, plain_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, calls = torch.save, iter(range(10))

    def full(document: object, file: IO[bytes]) -> None:
        honest(document, file)
        if next(calls) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(AudiogenError, match=r"step-000006.*No space left.*step-000003"):
            train(recipe(world), world.tokens, world.codec, run)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000003"]
    assert read_losses(train(recipe(world), world.tokens, world.codec, run)) == read_losses(plain_run)


def test_a_tracker_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install wandb"):
        launch.check_trackers(["wandb"])


def test_swapped_codes_are_anothers_at_the_same_place() -> None:
    torch.manual_seed(0)
    codes = torch.arange(600)[:, None, None].expand(600, 8, 50)
    full = torch.ones(600, 50, dtype=torch.bool)
    swapped = corrupt_codes(codes, full, 0.3)
    assert torch.equal(torch.where(swapped == codes, codes.roll(1, 0), swapped), codes.roll(1, 0))
    shares = (swapped != codes).float().mean((1, 2))
    assert abs(float(shares.mean()) - 0.3) < 0.03
    assert shares.min() < 0.01 and shares.max() > 0.98  # nobody's codes are all like the others'
    assert torch.equal(corrupt_codes(codes, full, 0.0), codes)
    assert torch.equal(corrupt_codes(codes, full, 1.0), codes.roll(1, 0))


def test_padding_replaces_no_codes() -> None:
    codes = torch.arange(3)[:, None, None].expand(3, 2, 50).clone()
    mask = torch.arange(50) < torch.tensor([50, 20, 35])[:, None]
    codes.masked_fill_(~mask[:, None], -1)
    swapped = corrupt_codes(codes, mask, 1.0)
    assert torch.equal(swapped.where(mask[:, None], -1) >= 0, codes >= 0)
    assert torch.equal(swapped[1, :, :20], codes[0, :, :20]) and torch.equal(swapped[0, :, 35:], codes[0, :, 35:])


def test_an_only_examples_codes_are_swapped_with_its_own_from_other_places() -> None:
    torch.manual_seed(0)
    codes, mask = torch.arange(200).expand(1, 3, 200).clone(), torch.arange(200)[None] < 150
    swapped = torch.stack([corrupt_codes(codes, mask, 0.3) for _ in range(200)])[..., :150]
    assert swapped.max() < 150
    shares = (swapped != codes[..., :150]).float().mean((1, 2, 3))
    assert abs(float(shares.mean()) - 0.3) < 0.05 and shares.max() > 0.9
    moved = corrupt_codes(codes, mask, 1.0)
    assert torch.equal(moved[..., :150].sort().values, codes[..., :150]) and torch.equal(moved[0, 0], moved[0, 2])


def test_blurred_texts_keep_their_length_and_lose_their_direction_by_a_share_of_their_own() -> None:
    torch.manual_seed(0)
    text = 3 * torch.randn(400, 4, 64)
    blurred = add_text_noise(text, 1.5)
    assert abs(float(blurred.norm() / text.norm()) - 1) < 0.02
    cosines = torch.cosine_similarity(text, blurred, dim=-1)
    # strength s leaves a cosine of 1 / sqrt(1 + s^2): from 1 down to 0.55, the same for all words of a text
    assert cosines.max() > 0.99 and abs(float(cosines.min()) - 0.55) < 0.3
    expected = torch.asinh(torch.tensor(1.5)) / 1.5  # its mean over s from 0 to 1.5
    assert abs(float(cosines.mean()) - float(expected)) < 0.03
    assert cosines.std(1).mean() < 0.5 * cosines.mean(1).std()
    padded = add_text_noise(torch.cat([text, torch.zeros(400, 1, 64)], 1), 1.5)
    assert not padded[:, 4].any()
    assert torch.equal(add_text_noise(text, 0.0), text)


def test_activations_are_computed_twice_only_where_they_would_not_fit(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    states: list[State] = []
    honest = stepping.try_step

    def try_step(state: State, *inputs: Any) -> Any:
        states.append(state)
        return honest(state, *inputs)

    def measure(work: Callable[[], object], device: torch.device) -> tuple[float, float]:
        work()
        if free == 0 and not states[-1].model.checkpointing:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1e9 if states[-1].model.checkpointing else 5e9, 0.1

    monkeypatch.setattr("audiogen_cli.lm.training.train.try_step", try_step)
    monkeypatch.setattr(throughput, "measure", measure)
    monkeypatch.setattr(throughput, "free_memory", lambda device: free or 2e9)
    for free, recomputed in ((1e11, False), (2e9, True), (0, True)):
        train(recipe(world, max_steps=1, probe_samples=0), world.tokens, world.codec, tmp_path / f"{free}")
        assert states[-1].model.checkpointing is recomputed
        assert ("each block is computed twice" in capfd.readouterr().err) is recomputed


def test_a_run_compiles_a_block_at_most_four_times(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In training and validation, for all lengths and for a last micro-batch of one."""
    compiled: list[object] = []
    honest = torch.nn.Module.compile

    def count(graph: torch.fx.GraphModule, examples: object) -> Any:
        compiled.append(graph)
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: honest(self, backend=count, **how))
    monkeypatch.setattr(torch._dynamo.config, "optimize_ddp", True)
    # As on a GPU: plain kernels, padded shapes.
    monkeypatch.setattr("audiogen_cli.lm.training.train.use_cpu_kernels", lambda model: None)
    for module in (batches, stepping):
        monkeypatch.setattr(module, "encode_texts", lambda *inputs: pad_shapes(encode_texts(*inputs), inputs[2]))
    optim = OptimConfig(lr=1e-2, batch_size=5, micro_batch=2, warmup_steps=0)
    model = ModelShape(dim=16, n_layers=2, n_heads=2, dropout=0.1)
    config = recipe(world, compile=True, model=model, optim=optim, crop_seconds=1.2, probe_samples=0, max_steps=4)
    train(config, world.tokens, world.codec, tmp_path / "run")
    assert 1 <= len(compiled) <= 4
    assert torch._dynamo.config.optimize_ddp is False  # else DDP's buckets would cut the graphs
