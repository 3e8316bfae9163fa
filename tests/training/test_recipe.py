"""Recipes: precedence, the traps of YAML, and errors that name the key."""

import dataclasses
from pathlib import Path
from typing import ClassVar

import pytest

from audiogen_cli.codec.config import CodecTrainConfig
from audiogen_cli.errors import InputError
from audiogen_cli.lm.config import TrainConfig
from audiogen_cli.training.recipe import Removed, load_recipe, validate

RECIPES = Path(__file__).parents[2] / "recipes"


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
        ("codec: {codebook_size: 100000}", [], "uint16"),
    ],
)
def test_mistakes_are_named(tmp_path, text, overrides, message):
    with pytest.raises(InputError, match=message):
        load_recipe(CodecTrainConfig, write(tmp_path, text), overrides)


def test_missing_recipe(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: No such file"):
        load_recipe(CodecTrainConfig, tmp_path / "none.yaml")


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("codec*.yaml")), ids=lambda path: path.stem)
def test_every_codec_recipe_loads(path):
    load_recipe(CodecTrainConfig, path)


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("lm*.yaml")), ids=lambda path: path.stem)
def test_every_language_model_recipe_loads(path):
    load_recipe(TrainConfig, path)


@dataclasses.dataclass(frozen=True)
class Renamed:
    """A config whose older files had other settings."""

    FORMER_SETTINGS: ClassVar = {"inner.size": "width", "speed": "inner.pace", "twice": Removed((False, 0))}
    width: int = 1
    inner: dict[str, int] = dataclasses.field(default_factory=dict)


def test_former_settings_are_brought_to_todays_names():
    old = {"inner": {"size": 3}, "speed": 2, "twice": False}
    assert validate(Renamed, old, "run.json") == Renamed(width=3, inner={"pace": 2})
    assert old["inner"] == {"size": 3}  # the caller's settings stay as they are
    with pytest.raises(InputError, match=r"run\.json: twice: no longer a setting, only False or 0 is left; found True"):
        validate(Renamed, {"twice": True}, "run.json")
