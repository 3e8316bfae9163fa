"""Every mistake that a person makes with folders of audio gets its line."""

from __future__ import annotations

import json
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from helpers.fakes import write_clips
from helpers.zoo import chirp

from audiogen_cli.commands.eval import eval_
from audiogen_cli.data.audio import write_audio
from audiogen_cli.errors import AudiogenError, AudiogenWarning, InputError

pytestmark = pytest.mark.usefixtures("network")
NAMES = {f"clip-{index:02d}": index for index in range(12)}


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return write_clips(tmp_path / "reference", NAMES, duration=0.5)


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    return write_clips(tmp_path / "generated", {name: seed + 100 for name, seed in NAMES.items()}, duration=0.5)


def run(capsys: pytest.CaptureFixture[str], code: int = 0, **options: Any) -> dict[str, Any]:
    capsys.readouterr()
    assert eval_(json_=True, **options) == code
    results: dict[str, Any] = json.loads(capsys.readouterr().out)
    return results


def test_more_files_than_clips(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, reference: Path, generated: Path
) -> None:
    write_clips(generated, {f"extra-{i}": i for i in range(5)}, duration=0.5)
    results = run(capsys, reference=reference, generated=generated, out=tmp_path / "out")
    (line,) = [warning for warning in results["warnings"] if "belong to no clip" in warning]
    assert line.startswith("5 files of ") and line.endswith("(extra-0, extra-1, extra-2, …)")
    assert results["n"] == 12


def test_a_clip_far_beyond_full_scale_is_named_each_time(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, reference: Path, generated: Path
) -> None:
    wav, rate = soundfile.read(generated / "clip-03.wav")
    soundfile.write(generated / "clip-03.wav", 32_768 * wav, rate, subtype="FLOAT")
    for _ in range(2):  # the second finds the embeddings of the first
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AudiogenWarning)
            results = run(capsys, reference=reference, generated=generated, out=tmp_path / "out")
        (line,) = [warning for warning in results["warnings"] if "full scale" in warning]
        assert line.startswith("1 generated clips go beyond full scale, clip-03 to ")


def test_many_fewer_files_than_clips(tmp_path: Path, reference: Path, generated: Path) -> None:
    for name in list(NAMES)[:3]:
        (generated / f"{name}.wav").unlink()
    with pytest.raises(InputError, match=r"3 of 12 clips .*\(clip-00, clip-01, clip-02"):
        eval_(reference=reference, generated=generated, out=tmp_path / "out")


def test_names_that_do_not_match_at_all(tmp_path: Path, reference: Path) -> None:
    other = write_clips(tmp_path / "other", {"sound": 1}, duration=0.5)
    with pytest.raises(InputError, match=r"'clip-00\.wav'.*'sound\.wav'"):
        eval_(reference=reference, generated=other, out=tmp_path / "out")


def test_names_need_not_match_with_unpaired(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, reference: Path
) -> None:
    other = write_clips(tmp_path / "other", {f"sound-{i}": i for i in range(7)}, duration=0.5)
    results = run(capsys, reference=reference, generated=other, unpaired=True, metrics="fad,is", out=tmp_path / "out")
    assert results["n"] == 12 and not results["paired"]
    assert set(results["metrics"]) == {"fad_fake", "is_fake", "near_silent"}
    assert "12 references but 7 generated clips" in results["warnings"]
    low, high = results["intervals"]["fad_fake"]
    assert low < results["metrics"]["fad_fake"] < high
    assert results["details"]["clips"]["id"] == [f"sound-{i}" for i in range(7)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": "fad,kl"}, "kl compares each clip with its reference: with --unpaired choose from fad"),
        ({"generated": None, "split": "esc50-test"}, "--unpaired goes with --generated"),
    ],
)
def test_unpaired_has_no_pairs(
    tmp_path: Path, reference: Path, generated: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        eval_(**{"reference": reference, "generated": generated, **options}, unpaired=True, out=tmp_path / "out")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="makes the mp3 files")
def test_a_folder_of_mp3s(capsys: pytest.CaptureFixture[str], tmp_path: Path, reference: Path, generated: Path) -> None:
    for path in sorted(generated.iterdir()):
        subprocess.run(["ffmpeg", "-v", "error", "-i", path, path.with_suffix(".mp3")], check=True)
        path.unlink()
    results = run(capsys, reference=reference, generated=generated, out=tmp_path / "out")
    assert results["n"] == 12
    assert "12 generated clips are lossy files" in "\n".join(results["warnings"])


