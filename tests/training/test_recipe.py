"""Recipes: precedence, the traps of YAML, and errors that name the key."""

import copy
import dataclasses
from pathlib import Path

import pytest

from audiogen_cli.codec.config import CodecTrainConfig
from audiogen_cli.errors import InputError
from audiogen_cli.files import RECIPES
from audiogen_cli.lm.config import TrainConfig
from audiogen_cli.training.recipe import find_recipe, load_recipe, shipped_recipes, validate


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
        ("lr: 1", ["lr.x=1"], "is a value, not a group"),
        ("crop_seconds: 0.01", [], "shorter than the longest mel window"),
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


def test_x32_recipe_is_the_default_codec():
    written = dataclasses.asdict(load_recipe(CodecTrainConfig, "codec-x32"))
    default = dataclasses.asdict(CodecTrainConfig())
    assert written == default
