"""Fine-tuning of an imported model: its own codec, its raw captions, delayed streams and padding that is not masked."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.exported import CARD, DELAYS, N_Q, TEXT_WIDTH, delayed, reference_logits, write_checkpoint
from helpers.runs import read_losses
from helpers.zoo import chirp, make_t5

from audiogen_cli.data.audio import write_audio
from audiogen_cli.interop.describe import describe_model
from audiogen_cli.interop.import_audiocraft import import_checkpoint
from audiogen_cli.lm.adapters import add_adapters, find_adapters, load_adapter
from audiogen_cli.lm.config import LMConfig, TrainConfig
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.training.preflight import inherited_settings
from audiogen_cli.lm.training.train import build_model
from audiogen_cli.model_card import license_header
from audiogen_cli.model_folder import fingerprint, load_config
from audiogen_cli.training.recipe import load_recipe, parse_yaml

Run = Callable[..., subprocess.CompletedProcess[str]]

SHORT = ("--set=optim.batch_size=4", "--set=log_every=1", "--set=precision=no", "--set=validate_every=20")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an imported model, `model`, and six recordings with captions, `sounds`."""
    folder = tmp_path_factory.mktemp("finetune")
    checkpoint = write_checkpoint(folder / "export")
    import_checkpoint(str(checkpoint), folder / "model", str(make_t5(folder / "t5", TEXT_WIDTH)))
    captions = ["file,caption,split"]
    for number in range(6):
        write_audio(folder / "sounds" / f"{number}.wav", chirp(number, 0.3), 16_000)
        captions.append(f"{number}.wav,The {('dog', 'bark')[number % 2]}!,{'val' if number == 5 else 'train'}")
    (folder / "captions.csv").write_text("\n".join(captions) + "\n")
    return folder


@pytest.fixture
def run(audiogen: Run, place: Path, tmp_path: Path) -> Run:
    """Run a command, which must succeed, beside the model's token shards."""
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)

    def succeed(*arguments: object) -> subprocess.CompletedProcess[str]:
        done = audiogen(*arguments)
        assert done.returncode == 0, (arguments, done.stderr)
        return done

    succeed("prep", "--folder", "sounds", "--captions", "captions.csv", "--name", "mine", "--workers", "1")
    succeed("tokenize", "--codec", "model", "--mix", "0")
    return succeed


def test_training_begins_with_the_logits_of_the_public_model(place: Path) -> None:
    base = load_config(place / "model", "lm", LMConfig)
    config = load_recipe(TrainConfig, "finetune", ["model.dropout=0.5"], inherited_settings(base))
    assert (config.model.text_processing, config.model.pattern, config.crop_seconds) == ("none", tuple(DELAYS), 1.0)
    trained = build_model(config, base, place / "model" / "codec", place / "model", torch.device("cpu")).eval()
    random = torch.Generator().manual_seed(2)
    codes = torch.randint(CARD, (3, N_Q, 20), generator=random)
    text = torch.randn(3, 7, TEXT_WIDTH, generator=random)
    mask = torch.arange(7) < torch.tensor([7, 3, 0])[:, None]
    ours = trained(codes, text, mask).logits
    assert torch.equal(ours, AudioLanguageModel.load(place / "model")(codes, text, mask).logits)
    theirs = reference_logits(delayed(codes), text, mask)
    for k, late in enumerate(DELAYS):
        torch.testing.assert_close(ours[:, k].double(), theirs[:, k, late : late + 20], atol=1e-4, rtol=1e-4)


def test_an_imported_model_learns_and_generates(run: Run, tmp_path: Path) -> None:
    done = run("train-lm", "--from", "model", *SHORT, "--max-steps", "20", "--set=freeze=[embedding]", "--out", "tuned")
    assert "begins with model: CC BY-NC 4.0" in done.stderr
    losses = read_losses(tmp_path / "tuned")
    assert len(losses) == 20 and losses[-1] < losses[0]
    facts, before = describe_model(tmp_path / "tuned"), describe_model(tmp_path / "model")
    assert facts["licence"] == before["licence"] and facts["codec"]["fingerprint"] == before["codec"]["fingerprint"]
    changed = {"audiogen_version", "dropout", "sampling", "max_frames"}
    assert {key: facts["config"][key] for key in facts["config"].keys() - changed} == {
        key: before["config"][key] for key in before["config"].keys() - changed
    }
    old, new = (AudioLanguageModel.load(tmp_path / name).state_dict() for name in ("model", "tuned"))
    assert torch.equal(old["embedding.table.weight"], new["embedding.table.weight"])  # frozen
    assert not torch.equal(old["heads.linear.weight"], new["heads.linear.weight"])
    assert new["null_text"].count_nonzero() == 0  # no text stays a vector of zeros
    run("generate", "dog", "--model", "tuned", "--duration", "0.1", "--seed", "1", "-o", "a.wav")


