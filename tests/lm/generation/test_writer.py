"""Rendering with a pretended generator: files, sidecars, order, failures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audiogen_cli.data.audio import read_audio
from audiogen_cli.data.loudness import loudness
from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.lm.config import Sampling
from audiogen_cli.lm.generation.requests import Job, Settings
from audiogen_cli.lm.generation.writer import (
    NORMAL_LUFS,
    NORMAL_PEAK,
    Outcome,
    choose_seed,
    find_finished,
    normalise,
    render,
)
from audiogen_cli.model_folder import license_line

RATE = 16_000


class Pretended:
    """Answers in the reverse order with a constant that tells the seed; may break before its n-th answer."""

    sample_rate = RATE
    sampling = Sampling(top_k=9)
    licence = "\nCC BY 4.0, by the testers\nlong text"
    fingerprint = "f" * 64
    folder = Path("models/tiny")
    device = "cpu"
    dtype = "float32"

    def __init__(self, error: Exception | None = None, after: int = 0) -> None:
        self.error, self.after = error, after
        self.requests: Sequence[Any] = []

    def read(self, request: Any) -> list[str]:
        return [request.prompt.upper()]

    def generate(
        self, requests: Sequence[Any], batch_size: int | None = None, progress: Any = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        self.requests = requests
        for done, index in enumerate(reversed(range(len(requests)))):
            if self.error and done == self.after:
                raise self.error
            request = requests[index]
            if progress:
                progress(done + 0.5)
            yield index, np.full(round(request.duration * RATE), request.seed / 128, np.float32)


def _jobs(folder: Path, n: int) -> list[Job]:
    return [Job(folder / f"{i}.wav", f"sound {i}", i + 1, 0.01, Settings(guidance=2.0)) for i in range(n)]


def _run(generator: Pretended, jobs: Sequence[Job], sidecars: bool = False) -> list[Outcome]:
    return list(render(generator, jobs, None, sidecars))  # type: ignore[arg-type]


def test_files_hold_their_sound_and_outcomes_come_in_order(tmp_path: Path) -> None:
    outcomes = _run(Pretended(), _jobs(tmp_path, 3))
    assert [outcome.index for outcome in outcomes] == [0, 1, 2]
    for index in range(3):
        assert np.all(read_audio(tmp_path / f"{index}.wav") == (index + 1) / 128)
    assert not list(tmp_path.glob("*.json"))


def test_requests_take_what_was_given_and_leave_the_rest_to_the_model(tmp_path: Path) -> None:
    generator = Pretended()
    _run(generator, _jobs(tmp_path, 1))
    request = generator.requests[0]
    assert (request.prompt, request.seed, request.duration) == ("sound 0", 1, 0.01)
    assert request.sampling == Sampling(guidance=2.0, top_k=9)


def test_the_sidecar_says_what_made_the_sound_and_how_it_came_out(tmp_path: Path) -> None:
    job = replace(_jobs(tmp_path, 1)[0], extra={"tag": "dog", "path": "not this"})
    (outcome,) = _run(Pretended(), [job], sidecars=True)
    record = json.loads((tmp_path / "0.json").read_text())
    assert record == outcome.record
    expected = {
        "path": str(tmp_path / "0.wav"),
        "prompt": "sound 0",
        "text": "SOUND 0",
        "seed": 1,
        "duration": 0.01,
        "sample_rate": RATE,
        "guidance": 2.0,
        "top_p": 0.25,
        "top_k": 9,
        "temperature": 1.0,
        "candidates": 1,
        "layers": 1,
        "model": "models/tiny",
        "model_fingerprint": "f" * 64,
        "licence": "CC BY 4.0, by the testers",
        "device": "cpu",
        "dtype": "float32",
        "peak": 1 / 128,
        "rms": pytest.approx(1 / 128),
        "clipped_samples": 0,
        "near_silent": False,
        "gain_db": 0.0,
        "normalized": False,
        "tag": "dog",
    }
    assert {key: record[key] for key in expected} == expected
    assert record["loudness"] < -40  # a constant makes no sound but where it begins


def test_a_file_that_cannot_be_written_is_one_failure(tmp_path: Path) -> None:
    jobs = _jobs(tmp_path, 3)
    (tmp_path / "1.wav").mkdir()
    outcomes = _run(Pretended(), jobs)
    assert [outcome.failure is None for outcome in outcomes] == [True, False, True]
    assert outcomes[1].failure is not None and "1.wav" in outcomes[1].failure
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AudiogenError("gone"), "gone"),
        (torch.OutOfMemoryError("CUDA"), "out of memory; lower --duration"),
        (MemoryError(), "out of memory; lower --duration"),
    ],
)
def test_what_is_left_when_the_generator_breaks_has_failed(tmp_path: Path, error: Exception, reason: str) -> None:
    outcomes = _run(Pretended(error, after=1), _jobs(tmp_path, 3))
    assert [outcome.index for outcome in outcomes] == [0, 1, 2]
    assert [outcome.failure is None for outcome in outcomes] == [False, False, True]
    assert outcomes[0].failure is not None and reason in outcomes[0].failure


def test_wrong_input_is_not_swallowed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too long"):
        _run(Pretended(InputError("too long")), _jobs(tmp_path, 2))


def test_a_bug_is_no_failure_of_a_sound(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        _run(Pretended(RuntimeError("shapes do not fit")), _jobs(tmp_path, 2))


def _tone(height: float, seconds: float = 1.0) -> np.ndarray:
    return (height * np.sin(2 * np.pi * 997 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.mark.parametrize("height", [0.02, 0.9])
def test_normalising_brings_a_sound_to_its_loudness(height: float) -> None:
    wav, gain = normalise(_tone(height), RATE)
    assert loudness(wav, RATE) == pytest.approx(NORMAL_LUFS, abs=0.01)
    np.testing.assert_allclose(wav, _tone(height) * gain, rtol=1e-6)


def test_normalising_stops_at_the_peak_and_leaves_near_silence() -> None:
    click = np.zeros(RATE, np.float32)
    click[RATE // 2] = 0.5
    wav, _ = normalise(click, RATE)
    assert np.abs(wav).max() == pytest.approx(NORMAL_PEAK) and loudness(wav, RATE) < NORMAL_LUFS
    for quiet in (np.zeros(RATE, np.float32), _tone(5e-4)):
        wav, gain = normalise(quiet, RATE)
        assert gain == 1 and np.array_equal(wav, quiet)


def test_a_normalised_sound_says_so(tmp_path: Path) -> None:
    generator = Pretended()
    generator.generate = lambda requests, batch_size: iter([(0, _tone(0.5))])  # type: ignore[method-assign]
    (outcome,) = render(generator, _jobs(tmp_path, 1), normalize=True)  # type: ignore[arg-type]
    assert outcome.record is not None and outcome.record["normalized"]
    assert outcome.record["loudness"] == pytest.approx(NORMAL_LUFS, abs=0.01)
    assert outcome.record["gain_db"] == pytest.approx(20 * np.log10(outcome.record["peak"] / 0.5), abs=0.01)
    assert np.abs(read_audio(tmp_path / "0.wav")).max() == pytest.approx(outcome.record["peak"], abs=1e-4)


def test_progress_counts_whole_seconds_of_sound(tmp_path: Path) -> None:
    jobs = [replace(job, duration=1.4) for job in _jobs(tmp_path, 3)]
    seen: list[tuple[int, int]] = []
    list(render(Pretended(), jobs, progress=lambda *done: seen.append(done)))  # type: ignore[arg-type]
    assert seen == [(0, 5), (1, 5), (2, 5)]


class TestFinished:
    def find(self, jobs: Sequence[Job], **changes: Any) -> list[int]:
        asked = {"own": Pretended.sampling, "fingerprint": "f" * 64, "sample_rate": RATE, **changes}
        return list(find_finished(jobs, **asked))

    def test_sounds_of_an_earlier_run_are_found_with_their_records(self, tmp_path: Path) -> None:
        jobs = _jobs(tmp_path, 3)
        outcomes = _run(Pretended(), jobs[:2], sidecars=True)
        assert self.find(jobs) == [0, 1]
        found = find_finished(jobs, Pretended.sampling, "f" * 64, RATE)
        assert found == {outcome.index: outcome.record for outcome in outcomes}

    @pytest.mark.parametrize(
        "change",
        [
            {"text": "other"},
            {"seed": 9},
            {"duration": 0.02},
            {"settings": Settings(guidance=2.5)},
            {"extra": {"tag": "new"}},
        ],
    )
    def test_another_job_is_not(self, tmp_path: Path, change: dict[str, Any]) -> None:
        jobs = _jobs(tmp_path, 1)
        _run(Pretended(), jobs, sidecars=True)
        assert self.find([replace(jobs[0], **change)]) == []

    def test_another_model_and_another_level_are_not(self, tmp_path: Path) -> None:
        jobs = _jobs(tmp_path, 1)
        _run(Pretended(), jobs, sidecars=True)
        assert self.find(jobs, fingerprint="e" * 64) == self.find(jobs, normalize=True) == []
        assert self.find(jobs, own=Sampling(temperature=0.5)) == []

    def test_a_drawn_seed_takes_any(self, tmp_path: Path) -> None:
        jobs = _jobs(tmp_path, 1)
        _run(Pretended(), jobs, sidecars=True)
        assert self.find([replace(jobs[0], seed=77, seed_drawn=True)]) == [0]

    @pytest.mark.parametrize("damage", ["gone", "empty", "no sidecar", "half a sidecar", "foreign sidecar"])
    def test_what_is_damaged_is_not(self, tmp_path: Path, damage: str) -> None:
        jobs = _jobs(tmp_path, 1)
        _run(Pretended(), jobs, sidecars=True)
        sound, sidecar = tmp_path / "0.wav", tmp_path / "0.json"
        {
            "gone": sound.unlink,
            "empty": lambda: sound.write_bytes(b""),
            "no sidecar": sidecar.unlink,
            "half a sidecar": lambda: sidecar.write_text(sidecar.read_text()[:50]),
            "foreign sidecar": lambda: sidecar.write_text("[1]"),
        }[damage]()
        assert self.find(jobs) == []

    def test_a_sidecar_never_vouches_for_a_later_sound(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        jobs = _jobs(tmp_path, 1)
        _run(Pretended(), jobs, sidecars=True)
        monkeypatch.setattr("audiogen_cli.lm.generation.writer.write_text", _full_disk)
        (outcome,) = _run(Pretended(), [replace(jobs[0], seed=5)], sidecars=True)
        assert outcome.failure is not None and self.find(jobs) == []


def _full_disk(*_: object) -> None:
    raise OSError("no space left")


def test_license_line() -> None:
    assert license_line("\n  CC0 \nmore") == "CC0"
    assert license_line(" \n") == "no license is stated"


def test_drawn_seeds_differ() -> None:
    assert len({choose_seed() for _ in range(8)}) > 1
