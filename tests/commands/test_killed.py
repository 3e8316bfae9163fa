"""prep and tokenize, killed in the middle of their work: the next run ends with what a calm one would have written."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.manifests import read_manifest
from helpers.processes import run_audiogen, start

from audiogen_cli.codec import tokenize
from audiogen_cli.data.audio import write_audio


def files(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder but the hidden ones: relative path → bytes.

    A killed process leaves temporary files, which are kept as long as another process has its number.
    """
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {str(name): path.read_bytes() for name, path in found.items() if "/." not in f"/{name}"}


def kill_when(reached: Callable[[], bool], *arguments: object) -> None:
    """Run audiogen as a process and kill it as soon as `reached` is true."""
    process = start(run_audiogen, *arguments, environment={}, output=Path("killed run"))
    while not reached():
        assert process.is_alive() or reached(), Path("killed run.err").read_text()  # it may end in between
        time.sleep(0.002)
    process.kill()
    process.join()


@pytest.fixture
def sixty_sounds(tmp_path: Path) -> Path:
    for number in range(60):
        wav = np.random.default_rng(number).uniform(-0.5, 0.5, 16_000)
        write_audio(tmp_path / "sounds" / f"dog bark {number}.wav", wav, 44_100)
    (tmp_path / "sounds" / "broken.wav").write_bytes(b"RIFF")
    return tmp_path / "sounds"


def test_prep_resumes_after_a_kill(audiogen, sixty_sounds: Path, tmp_path: Path) -> None:
    common = ["prep", "--folder", sixty_sounds, "--name", "mine", "--convert", "flac", "--workers", 1]
    assert audiogen(*common, "--out", tmp_path / "calm").returncode == 0
    copies = tmp_path / "killed" / "mine.audio"
    copies.mkdir(parents=True)
    (copies / ".0123456789abcdef.99999999.tmp").write_bytes(b"fLaC")  # a kill in the middle of a copy
    for n_copies in (10, 40):
        kill_when(lambda n=n_copies: len(list(copies.iterdir())) > n, *common, "--out", tmp_path / "killed")
    assert audiogen(*common, "--out", tmp_path / "killed").returncode == 0
    calm, killed = files(tmp_path / "calm"), files(tmp_path / "killed")
    # manifests also name the folder of the copies, which differs
    first, second = (read_manifest(tmp_path / name / "mine.parquet").clips for name in ("calm", "killed"))
    assert first == second and len(first) == 60
    del calm["mine.parquet"], killed["mine.parquet"]
    assert calm == killed and len(calm) == 61
    assert not list(copies.glob(".*.99999999.tmp"))


def test_tokenize_resumes_after_a_kill(audiogen, sixty_sounds: Path, tiny_codec: Path, tmp_path: Path) -> None:
    audiogen("prep", "--folder", sixty_sounds, "--name", "mine", "--workers", 1, "--out", tmp_path / "manifests")
    common = ["tokenize", "--manifests", tmp_path / "manifests", "--codec", tiny_codec]
    common += ["--mix", 9, "--device", "cpu"]  # 600 rows: two shards
    assert audiogen(*common, "--out", tmp_path / "calm").returncode == 0
    calm = files(tmp_path / "calm")
    assert sum(name.startswith("shard-") for name in calm) == -(-60 * 10 // tokenize.SHARD_ROWS) > 1
    for name in ("shard-00000.parquet", "codec"):
        kill_when((tmp_path / "killed" / name).exists, *common, "--out", tmp_path / "killed")
    assert audiogen(*common, "--out", tmp_path / "killed").returncode == 0
    assert files(tmp_path / "killed") == calm