def test_an_adapter_changes_an_imported_model_and_leaves_it_as_it_is(run: Run, audiogen: Run, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    before = fingerprint(tmp_path / "model")
    arguments = ("train-lm", "--from", "model", "--lora", "4", *SHORT, "--set=validate_every=10", "--set=ema_decay=0.9")
    run(*arguments, "--max-steps", "10", "--out", "stopped")  # and resumed
    run(*arguments, "--max-steps", "20", "--out", "stopped")
    done = run(
        *arguments, "--max-steps", "20", "--out", "lora", "--set=previews={every: 20, prompts: [dog], duration: 0.1}"
    )
    assert "an adapter of rank 4 for model" in done.stderr and "--model model --adapter lora" in done.stderr
    losses = read_losses(tmp_path / "lora")
    assert len(losses) == 20 and losses[-1] < losses[0]
    assert losses == read_losses(tmp_path / "stopped") and fingerprint(tmp_path / "model") == before
    for name in ("stopped", "lora/checkpoints/step-000020"):
        assert load_adapter(tmp_path / name).keys() == load_adapter(tmp_path / "lora").keys()
        for key, value in load_adapter(tmp_path / name).items():
            assert torch.equal(value, load_adapter(tmp_path / "lora")[key])
    assert [*(tmp_path / "lora" / "samples").rglob("*.wav")]

    learned = {name: bool(value.any()) for name, value in load_adapter(tmp_path / "lora").items()}
    assert all(learned.values()), learned  # those of the cross-attention, too, however short its texts are
    facts = json.loads(run("info", "lora", "--json").stdout)
    assert (facts["type"], facts["base"], facts["rank"]) == ("adapter", before, 4) and facts["megabytes"] < 0.1

    # Plain, with the adapter, and merged: the same sound as each should.
    sounds = {}
    run("import", "model", "--adapter", "lora", "--out", "merged")
    calls = {"plain": (), "off": ("--adapter", "lora=0"), "on": ("--adapter", "lora")}
    for name, more in calls.items():
        run("generate", "dog", "--model", "model", *more, "--duration", "0.1", "--seed", "1", "-o", f"{name}.wav")
        sounds[name] = (tmp_path / f"{name}.wav").read_bytes()[44:3000]
    assert sounds["plain"] == sounds["off"] != sounds["on"]

    text, mask = torch.randn(2, 3, TEXT_WIDTH), torch.ones(2, 3, dtype=torch.bool)
    codes = torch.randint(CARD, (2, N_Q, 12))
    adapted = AudioLanguageModel.load(tmp_path / "model")
    add_adapters(adapted, find_adapters(["lora"], tmp_path / "model"))
    logits = adapted(codes, text, mask).logits
    merged = AudioLanguageModel.load(tmp_path / "merged")(codes, text, mask).logits
    torch.testing.assert_close(merged, logits, atol=1e-5, rtol=0)
    theirs = peft.PeftModel.from_pretrained(AudioLanguageModel.load(tmp_path / "model"), tmp_path / "lora")
    torch.testing.assert_close(theirs(codes, text, mask).logits, logits, atol=1e-4, rtol=1e-4)
    twice = AudioLanguageModel.load(tmp_path / "model")
    add_adapters(twice, find_adapters(["lora=0.25", "lora=0.75"], tmp_path / "model"))
    torch.testing.assert_close(twice(codes, text, mask).logits, logits, atol=1e-4, rtol=1e-4)

    for arguments, fragment in (
        (("--model", "merged", "--adapter", "lora"), "was trained on the model"),
        (("--model", "model", "--adapter", "lora=much"), "strength"),
        (("--model", "model", "--adapter", "model"), "no adapter"),
        (("--model", "model", "--adapter", "nowhere"), "--adapter nowhere: unknown model"),
        (("--model", "lora"), "--adapter"),
    ):
        done = audiogen("generate", "dog", *arguments, "-o", "x.wav")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1) and fragment in done.stderr, done.stderr


def test_parts_to_freeze_must_exist(run: Run, audiogen: Run) -> None:
    done = audiogen("train-lm", "--from", "model", *SHORT, "--set=freeze=[ears]", "--out", "x")
    assert done.returncode == 2 and "no part 'ears'" in done.stderr


def test_every_folder_of_a_training_has_a_card_for_the_hub(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    run("train-lm", "--from", "model", "--lora", "2", *SHORT, "--max-steps", "2", "--out", "lora")
    for folder in (tmp_path / "lora", tmp_path / "lora" / "checkpoints" / "step-000002"):
        text = (folder / "README.md").read_text()
        header = parse_yaml(text.split("---\n")[1], "README.md")
        assert header["license"] == "cc-by-nc-4.0" and header["pipeline_tag"] == "text-to-audio"
        assert {"audiogen", "adapter", "lora"} <= set(header["tags"]) and header["datasets"] == ["mine"]
        assert "loss" in header["metrics"] and "| trained from | model |" in text
    (tmp_path / "lora" / "README.md").write_text("my own")
    run("train-lm", "--from", "model", "--lora", "2", *SHORT, "--max-steps", "3", "--out", "lora")
    assert (tmp_path / "lora" / "README.md").read_text() == "my own"


@pytest.mark.parametrize(
    ("line", "license"),
    [
        ("CC BY-NC 4.0: Meta's licence", "cc-by-nc-4.0"),
        ("CC-BY-4.0", "cc-by-4.0"),
        ("CC0\n", "cc0-1.0"),
        ("MIT License", "mit"),
        ("CC0: for tests only; CC BY-NC 4.0: not to be sold", "other"),
        ("Mine", "other"),
    ],
)
def test_licenses_have_the_hubs_names(line: str, license: str) -> None:
    assert license_header(line)["license"] == license
