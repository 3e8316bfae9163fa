"""Recipes: precedence, the traps of YAML, and errors that name the key."""

import copy
import dataclasses
import re
from pathlib import Path

import pytest

from audiogen_cli.codec.config import CodecTrainConfig
from audiogen_cli.errors import InputError
from audiogen_cli.files import RECIPES
from audiogen_cli.lm.config import TrainConfig
from audiogen_cli.training.recipe import find_recipe, load_recipe, shipped_recipes, validate
from audiogen_cli.training.settings import list_settings


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_set_beats_the_file_and_the_file_beats_the_default(tmp_path):
    path = write(tmp_path, "lr: 5e-4\nlosses:\n  mel: 2\n")
    config = load_recipe(CodecTrainConfig, path, ["losses.time=0.5", "max_steps=7"])
    assert (config.lr, config.losses.mel, config.losses.time, config.max_steps) == (5e-4, 2.0, 0.5, 7)
    assert config.losses.feature == CodecTrainConfig().losses.feature


@pytest.mark.parametrize(
    "text,overrides,message",
    [
        ("lrr: 1", [], r"recipe\.yaml: lrr: "),
        ("losses: {mell: 1}", [], r"losses\.mell: "),
        ("lr: fast", [], r"lr: .*number"),
        ("lr: 1\nlr: 2", [], "not valid YAML"),
        ("- lr", [], "expected keys and values"),
        ("lr: 1", ["lr"], "expected key=value"),
        ("lr: 1", ["lrr=2"], r"^--set lrr: no such setting; did you mean lr"),
        ("lr: 1", ["losses.mel=x"], r"^--set losses\.mel: "),
        ("lr: 1", ["crop_seconds=0.01"], r"^--set: crop_seconds is shorter"),
        ("lr: 1", ["lr.x=1"], "is a value, not a group"),
        ("crop_seconds: 0.01", [], r"yaml: crop_seconds is shorter than the longest mel window"),
        ("codec: {codebook_size: 100000}", [], "codebook_size"),
    ],
)
def test_mistakes_are_named(tmp_path, text, overrides, message):
    with pytest.raises(InputError, match=message):
        load_recipe(CodecTrainConfig, write(tmp_path, text), overrides)


def test_missing_recipe(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: No such file"):
        load_recipe(CodecTrainConfig, tmp_path / "none.yaml")


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_loads_by_its_name(name):
    codec = name.startswith("codec") or name in ("esc50/codec", "esc50/flow")
    load_recipe(CodecTrainConfig if codec else TrainConfig, name)
    assert find_recipe(name) == RECIPES / f"{name}.yaml"


def test_a_file_comes_before_a_shipped_recipe(tmp_path, monkeypatch):
    (tmp_path / "lm-tiny").write_text("seed: 3")
    monkeypatch.chdir(tmp_path)
    assert load_recipe(TrainConfig, "lm-tiny").seed == 3
    with pytest.raises(InputError, match=r"lm-huge.*lm-base, lm-large, lm-tiny"):
        load_recipe(TrainConfig, "lm-huge")


def test_settings_of_older_versions_load():
    old = {
        "samples": {"every": 5, "prompts": ["rain"], "duration": 1.0, "seed": 0},
        "model": {"pattern": "delay", "delays": [0, 2], "ff_scale": 4},
        "optim": {"eps": 1e-8, "grad_clip": 1.0, "lr": 0.1},
        "licence": "mine",
        "trackers": [],
    }
    kept = copy.deepcopy(old)
    config = validate(TrainConfig, old, "old")
    assert (config.previews.every, config.previews.prompts, config.license) == (5, ("rain",), "mine")
    assert (config.model.pattern, config.optim.lr) == ((0, 2), 0.1)
    assert old == kept
    assert validate(TrainConfig, {"model": {"pattern": "delay", "delays": []}}, "old").model.pattern == "delay"
    with pytest.raises(InputError, match=r"optim\.grad_clip: .*always 1\.0"):
        validate(TrainConfig, {"optim": {"grad_clip": 0.5}}, "old")
    with pytest.raises(InputError, match="give train-lm --track"):
        validate(TrainConfig, {"trackers": ["wandb"]}, "old")


@pytest.mark.parametrize("override", ["license=new", "licence=new"])
@pytest.mark.parametrize("written", ["licence: old", "license: old"])
def test_overrides_hold_whichever_name_a_setting_has(tmp_path, written, override):
    path = write(tmp_path, f"{written}\nsamples: {{every: 100, prompts: [dog]}}")
    config = load_recipe(TrainConfig, path, [override, "previews.every=7"])
    assert (config.license, config.previews.every, config.previews.prompts) == ("new", 7, ("dog",))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("model.n_heads=5", "model: dim (256) must be even, at least 4 and a multiple of n_heads (5)"),
        ("model={text_prefix: false, cross_attention: false}", "model: text_prefix and cross_attention are both off"),
    ],
)
def test_a_shape_that_no_model_can_have_is_refused(setting, said):
    with pytest.raises(InputError, match=re.escape(f"--set {said}")):
        load_recipe(TrainConfig, "lm-tiny", [setting])


def test_x32_recipe_is_the_default_codec():
    written = dataclasses.asdict(load_recipe(CodecTrainConfig, "codec-x32"))
    default = dataclasses.asdict(CodecTrainConfig())
    assert written == default


def test_every_setting_is_listed_with_type_default_and_source():
    listed = {setting.key: setting for setting in list_settings(CodecTrainConfig, "codec-x32")}
    assert listed["codec.network.norm"].type == "layer | weight | none"
    assert (listed["betas"].type, listed["betas"].default) == ("list of float", "[0.5, 0.9]")
    assert listed["discriminator.channels"].source == "sec. 3.1"
    assert "k-means" in listed["quantizer.kmeans_vectors"].meaning
    for key, setting in listed.items():  # what is listed can be set
        value = f'"{setting.default}"' if "|" in setting.type or setting.type == "text" else setting.default
        load_recipe(CodecTrainConfig, "codec-x32", [f"{key}={value}"])
    assert {setting.key for setting in list_settings(TrainConfig, "lm-base")} >= {"text.name", "sampling.top_p"}


@pytest.mark.parametrize(
    ("config", "setting", "said"),
    [
        (CodecTrainConfig, "batchsize=3", "did you mean batch_size?"),
        (TrainConfig, "batch_size=3", "did you mean optim.batch_size?"),
        (CodecTrainConfig, "losses.mell=1", "did you mean losses.mel?"),
        (TrainConfig, "colour=red", "no such setting; --settings lists all"),
    ],
)
def test_a_misspelt_setting_is_refused_with_the_likely_one(config, setting, said):
    with pytest.raises(InputError, match=re.escape(said)):
        load_recipe(config, None, [setting])
