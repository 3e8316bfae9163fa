"""`audiogen prep` and `audiogen tokenize` as a user types them: from a folder of sounds to token shards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.manifests import read_manifest
from helpers.raw_trees import EXPECTED, build_raw

from audiogen_cli.data.audio import write_audio
from audiogen_cli.data.datasets.registry import SOURCES
from audiogen_cli.data.shards import load_shards
from audiogen_cli.errors import AudiogenWarning


@pytest.fixture
def four_sounds(tmp_path: Path) -> Path:
    for number, name in enumerate(("dog/bark.wav", "dog/a speech.wav", "rain/heavy.flac", "val/rain/light.ogg")):
        write_audio(tmp_path / "sounds" / name, np.random.default_rng(number).uniform(-0.5, 0.5, 8_000))
    (tmp_path / "sounds" / "broken.wav").write_bytes(b"RIFF")
    return tmp_path / "sounds"


def test_a_folder_becomes_a_manifest_and_shards(audiogen, four_sounds: Path, tiny_lm: Path, tmp_path: Path) -> None:
    prepared = audiogen("prep", "--folder", four_sounds, "--name", "mine", "--out", "manifests", "--workers", "1")
    assert prepared.returncode == 0
    assert prepared.stdout == "manifests/mine.parquet\n"  # the result, and nothing else
    assert prepared.stderr.startswith(f"preparing 5 items of {four_sounds} into manifests on 1 processes")
    assert "unreadable" in prepared.stderr and "speech" in prepared.stderr and "next: audiogen" in prepared.stderr
    assert len(read_manifest(tmp_path / "manifests" / "mine.parquet").clips) == 3
    reasons = [json.loads(line)["reason"] for line in (tmp_path / "manifests/mine.dropped.jsonl").open()]
    assert sorted(reasons) == ["speech", "unreadable"]

    # a language model's folder stands for the codec in it
    arguments = ("--manifests", "manifests", "--codec", tiny_lm, "--out", "tokens", "--mix", "1", "--device", "cpu")
    tokenized = audiogen("tokenize", *arguments, "--json")
    assert tokenized.returncode == 0, tokenized.stderr
    counts = json.loads(tokenized.stdout)
    assert (counts["rows"], counts["train"], counts["val"], counts["failed"]) == (5, 4, 1, 0)
    assert len(load_shards(tmp_path / "tokens", ["train"])) == 4

    refused = audiogen("tokenize", *arguments[:-4], "--mix", "2", "--device", "cpu")
    assert refused.returncode == 2 and refused.stdout == ""
    assert refused.stderr.splitlines()[-1].startswith("error: tokens ")


def test_all_datasets_in_one_run(audiogen, tmp_path: Path) -> None:
    build_raw(tmp_path / "data/raw")
    result = audiogen("prep", "--datasets", ",".join(SOURCES), "--workers", "1")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [f"data/manifests/{key}.parquet" for key in SOURCES]
    listed = audiogen("info", "data/manifests", "--json")
    facts = json.loads(listed.stdout)
    assert facts["clips"] == sum(len(names) for splits, _ in EXPECTED.values() for names in splits.values())
    lost = [len(ids) for _, reasons in EXPECTED.values() for ids in reasons.values()]
    assert sum(facts["dropped"].values()) == sum(lost)


def test_prep_prints_one_json_object_per_dataset(audiogen, four_sounds: Path) -> None:
    result = audiogen("prep", "--folder", four_sounds, "--keep-speech", "--workers", "1", "--json")
    (report,) = map(json.loads, result.stdout.splitlines())
    assert report["dataset"] == "sounds" and report["manifest"] == "data/manifests/sounds.parquet"
    assert report["clips"] == {"train": 3, "val": 1, "test": 0} and report["dropped"] == {"unreadable": 1}


@pytest.mark.parametrize(
    "arguments, fragment",
    [
        (["prep"], "--datasets"),
        (["prep", "--datasets", "esc51"], "'esc51'"),
        (["prep", "--datasets", "esc50"], "meta/esc50.csv"),
        (["prep", "--folder", "absent"], "absent: "),
        (["tokenize", "--codec", "embedded", "--manifests", "absent"], "audiogen prep"),
        (["tokenize"], "--codec FOLDER (audiogen train-codec makes one), or --codec embedded"),
        (["tokenize", "--device", "gpu"], "'gpu'"),
    ],
)
def test_bad_calls_end_with_one_line_and_2(audiogen, tmp_path: Path, arguments: list[str], fragment: str) -> None:
    result = audiogen(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1 and fragment in result.stderr
    assert not list(tmp_path.iterdir())


def test_all_datasets_that_are_missing_are_listed_with_what_to_type(audiogen, tmp_path: Path) -> None:
    build_raw(tmp_path / "data/raw", "esc50")
    result = audiogen("prep", "--datasets", "audiocaps,esc50,bbc")
    assert (result.returncode, result.stdout) == (2, "")
    first, audiocaps, bbc, last = result.stderr.splitlines()
    assert first == "error: 2 of 3 datasets are not there"
    assert (
        audiocaps.startswith("audiocaps: ")
        and "git clone https://github.com/cdjkim/audiocaps data/raw/audio" in audiocaps
    )
    assert bbc.startswith("bbc: ") and "to get it: wget -P data/raw/bbc" in bbc
    assert last == "then run again: audiogen prep --datasets audiocaps,esc50,bbc"
    assert not (tmp_path / "data/manifests").exists()


def test_hours_stand_beside_the_papers(audiogen, tmp_path: Path) -> None:
    build_raw(tmp_path / "data/raw", "bbc")
    result = audiogen("prep", "--datasets", "bbc", "--workers", "1")
    (row,) = [line for line in result.stderr.splitlines() if line.startswith("bbc ") and " train " in line]
    assert row.endswith("of the paper's 463 before its filters (Table 3)")


def test_lists_without_one_recording_are_a_missing_dataset(audiogen, tmp_path: Path) -> None:
    build_raw(tmp_path / "data/raw", "audiocaps")
    shutil.rmtree(tmp_path / "data/raw/audiocaps/waveforms")
    result = audiogen("prep", "--datasets", "audiocaps")
    assert result.returncode == 2 and "none of them is there" in result.stderr
    assert "Downloader" in result.stderr


def test_the_splits_of_a_folder_and_what_follows_are_said(audiogen, tmp_path: Path) -> None:
    for number in range(4):
        write_audio(tmp_path / "sounds" / f"{'abcd'[number]} dog.wav", np.full(800, 0.1))
    without = audiogen("prep", "--folder", "sounds", "--workers", "1")
    assert "note: no clip is in val" in without.stderr and "--val 0.1" in without.stderr
    result = audiogen("prep", "--folder", "sounds", "--val", "0.25", "--workers", "1")
    assert result.returncode == 0 and "note:" not in result.stderr
    assert "splits of sounds: train 3 clips (0.15 s), val 1 clip (0.05 s), chosen by file name" in result.stderr
    steps = [line for line in result.stderr.splitlines() if line.startswith(("next: ", "or a codec"))]
    assert "audiogen tokenize --manifests data/manifests --codec embedded" in steps[0]
    assert "audiogen train-codec --manifests data/manifests --out runs/codec" in steps[1]
    assert "audiogen tokenize --manifests data/manifests --codec runs/codec" in steps[1]
    refused = audiogen("prep", "--folder", "sounds", "--val", "1.5")
    assert refused.returncode == 2 and "--val" in refused.stderr


def test_sonniss_terms_are_printed_and_a_dataset_without_clips_fails_at_the_end(audiogen, tmp_path: Path) -> None:
    write_audio(tmp_path / "data/raw/sonniss/A - Dogs/bark.wav", np.zeros(800))
    (tmp_path / "data/raw/paramount/ODEON Sound Effects").mkdir(parents=True)
    (tmp_path / "data/raw/paramount/ODEON Sound Effects/Whoosh 1.wav").write_bytes(b"")
    result = audiogen("prep", "--datasets", "paramount,sonniss", "--workers", "1")
    assert (result.returncode, result.stdout) == (1, "data/manifests/sonniss.parquet\n")
    assert result.stderr.count("FORBIDS training AI") == 1
    assert result.stderr.splitlines()[-1].startswith("error: paramount: ")


def test_of_a_long_recording_that_was_cut_short_the_windows_that_are_there_are_used(
    audiogen, tiny_lm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiogen_cli.data.audio._warned", set())
    write_audio(tmp_path / "sounds" / "rain.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 40 * 16_000))
    content = (tmp_path / "sounds" / "rain.wav").read_bytes()
    (tmp_path / "sounds" / "rain.wav").write_bytes(content[: 25 * 32_000])
    with pytest.warns(AudiogenWarning, match=r"rain\.wav: damaged or cut short: 240022 samples .* what is left of it"):
        prepared = audiogen("prep", "--folder", "sounds", "--out", "manifests", "--workers", "1")
    assert prepared.returncode == 0
    arguments = ("--codec", tiny_lm, "--out", "tokens", "--mix", "0", "--device", "cpu")
    tokenized = audiogen("tokenize", "--manifests", "manifests", *arguments)
    assert tokenized.returncode == 1 and "error: 2 rows could not be read and are left out" in tokenized.stderr
    assert "rain.wav: damaged or cut short" in tokenized.stderr
    assert len(load_shards(tmp_path / "tokens", ["train"])) == 2
