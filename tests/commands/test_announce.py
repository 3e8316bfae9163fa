"""What stages say before they work: codec, model, data; and a warning for each departure from the paper."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.manifests import write_manifest

from audiogen_cli.codec.config import CodecConfig, CodecTrainConfig
from audiogen_cli.commands.terminal import announce, estimates
from audiogen_cli.data.manifest import load_manifests
from audiogen_cli.data.totals import Totals, manifest_totals, shard_totals
from audiogen_cli.lm.config import TrainConfig
from audiogen_cli.training.recipe import load_recipe

MIXED = Totals({"train": 20, "val": 2, "test": 0}, {"train": 2.0, "val": 0.1, "test": 0.0}, mixed=10)


@pytest.fixture
def codec(tmp_path: Path, tiny_codec: Path) -> Path:
    """Return a copy of the tiny codec, under a license that allows everything."""
    shutil.copytree(tiny_codec, tmp_path / "codec")
    (tmp_path / "codec" / "LICENSE").write_text("CC0\n")
    return tmp_path / "codec"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x32", "500 frames/s, 1 stream of 2048 codes, 5.5 kbit/s"),
        ("x64", "250 frames/s, 2 streams of 1024 codes, 5 kbit/s"),
        ("x128", "125 frames/s, 4 streams of 512 codes, 4.5 kbit/s"),
    ],
)
def test_codecs_by_rate_streams_and_bitrate(name: str, said: str) -> None:
    assert announce.describe_codec(load_recipe(CodecTrainConfig, f"codec-{name}").codec) == said


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        ("base", "24 layers of 768, 230.6M parameters; text encoder t5-base, with it 340.2M"),
        ("large", "951.2M parameters; text encoder t5-large, with it 1.29B"),
    ],
)
def test_the_papers_models_on_the_papers_codec_have_no_warning(codec: Path, size: str, parameters: str) -> None:
    recipe = load_recipe(TrainConfig, f"lm-{size}")
    plan = announce.plan_lm_training(recipe, codec, CodecConfig(), MIXED, on_the_fly=False)
    assert not plan.warnings
    assert parameters in plan.lines[1]
    assert "20 train (2 h), 2 val (6 min), 10 of them mixed; 256 a step, 200,000 steps, " in plan.lines[2]
    assert "the first after minutes of compiling; 1 process" in plan.lines[2]


def test_each_departure_from_the_paper_is_one_warning(codec: Path) -> None:
    (codec / "LICENSE").write_text("CC BY-NC 4.0: for tests\n")
    recipe = load_recipe(TrainConfig, "lm-base")
    data = replace(MIXED, mixed=0, licenses={"CC BY-NC 3.0": 7, "CC0": 3})
    plan = announce.plan_lm_training(recipe, codec, CodecConfig(sample_rate=24_000), data, on_the_fly=False)
    license, mixes, rate, clips = plan.warnings
    assert license == "the license of the codec forbids selling: CC BY-NC 4.0"
    assert mixes.startswith("no mixed rows") and "tokenize --mix 1" in mixes
    assert rate == "the codec makes 750 frames/s, the paper's models are on 500, 250, 125"
    assert clips == "7 clips are under licenses that forbid selling what is made of them: CC BY-NC 3.0"


@pytest.mark.parametrize(
    ("settings", "warnings"), [(["text_dropout=0"], 1), (["text_dropout=0", "sampling.guidance=1"], 0)]
)
def test_guidance_of_a_model_that_always_had_a_text_is_warned_of(
    codec: Path, settings: list[str], warnings: int
) -> None:
    recipe = load_recipe(TrainConfig, "lm-base", settings)
    plan = announce.plan_lm_training(recipe, codec, CodecConfig(), MIXED, on_the_fly=False)
    assert [warning.startswith("text_dropout is 0: guidance (3)") for warning in plan.warnings] == [True] * warnings


@pytest.mark.parametrize(
    ("license", "forbids"),
    [
        ("CC BY-NC 4.0: these weights", True),
        ("http://creativecommons.org/licenses/by-nc/3.0/", True),
        ("RemArc: non-commercial", True),
        ("captions for academic purposes only", True),
        ("CC BY 4.0", False),
        ("Apache-2.0", False),
        ("Attribution, from Vancouver", False),
    ],
)
def test_licenses_that_forbid_selling(license: str, forbids: bool) -> None:
    assert bool(announce.license_warnings("these weights", license)) == forbids


def test_the_part_of_a_license_that_forbids_is_named():
    license = "MIT: do as you like; the codec in codec/ is under CC BY-NC 4.0: not to be sold"
    assert announce.license_warnings("these weights", license) == [
        "the license of these weights forbids selling: the codec in codec/ is under CC BY-NC 4.0"
    ]


def test_totals_are_those_of_the_rows(clip_manifests: Path, token_shards: Path, tmp_path: Path) -> None:
    found = manifest_totals(clip_manifests, splits=["train", "val"])
    assert found.rows == {"train": 8, "val": 4, "test": 0} and found.hours["train"] == pytest.approx(8 * 0.5 / 3600)
    clips = [
        replace(clip, license="CC BY-NC 3.0" if clip.split == "val" else "") for clip in load_manifests(clip_manifests)
    ]
    write_manifest(tmp_path / "esc50.parquet", clips, {"dataset": "esc50", "root": str(tmp_path), "options": {}})
    assert manifest_totals(tmp_path).licenses == {"CC BY-NC 3.0": 4}
    shards = shard_totals(token_shards)
    assert shards.rows == {"train": 9, "val": 3, "test": 0} and shards.mixed == 0
    assert shards.hours["val"] == pytest.approx((12 + 10 + 8) / 25 / 3600)


def test_stages_say_what_they_do_on_stderr_only(audiogen, clip_manifests: Path, tiny_codec: Path) -> None:
    data = ("--manifests", clip_manifests, "--splits", "train,val")
    made = audiogen("tokenize", *data, "--codec", tiny_codec, "--out", "tokens", "--mix", "0")
    assert made.returncode == 0 and made.stdout == "tokens\n"
    first, clips, warning, *_ = made.stderr.splitlines()
    assert first == f"codec {tiny_codec}: 25 frames/s, 2 streams of 16 codes, 0.2 kbit/s; codec's licence"
    assert clips.startswith("clips: 8 train (4 s), 4 val (2 s), 6 s to encode; 1 process, very roughly ")
    assert warning.startswith("warning: no mixed rows")


def test_what_takes_time_says_how_much(audiogen, clip_manifests: Path) -> None:
    assert estimates.preparing(1_000, 2, copies=True) > estimates.preparing(1_000, 4, copies=False) > 0
    made = audiogen("prep", "--folder", clip_manifests.parent / "raw", "--name", "mine", "--out", "m", "--workers", 1)
    assert "into m on 1 processes" in made.stderr and "very roughly 0.072 s, less for known files" in made.stderr


def test_rounded_weights_are_told_with_the_memory_in_use() -> None:
    cpu = torch.device("cpu")
    (line,) = announce.plan_computing(SimpleNamespace(dtype="int8", device=cpu)).lines
    assert re.fullmatch(r"computing on cpu with weights in int8 \(.*\), [0-9.]+ GB of memory so far", line)
    assert not announce.plan_computing(SimpleNamespace(dtype="float32", device=cpu)).lines
