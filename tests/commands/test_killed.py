"""prep and tokenize, killed at random moments: the next run ends with what an undisturbed one would have written."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from audiogen_cli.codec import tokenize
from audiogen_cli.data.audio import write_audio
from audiogen_cli.data.manifest import read_manifest

KILLS = 2


def files(folder: Path) -> dict[str, bytes]:
    """What lies in a folder, but for hidden files."""
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {str(name): path.read_bytes() for name, path in found.items() if not str(name).startswith(".")}


def run(arguments: list[object], after: float | None = None) -> float:
    """Run audiogen, killed after so many seconds; returns how long it took."""
    began = time.monotonic()
    # No pipes: the worker processes of a killed run would hold them open for a while.
    process = subprocess.Popen([sys.executable, "-m", "audiogen_cli", *map(str, arguments)], stdout=subprocess.DEVNULL)
    try:
        assert process.wait(timeout=after) == 0
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return time.monotonic() - began


def disturb(arguments: list[object], duration: float, seed: int) -> None:
    """Kill the command at random moments of its work, then let it finish."""
    draws = random.Random(seed)
    for _ in range(KILLS):
        run(arguments, after=draws.uniform(0.5, 1.0) * duration)
    run(arguments)


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    for number in range(60):
        wav = np.random.default_rng(number).uniform(-0.5, 0.5, 16_000)
        write_audio(tmp_path / "sounds" / f"dog bark {number}.wav", wav, 44_100)
    (tmp_path / "sounds" / "broken.wav").write_bytes(b"RIFF")
    return tmp_path / "sounds"


def test_prep_goes_on_after_kills(sounds: Path, tmp_path: Path) -> None:
    common: list[object] = ["prep", "--folder", sounds, "--name", "mine", "--convert", "flac", "--workers", 1]
    duration = run([*common, "--out", tmp_path / "calm"])
    (tmp_path / "killed" / "mine.audio").mkdir(parents=True)
    (tmp_path / "killed" / "mine.audio" / ".dog bark 0.wav.flac.1.tmp").write_bytes(b"fLaC")  # a kill in mid-copy
    disturb([*common, "--out", tmp_path / "killed"], duration, seed=1)
    calm, killed = files(tmp_path / "calm"), files(tmp_path / "killed")
    # manifests also name the folder of the copies, which differs
    first, second = (read_manifest(tmp_path / name / "mine.parquet").clips for name in ("calm", "killed"))
    assert first == second and len(first) == 60
    del calm["mine.parquet"], killed["mine.parquet"]
    assert calm == killed and len(calm) == 61
    assert not list((tmp_path / "killed").glob(".mine*.tmp"))


def test_tokenize_goes_on_after_kills(sounds: Path, tiny_lm: Path, tmp_path: Path) -> None:
    run(["prep", "--folder", sounds, "--name", "mine", "--workers", 1, "--out", tmp_path / "manifests"])
    common: list[object] = ["tokenize", "--manifests", tmp_path / "manifests", "--codec", tiny_lm]
    common += ["--mix", 9, "--device", "cpu"]  # 600 rows: two shards
    duration = run([*common, "--out", tmp_path / "calm"])
    disturb([*common, "--out", tmp_path / "killed"], duration, seed=2)
    calm = files(tmp_path / "calm")
    assert sum(name.startswith("shard-") for name in calm) == -(-60 * 10 // tokenize.SHARD_ROWS) > 1
    assert files(tmp_path / "killed") == calm
