"""`audiogen bench`: what it prints; speeds themselves depend on the machine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from audiogen_cli.bench import start
from audiogen_cli.bench.timing import Timings
from audiogen_cli.data.audio import write_audio

SPEEDS = {"headers", "probe", "prep", "decode", "resample", "read", "convert", "convert_workers"}

RATIOS = [f"{verb}_{kind}" for verb in ("encode", "decode") for kind in ("x_realtime", "peer_ratio")]


def test_data_speeds_are_one_json_object(audiogen, tiny_lm: Path, tmp_path: Path) -> None:
    for number in range(4):
        write_audio(tmp_path / "sounds" / f"{number}.wav", np.zeros(4_410), 44_100)
    (tmp_path / "sounds" / "broken.wav").write_bytes(b"RIFF")
    arguments = ("--folder", "sounds", "--repeats", "1", "--workers", "1", "--device", "cpu", "--json")
    result = audiogen("bench", "data", *arguments, "--model", tiny_lm)
    assert result.returncode == 0, result.stderr
    speeds = json.loads(result.stdout)
    assert all(speeds[name] > 0 for name in SPEEDS | {"tokenize", "probe_peer_ratio", "workers_ratio"})
    assert (speeds["files"], speeds["repeats"], speeds["device"], speeds["dtype"]) == (4, 1, "cpu", "float32")
    assert speeds["hours"] == 0.4 / 3600
    assert [path.name for path in tmp_path.iterdir()] == ["sounds"]


def test_codec_speeds_are_one_json_object(audiogen, tmp_path: Path) -> None:
    from audiogen_cli.codec.config import CodecConfig, SEANetConfig
    from audiogen_cli.codec.model import AudioCodec

    network = SEANetConfig(channels=2, strides=(2, 2, 4, 4), norm="weight")
    AudioCodec(CodecConfig(network=network, latent_dim=8, codebook_size=16)).save(tmp_path / "codec", "ours")
    arguments = ("--model", "codec", "--repeats", "1", "--batch-size", "1", "--device", "cpu", "--json")
    result = audiogen("bench", "codec", *arguments)
    assert result.returncode == 0, result.stderr
    speeds = json.loads(result.stdout)
    assert all(speeds[name] > 0 for name in RATIOS)
    assert [*speeds["batches"]] == ["1"]
    assert speeds["batches"]["1"]["decoded_difference"] < 1e-4
    assert speeds["batches"]["1"]["codes_equal"] > 0.99
    assert (speeds["repeats"], speeds["device"], speeds["dtype"]) == (1, "cpu", "float32")


def test_codec_without_a_peer(audiogen, tiny_lm: Path) -> None:
    result = audiogen("bench", "codec", "--model", tiny_lm, "--repeats", "1", "--batch-size", "1", "--device", "cpu")
    assert result.returncode == 0, result.stderr
    rows = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if "(" not in line)
    assert rows["peer"] == rows["encode_peer_ratio"] == "None"
    assert float(rows["decode_x_realtime"]) > 0


def test_nothing_to_measure_is_refused(audiogen, tmp_path: Path) -> None:
    (tmp_path / "sounds").mkdir()
    for arguments, reason in (
        (("data", "--folder", "sounds"), "sounds"),
        (("data", "--model", "absent"), "absent"),
        (("codec", "--model", "absent"), "absent"),
        (("speed",), "'speed'"),
    ):
        result = audiogen("bench", *arguments)
        assert (result.returncode, result.stdout) == (2, ""), result.stderr
        assert reason in result.stderr


def test_decoding_speeds_are_one_json_object(audiogen) -> None:
    arguments = ("--size", "tiny", "--streams", "4", "--steps", "2", "--repeats", "1", "--device", "cpu")
    result = audiogen("bench", "lm", *arguments, "--no-peer", "--json")
    assert result.returncode == 0, result.stderr
    speeds = json.loads(result.stdout)
    assert speeds["tokens_per_s"] > 0 and 0 < speeds["floor_ratio"] <= 1 and speeds["bytes_per_step"] > 0
    assert (speeds["kind"], speeds["size"], speeds["peer_ratio"], speeds["repeats"]) == ("lm", "tiny", None, 1)
    assert speeds["formats"][speeds["dtype"]]["floor_ratio"] == speeds["floor_ratio"]
    assert all(each["steps_per_s"] > 0 and each["read_gb_s"] > 0 for each in speeds["formats"].values())
    assert audiogen("bench", "lm", "--streams", "3").returncode == 2


def test_starts_are_multiples_of_torchs_import(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"torch": 2.0, "load": 3.0, "generate": 5.0}
    monkeypatch.setattr(start, "time_in_turn", lambda runs, repeats: Timings({name: [seconds[name]] for name in runs}))
    result = start.measure_start(None, 1)
    assert (result["load_torch_ratio"], result["generate_torch_ratio"], result["torch_s"]) == (1.5, 2.5, 2.0)


def test_lm_measures_the_other_decoder_too(audiogen, tiny_diffusion: Path) -> None:
    options = ("--steps", "2", "--repeats", "1", "--device", "cpu", "--json")
    result = audiogen("bench", "lm", "--model", tiny_diffusion, *options)
    assert result.returncode == 0, result.stderr
    speeds = json.loads(result.stdout)
    assert speeds["steps"] == 2 and speeds["tokens_per_s"] > 0 and speeds["peer_ratio"] is None
    assert abs(speeds["tokens_per_s"] * speeds["real_time_factor"] - 2 * 25) < 1e-6  # tokens of a second
