"""Settings: the recipes' numbers are the paper's, and older files still load."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from audiogen_cli.codec.config import MEL_WINDOWS, CodecConfig, CodecTrainConfig, SEANetConfig
from audiogen_cli.codec.discriminators import WINDOWS
from audiogen_cli.errors import InputError
from audiogen_cli.files import RECIPES
from audiogen_cli.model_folder import EMBEDDED_MODEL, load_config
from audiogen_cli.training.recipe import load_recipe, validate


def test_no_recipe_is_the_x32_recipe_in_every_number():
    assert CodecTrainConfig() == load_recipe(CodecTrainConfig, RECIPES / "codec-x32.yaml")


@pytest.mark.parametrize(
    ("name", "strides", "frame_rate", "n_q", "codebook_size", "kbps"),
    [
        ("x32", (2, 2, 2, 4), 500, 1, 2048, 5.5),
        ("x64", (2, 2, 4, 4), 250, 2, 1024, 5.0),
        ("x128", (2, 4, 4, 4), 125, 4, 512, 4.5),
    ],
)
def test_recipes_are_the_papers_codecs(name, strides, frame_rate, n_q, codebook_size, kbps):
    recipe = load_recipe(CodecTrainConfig, RECIPES / f"codec-{name}.yaml")
    codec, network = recipe.codec, recipe.codec.network
    assert network == SEANetConfig(channels=32, strides=strides, lstm_layers=2, norm="layer")  # sec. 3.1
    assert (codec.sample_rate, codec.latent_dim) == (16_000, 128)
    assert (codec.frame_rate, codec.n_q, codec.codebook_size) == (frame_rate, n_q, codebook_size)
    assert codec.n_q * codec.codebook_size == 2048  # sec. 3.2
    bits = codebook_size.bit_length() - 1
    assert codec.frame_rate * n_q * bits == 1000 * kbps  # Table 2, whose kbps are of 1024 bits
    assert replace(recipe, codec=CodecConfig()) == CodecTrainConfig()  # they differ in nothing else


def test_fixed_numbers_are_the_papers():
    assert MEL_WINDOWS == (32, 64, 128, 256, 512, 1024, 2048)  # eq. 1
    assert WINDOWS == (2048, 1024, 512, 256, 128)  # sec. 3.1


def test_a_light_codec_of_an_older_version_loads(tmp_path: Path):
    document = json.loads((EMBEDDED_MODEL / "codec" / "config.json").read_text())
    network = document["config"]["network"]
    network |= {"roughness": network.pop("noise_power"), "phase_rounds": 4, "start_crops": 512}
    (tmp_path / "config.json").write_text(json.dumps(document))
    config = load_config(tmp_path, "codec", CodecConfig)
    assert config == load_config(EMBEDDED_MODEL / "codec", "codec", CodecConfig)
    assert config.network.noise_power == 0.5 and config.network.flow.steps == 4


SEANET = {"kind": "seanet", "kernel_size": 7, "last_kernel_size": 7, "residual_kernel_size": 3, "compress": 2}
FORMER = {
    "codec": {"network": SEANET},
    "quantizer": {"split": False},
    "discriminator": {"windows": [2048, 1024, 512, 256, 128], "power": 1.0},
    "losses": {"balance": False, "spectrum": 1.0, "mel_scales": [5, 11], "mel_bins": 64, "mel_log": False},
    "adversary_every": 1,
    "compile": True,
    "keep_checkpoints": 5,
    "licence": "mine",
}


def test_former_recipes_load():
    assert validate(CodecTrainConfig, FORMER, "run.json") == CodecTrainConfig(license="mine")
    light = {"kind": "spectral", "roughness": 0.5, "phase_rounds": 4, "start_crops": 24}
    config = validate(CodecTrainConfig, {"codec": {"network": light}}, "run.json")
    assert (config.codec.network.noise_power, config.pca_crops) == (0.5, 24)


def test_gradients_are_not_clipped_to_nothing():
    with pytest.raises(InputError, match="grad_clip: Input should be greater than 0"):
        validate(CodecTrainConfig, {"grad_clip": 0}, "recipe")


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        ("losses", "balance", True),
        ("losses", "mel_log", True),
        ("quantizer", "split", True),
        (None, "adversary_every", 2),
    ],
)
def test_former_settings_that_changed_the_result_are_refused(group, name, value):
    settings = {group: {name: value}} if group else {name: value}
    with pytest.raises(InputError, match=f"{name}: no longer a setting"):
        validate(CodecTrainConfig, settings, "run.json")