def test_ogg_is_lossy_too(capsys: pytest.CaptureFixture[str], tmp_path: Path, reference: Path) -> None:
    for name, seed in NAMES.items():
        write_audio(tmp_path / "ogg" / f"{name}.ogg", chirp(seed, 0.5), 16_000)
    results = run(capsys, reference=reference, generated=tmp_path / "ogg", out=tmp_path / "out")
    assert "12 generated clips are lossy files" in "\n".join(results["warnings"])


def test_one_name_twice(tmp_path: Path, reference: Path, generated: Path) -> None:
    write_audio(generated / "clip-00.flac", chirp(0, 0.5), 16_000)
    with pytest.raises(InputError, match=r"clip-00\.flac and clip-00\.wav"):
        eval_(reference=reference, generated=generated, out=tmp_path / "out")


def test_mixed_sample_rates(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, reference: Path, generated: Path
) -> None:
    write_clips(generated, {"clip-03": 3}, duration=0.5, sample_rate=8000)
    results = run(capsys, reference=reference, generated=generated, out=tmp_path / "out")
    assert "mixed sample rates (8000, 16000 Hz)" in str(results["warnings"])


def test_empty_files(capsys: pytest.CaptureFixture[str], tmp_path: Path, reference: Path, generated: Path) -> None:
    (generated / "clip-03.wav").write_bytes(b"")
    write_audio(generated / "clip-04.wav", np.zeros(0, np.float32), 16_000)
    results = run(capsys, 1, reference=reference, generated=generated, out=tmp_path / "out")
    reasons = {item["id"]: item["reason"] for item in results["skipped"]}
    assert set(reasons) == {"clip-03", "clip-04"}
    assert "is empty (0 bytes)" in reasons["clip-03"] and "no audio samples" in reasons["clip-04"]
    assert (results["n"], results["partial"]) == (10, True)


def test_nothing_but_empty_files(tmp_path: Path, reference: Path, generated: Path) -> None:
    for path in generated.iterdir():
        path.write_bytes(b"")
    with pytest.raises(AudiogenError, match=r"none of 12 clips.*is empty"):
        eval_(reference=reference, generated=generated, out=tmp_path / "out")
    assert not (tmp_path / "out" / "results.json").exists()


def test_one_second_clips_and_fewer_clips_than_dimensions(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, reference: Path, generated: Path
) -> None:
    for folder in (reference, generated):
        write_clips(folder, {name: seed + 20 * (folder == generated) for name, seed in NAMES.items()}, duration=1.0)
    results = run(
        capsys, reference=reference, generated=generated, limit=9, metrics="fad,fad-infinity", out=tmp_path / "out"
    )
    assert results["partial"] and results["windows"] == 36  # a second is four windows
    text = "\n".join(results["warnings"])
    for words in ("partial: 9 of 12", "only 9 clips (< 500)", "only 36 windows for embeddings of 60 numbers"):
        assert words in text
    assert results["metrics"]["fad_infinity_fake"] is None  # it takes more than 500 windows
    assert results["metrics"]["fad_fake"] > 0


def test_all_that_is_missing_is_named_at_once(audiogen: Any, tmp_path: Path) -> None:
    called = ("--split", "audiocaps-test", "--model", "runs/none", "--classifier", "passt", "--download")
    done = audiogen("eval", *called)  # nothing is fetched, since the rest is not there
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    manifests, model = done.stderr.split("; also: ")
    assert manifests.startswith("error: data/manifests: no manifests") and "audiogen prep" in manifests
    assert model.startswith("unknown model 'runs/none'")
    three = audiogen("eval", *called[:-1]).stderr.split("; also: ")
    assert len(three) == 3 and three[2].startswith("the weights of passt are not here")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": ["pann"]}, r"--weights pann: give NAME=FILE"),
        ({"weights": ["panns=x.pth"]}, r"--weights panns=x\.pth: choose one of passt, pann"),
        ({"classifier": "pann", "weights": ["pann=x.pth"]}, r"the weights of pann are not at x\.pth"),
        ({"classifier": "vggish-google"}, r"unknown classifier 'vggish-google'"),
        ({"embedding": "openl3"}, r"unknown embedding 'openl3'"),
        ({"metrics": "clap"}, r"clap"),
        ({"reference": Path("nowhere/*.wav")}, r"nowhere: no such folder"),
    ],
)
def test_calls_that_cannot_be(
    tmp_path: Path, reference: Path, generated: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        eval_(**{"reference": reference, "generated": generated, "out": tmp_path / "out", **options})
