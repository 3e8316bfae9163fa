"""What `audiogen info` finds out, of each kind of thing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.manifests import write_manifest
from helpers.zoo import CONFIG
from safetensors.numpy import save_file

from audiogen_cli.data.audio import write_audio
from audiogen_cli.data.loudness import loudness
from audiogen_cli.data.manifest import Clip, Dropped, dropped_file, new_dropped
from audiogen_cli.data.shards import ShardMeta, ShardWriter, TokenRow
from audiogen_cli.errors import InputError
from audiogen_cli.interop import describe as module
from audiogen_cli.interop.describe import describe, text_encoder_parameters
from audiogen_cli.lm.config import TextConfig
from audiogen_cli.model_folder import fingerprint


def _clip(name: str, split: str, text: str) -> Clip:
    return Clip(f"x/{name}", "x", split, f"{name}.wav", 0.0, 36.0, 16_000, 1, (), (), (text,), "CC0")  # type: ignore[arg-type]


def _model(folder: Path, kind: str, config: dict[str, object]) -> Path:
    """A model folder of 2 × 3 float32 and 4 float16 values, without any network behind it."""
    folder.mkdir(parents=True)
    save_file({"a": np.ones((2, 3), np.float32), "b": np.ones(4, np.float16)}, folder / "model.safetensors")
    document = {"format_version": 1, "kind": kind, "audiogen_version": "0", "config": config}
    (folder / "config.json").write_text(json.dumps(document))
    (folder / "LICENSE").write_text("CC0\n")
    return folder


@pytest.mark.parametrize("name", ["out/rain.wav", "runs/manifests", "out/x.parquet"])
def test_a_mistyped_path_is_no_name_on_the_hub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(InputError, match=f"{name}: no such file or folder"):
        describe(Path(name))


def test_a_manifest_is_counted_and_a_folder_of_them_added_up(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    clips = [_clip("a", "train", "dog bark"), _clip("b", "train", "dog"), _clip("c", "val", "rain")]
    write_manifest(path, clips, {"dataset": "x", "root": tmp_path, "options": {}})
    with new_dropped(dropped_file(path)) as drop:
        drop(Dropped("x/d", "train", "d.wav", "missing"))
    facts = describe(path)
    assert (facts["type"], facts["clips"], facts["hours"]) == ("manifest", 3, pytest.approx(0.03))
    assert facts["splits"]["train"] == {"clips": 2, "hours": pytest.approx(0.02)}
    assert facts["texts"]["frequent"] == {"dog": 2, "bark": 1, "rain": 1}
    assert facts["texts"]["words"] == {"fewest": 1, "median": 1, "most": 2}
    assert facts["dropped"] == {"missing": 1}
    assert [sample["id"] for sample in facts["samples"]] == ["x/a", "x/b", "x/c"]
    both = describe(tmp_path)
    assert (both["type"], both["clips"], both["manifests"][0]["dataset"]) == ("manifests", 3, "x")
    assert both["dropped"] == {"missing": 1}


def test_token_shards_have_hours_and_a_bitrate(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, ShardMeta("f" * 64, 2, 1024, 50.0, 16_000, {}), ["key"])
    codes = np.zeros((2, 90), np.int64)
    writer.write(
        0,
        [TokenRow("x/a", "x", "train", ("dog",), codes), TokenRow("x/b", "x", "val", ("cat",), codes, ("x/c",))],
        [{"id": "x/d", "reason": "d.wav: no such file"}],
    )
    writer.finish()
    for path in (tmp_path, tmp_path / "shard-00000.parquet"):
        facts = describe(path)
        assert (facts["type"], facts["counts"]["rows"], facts["mixed_rows"]) == ("shards", 2, 1)
        assert facts["hours"] == pytest.approx(180 / 50 / 3600)
        assert facts["nominal_kbit_per_s"] == pytest.approx(1.0)  # 2 streams × 10 bits × 50 frames
        assert facts["dropped"] == {"unreadable": 1} and facts["texts"]["frequent"] == {"dog": 1, "cat": 1}
        assert facts["samples"] == [{"id": "x/a", "duration": 1.8, "text": "dog"}]


def test_a_codec_is_weighed_without_torch(tmp_path: Path) -> None:
    folder = _model(tmp_path / "codec", "codec", {"n_q": 4})
    facts = describe(folder)
    assert (facts["type"], facts["kind"], facts["parameters"]) == ("model", "codec", 10)
    assert facts["formats"] == {"F32": 6, "F16": 4}
    assert facts["fingerprint"] == fingerprint(folder)
    assert (facts["licence"], facts["config"]) == ("CC0", {"n_q": 4})


def test_a_language_model_is_weighed_with_and_without_its_text_encoder(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, text=TextConfig("t5", "t5-base"), codec_fingerprint="0")
    folder = _model(tmp_path / "lm", "lm", dataclasses.asdict(config))
    _model(folder / "codec", "codec", {})
    facts = describe(folder)
    assert facts["parameters"] == 10
    assert facts["parameters_with_text_encoder"] == 10 + 109_628_544
    assert facts["codec"]["kind"] == "codec"
    assert facts["codec_is_its_own"] is False


@pytest.mark.parametrize(
    ("name", "expected"), [("t5-small", 35_330_816), ("t5-base", 109_628_544), ("t5-large", 334_939_648)]
)
def test_t5_encoders_count_as_published(name: str, expected: int) -> None:
    assert text_encoder_parameters(TextConfig("t5", name)) == expected


def test_a_local_t5_is_counted_by_its_own_configuration(tmp_path: Path) -> None:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=11, d_model=8, d_ff=12, d_kv=3, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
    )
    T5EncoderModel(config).save_pretrained(tmp_path)
    expected = sum(parameter.numel() for parameter in T5EncoderModel(config).parameters())
    assert text_encoder_parameters(TextConfig("t5", str(tmp_path))) == expected
    assert text_encoder_parameters(TextConfig("t5", "someones/t5")) is None


def test_checkpoints_and_runs_are_told_from_models(tmp_path: Path) -> None:
    run = tmp_path / "run"
    checkpoint = _model(run / "checkpoints" / "step-000002", "codec", {})
    (checkpoint / "training.pt").write_bytes(b"")
    (run / "run.json").write_text(json.dumps({"recipe": {"lr": 1}, "inputs": {}}))
    lines = [{"step": 1, "kind": "train", "loss": 2.0}, {"step": 2, "kind": "train", "loss": 1.0}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3, "ki')
    assert describe(checkpoint)["type"] == "checkpoint"
    facts = describe(run)
    assert (facts["type"], facts["checkpoints"], facts["recipe"]) == ("run", ["step-000002"], {"lr": 1})
    assert facts["metrics"]["train"]["loss"] == 1.0


def test_audio_is_measured_in_windows_as_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wav = np.random.default_rng(0).uniform(-0.4, 0.4, (22_050, 2)).astype(np.float32)
    wav[100] = 1.0
    soundfile.write(tmp_path / "a.wav", wav, 22_050, subtype="FLOAT")
    facts = describe(tmp_path / "a.wav")
    assert (facts["type"], facts["sample_rate"], facts["channels"], facts["duration"]) == ("audio", 22_050, 2, 1.0)
    assert facts["loudness"] == loudness(wav, 22_050) and "tags" not in facts
    assert (facts["peak"], facts["clipped_samples"], facts["near_silent"]) == (1.0, 1, False)
    assert facts["rms"] == pytest.approx(float(np.sqrt(np.mean(wav.mean(1) ** 2))), rel=1e-5)
    monkeypatch.setattr(module, "AUDIO_WINDOW", 0.3)
    parts = {"rms": pytest.approx(facts["rms"], rel=1e-5), "loudness": pytest.approx(facts["loudness"], abs=0.2)}
    assert describe(tmp_path / "a.wav") == {**facts, **parts}


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_audio_says_what_made_it(tmp_path: Path, suffix: str) -> None:
    tags = {"title": "a dog", "license": "CC0"}
    write_audio(tmp_path / f"a{suffix}", np.zeros(1_600), tags={**tags, "copyright": "CC0"})
    assert describe(tmp_path / f"a{suffix}")["tags"] == tags


def test_audio_made_here_brings_its_sidecar(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 16_000)
    (tmp_path / "a.json").write_text('{"unrelated": 1}')
    assert "made" not in describe(tmp_path / "a.wav")
    (tmp_path / "a.json").write_text('{"prompt": "dog", "model_fingerprint": "0"}')
    assert describe(tmp_path / "a.wav")["made"]["prompt"] == "dog"


def test_the_embedded_model_goes_by_its_name_and_lists_its_sounds() -> None:
    facts = describe(Path("embedded"))
    assert facts["type"] == "model" and len(facts["sounds"]) == 50 and {"dog", "sea waves"} < {*facts["sounds"]}


def test_everything_else_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        describe(tmp_path / "none")
    with pytest.raises(InputError, match="no manifests, "):
        describe(tmp_path)
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(InputError, match="cannot be read as audio"):
        describe(tmp_path / "notes.txt")
    broken = _model(tmp_path / "broken", "codec", {})
    (broken / "model.safetensors").write_bytes(b"\x08")
    with pytest.raises(InputError, match="damaged"):
        describe(broken)
    (broken / "config.json").write_text("[]")
    with pytest.raises(InputError, match="not a model configuration"):
        describe(broken)
