"""`audiogen eval --task continuation`: the grid, its partners, what it scores, and what a second run makes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fakes import FakeGenerator

from audiogen_cli.commands.eval import eval_
from audiogen_cli.data.audio import read_audio, write_audio
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.audio_sources import CodecAudio, ContinuationAudio, Reconstructor, Recording
from audiogen_cli.evaluation.tasks.continuation import Cell

pytestmark = pytest.mark.usefixtures("network")


@pytest.fixture
def options(tmp_path: Path, clip_manifests: Path, tiny_codec: Path, generator: FakeGenerator) -> dict[str, Any]:
    return {
        "task": "continuation",
        "split": "esc50-test",
        "manifests": clip_manifests,
        "model": str(tiny_codec),
        "prompt_seconds": "0.1,0.3",
        "out": tmp_path / "out",
    }


@pytest.fixture
def raw(clip_manifests: Path) -> Iterator[Path]:
    """The folder of the recordings, which are put back after the test."""
    folder = clip_manifests.parent / "raw"
    before = {path: path.read_bytes() for path in folder.iterdir()}
    yield folder
    for path, content in before.items():
        path.write_bytes(content)


def run(options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert eval_(json_=True, **options) == 0
    results: dict[str, Any] = json.loads(capsys.readouterr().out)
    return results


def test_the_grid(options: dict[str, Any], capsys: pytest.CaptureFixture[str], generator: FakeGenerator) -> None:
    results = run(options, capsys)
    cells = results["details"]["cells"]
    assert [(cell["prompt_seconds"], cell["text"], cell["scored"]) for cell in cells[:4]] == [
        (0.1, "src", "whole"),
        (0.1, "src", "continuation"),
        (0.1, "none", "whole"),
        (0.1, "none", "continuation"),
    ]
    assert len(cells) == 2 * 3 * 2
    for cell in cells:
        assert cell["fad_fake"] > 0
        assert (cell["kl_fake_rnd"] is None) == (cell["text"] == "src")
        for name in ("fad_fake", "kl_fake_src"):
            low, high = cell["intervals"][name]
            assert 0 <= low <= cell[name] <= high > low
    assert results["intervals"]["fad_fake 0.3s rnd continuation"] == cells[-1]["intervals"]["fad_fake"]
    assert results["metrics"]["fad_fake 0.1s src whole"] == cells[0]["fad_fake"]
    assert results["n"] == 12 and not results["partial"]
    assert results["baselines"]["codec reconstruction"]["kl_fake_src"] > 0
    assert results["baselines"]["reference, shuffled"]["kl_fake_src"] > 0
    assert len(list((options["out"] / "continuation" / "0.3s-none").glob("*.wav"))) == 12


def test_texts_prompts_and_partners(
    options: dict[str, Any], capsys: pytest.CaptureFixture[str], generator: FakeGenerator, clip_manifests: Path
) -> None:
    results = run(options, capsys)
    pairs = results["details"]["pairs"]
    texts = {f"esc50/5-{i}-A-0": ("dog", "clock alarm", "rain")[i % 3] for i in range(12)}
    assert all(one != other and texts[one] != texts[other] for one, other in pairs.items())
    by_cell = [generator.requests[12 * i : 12 * (i + 1)] for i in range(6)]
    ids = sorted(texts, key=lambda name: int(name.split("-")[1]))
    assert [request.text for request in by_cell[0]] == [texts[name] for name in ids]
    assert [request.text for request in by_cell[1]] == [None] * 12
    for first, later in ((by_cell[2], by_cell[5]),):  # the partner is the same in every cell
        assert [request.text for request in first] == [request.text for request in later]
        assert [request.text for request in first] == [texts[pairs[name]] for name in ids]
    real = read_audio(clip_manifests.parent / "raw" / "5-0-A-0.wav")
    assert (by_cell[3][0].prompt_audio == real[:4800]).all()
    assert {request.duration for request in generator.requests} == {0.5}
    assert len({request.seed for request in generator.requests}) == 72


def test_a_second_run_makes_only_what_is_missing(
    options: dict[str, Any], capsys: pytest.CaptureFixture[str], generator: FakeGenerator
) -> None:
    options["limit"] = 3
    first = run(options, capsys)
    sounds = sorted((options["out"] / "continuation" / "0.1s-rnd").glob("*.wav"))
    sounds[1].unlink()
    again = run(options, capsys)
    assert len(generator.requests) == 18 + 1
    assert again["metrics"] == first["metrics"]
    run({**options, "seed": 1}, capsys)
    assert len(generator.requests) == 18 + 1 + 18


def test_the_table(options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    eval_(**options, metrics="kl", limit=6)
    title, model, header, *rows = capsys.readouterr().out.splitlines()
    assert title == "esc50-test, 6 clips, partial"
    assert model.startswith("model tiny (models/tiny), ffffffffffff: ")
    assert header.split() == ["text", "prompt", "scored", "kl_fake_src", "kl_fake_rnd"]
    assert re.match(r"own text \(SRC\) +0\.1 s +whole +[\d.e-]+ \[", rows[0])
    assert len(rows) == 2 * 6 + 3  # two rows a cell; baselines with their header


def test_clips_too_short_for_the_longest_prompt(options: dict[str, Any]) -> None:
    with pytest.raises(
        InputError, match=r"0 clips to continue; .* 0\.5 s: the longest of --prompt-seconds needs 0\.65 s"
    ):
        eval_(**{**options, "prompt_seconds": "0.1,0.55"})


def test_one_clip_is_refused_before_anything_is_generated(options: dict[str, Any], generator: FakeGenerator) -> None:
    with pytest.raises(InputError, match="1 clips to continue; it takes two"):
        eval_(**options, limit=1)
    assert not generator.requests


def test_a_damaged_recording_is_skipped_before_anything_is_generated(
    options: dict[str, Any], capsys: pytest.CaptureFixture[str], generator: FakeGenerator, raw: Path, tmp_path: Path
) -> None:
    write_audio(tmp_path / "noise.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 8000))
    whole = (tmp_path / "noise.flac").read_bytes()
    (raw / "5-3-A-0.wav").write_bytes(whole[: len(whole) // 2])  # a header that promises 0.5 s, and half of them
    capsys.readouterr()
    assert eval_(json_=True, **options) == 1
    results = json.loads(capsys.readouterr().out)
    assert [item["id"] for item in results["skipped"]] == ["esc50/5-3-A-0"] and results["n"] == 11
    assert len(generator.requests) == 11 * 6


def test_other_recordings_under_the_same_names_are_continued_anew(
    options: dict[str, Any], capsys: pytest.CaptureFixture[str], generator: FakeGenerator, raw: Path
) -> None:
    run({**options, "limit": 3}, capsys)
    changed = sorted({path.name for path in (options["out"] / "continuation").rglob("*.wav")})[1]
    other = read_audio(raw / "5-11-A-0.wav")
    write_audio(raw / changed, other)
    run({**options, "limit": 3}, capsys)
    assert len(generator.requests) == 18 + 6
    assert (generator.requests[-1].prompt_audio == other[:4800]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generated": Path("x")}, "give --split and --model"),
        ({"prompt_seconds": "0,1"}, "numbers of seconds above 0"),
        ({"prompt_seconds": "half"}, "--prompt-seconds half: 'half' is no duration"),
        ({"metrics": "clap"}, "unknown metric 'clap' for the task continuation"),
    ],
)
def test_what_does_not_go(options: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        eval_(**{**options, **change})


def test_the_prompt_is_scored_as_the_codec_decodes_it(tmp_path: Path, clip_manifests: Path, tiny_codec: Path) -> None:
    original = Recording(clip_manifests.parent / "raw" / "5-0-A-0.wav")
    wav = original.read()
    wav[4800:] = 0.25
    write_audio(tmp_path / "output.wav", wav)
    reconstructor = Reconstructor.load(tiny_codec, "cpu")
    decoded, rate = CodecAudio(original.first(0.3), reconstructor).read()
    sound, sound_rate = ContinuationAudio(Recording(tmp_path / "output.wav"), original.first(0.3), reconstructor).read()
    assert sound_rate == rate == 16_000 and len(sound) == 8000
    assert sound[:4480] == pytest.approx(decoded[:4480], abs=1e-6)
    assert sound[4800:] == pytest.approx(0.25, abs=1e-4)
    assert np.abs(sound[4799] - wav[4799]) < 1e-3  # no step at the seam


def test_folders_of_cells() -> None:
    assert (Cell(0.5, "src").folder, Cell(2.0, "none").folder) == ("0.5s-src", "2s-none")
