"""Writing sounds with a pretended generator: files, sidecars, order, failures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.fakes import FakeGenerator

from audiogen_cli.commands.terminal.rendering import _summarize
from audiogen_cli.data.audio import read_audio, read_tags, write_audio
from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.lm.config import Sampling
from audiogen_cli.lm.generation.delivery import Delivery, Level
from audiogen_cli.lm.generation.requests import GenerationRequest
from audiogen_cli.lm.generation.resuming import Maker, find_finished, place_requests
from audiogen_cli.lm.generation.writer import (
    Rendered,
    RenderOptions,
    choose_seed,
    write_sounds,
)
from audiogen_cli.model_folder import license_line

RATE = 16_000
MAKER = Maker("f" * 64, RATE)
SAMPLING = Sampling(guidance=2.0, top_k=9)
PLAIN, SIDECARS = RenderOptions(), RenderOptions(sidecars=True)


def _constant(request: GenerationRequest) -> np.ndarray:
    return np.full(round(request.duration * RATE), request.seed / 128, np.float32)


def _requests(folder: Path, n: int, duration: float = 0.01) -> list[GenerationRequest]:
    return [GenerationRequest(f"sound {i}", i + 1, duration, SAMPLING, output=folder / f"{i}.wav") for i in range(n)]


def _write(requests: Sequence[GenerationRequest], options: RenderOptions = PLAIN, **more: Any) -> list[Rendered]:
    generator = FakeGenerator(_constant, **more)
    return list(write_sounds(generator, requests, options))  # type: ignore[arg-type]


def test_files_hold_their_sound_and_results_come_in_order(tmp_path: Path) -> None:
    results = _write(_requests(tmp_path, 3))
    assert [rendered.index for rendered in results] == [0, 1, 2]
    for index in range(3):
        assert np.all(read_audio(tmp_path / f"{index}.wav") == (index + 1) / 128)
    assert not list(tmp_path.glob("*.json"))


def test_the_sidecar_says_what_made_the_sound_and_how_it_came_out(tmp_path: Path) -> None:
    request = replace(_requests(tmp_path, 1)[0], extra={"tag": "dog", "path": "not this"})
    (rendered,) = _write([request], SIDECARS)
    record = json.loads((tmp_path / "0.json").read_text())
    assert record == rendered.record
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


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_the_file_says_what_made_it_and_keeps_its_samples(tmp_path: Path, suffix: str) -> None:
    request = GenerationRequest("a dog\nbarks 狗" + "!" * 2_000, 7, 0.5, output=tmp_path / f"x{suffix}")
    _write([request])
    tags = read_tags(request.output)
    assert (
        tags["title"].startswith("a dog barks 狗!!") and tags["comment"] == "generated; seed 7; model tiny ffffffffffff"
    )
    assert tags["software"].startswith("audiogen ")
    assert tags["copyright"] == tags.get("license", tags["copyright"]) == "weights: CC BY 4.0, by the testers"
    write_audio(tmp_path / f"plain{suffix}", _constant(request))
    assert np.array_equal(read_audio(request.output), read_audio(tmp_path / f"plain{suffix}"))


@pytest.mark.parametrize(
    ("n", "end"),
    [
        (1, "stays below the loudness asked for: its peak reaches -1 dBFS"),
        (2, "2 of 2 stay below the loudness asked for: their peaks reach -1 dBFS"),
    ],
)
def test_a_peak_that_keeps_a_sound_down_is_told(tmp_path: Path, n: int, end: str) -> None:
    click = np.zeros(RATE, np.float32)
    click[::8_000] = 0.1
    options, said = RenderOptions(delivery=Delivery(normalize=Level(-10))), list[str]()
    results = write_sounds(FakeGenerator(lambda request: click), _requests(tmp_path, n), options)  # type: ignore[arg-type]
    _summarize([each.record for each in results if each.record], n, 1.0, said.append)
    assert said[0].endswith(end)


def test_a_file_that_cannot_be_written_is_one_failure(tmp_path: Path) -> None:
    (tmp_path / "1.wav").mkdir()
    results = _write(_requests(tmp_path, 3))
    assert [rendered.failure is None for rendered in results] == [True, False, True]
    assert results[1].failure is not None and "1.wav" in results[1].failure
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AudiogenError("gone"), "gone"),
        (torch.OutOfMemoryError("CUDA"), "out of memory; lower --duration"),
        (MemoryError(), "out of memory; lower --duration"),
        (Exception("[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory"), "out of memory; lower --duration"),
    ],
)
def test_what_is_left_when_the_generator_breaks_has_failed(tmp_path: Path, error: Exception, reason: str) -> None:
    results = _write(_requests(tmp_path, 3), error=error, fail_at=1)
    assert [rendered.index for rendered in results] == [0, 1, 2]
    assert [rendered.failure is None for rendered in results] == [False, False, True]
    assert results[0].failure is not None and reason in results[0].failure


def test_wrong_input_is_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise InputError("too long")

    monkeypatch.setattr(FakeGenerator, "prepare", refuse)
    with pytest.raises(InputError, match="too long"):
        _write(_requests(tmp_path, 2))


def test_a_bug_is_no_failure_of_a_sound(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        _write(_requests(tmp_path, 2), error=RuntimeError("shapes do not fit"))


def _tone(height: float, seconds: float = 1.0) -> np.ndarray:
    return (height * np.sin(2 * np.pi * 997 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def test_a_normalized_sound_says_so(tmp_path: Path) -> None:
    generator = FakeGenerator(lambda request: _tone(0.5))
    (rendered,) = write_sounds(
        generator, _requests(tmp_path, 1), RenderOptions(delivery=Delivery(normalize=Level(-23)))
    )  # type: ignore[arg-type]
    assert rendered.record is not None and rendered.record["normalized"]
    assert rendered.record["loudness"] == pytest.approx(-23, abs=0.01)
    assert rendered.record["gain_db"] == pytest.approx(20 * np.log10(rendered.record["peak"] / 0.5), abs=0.01)
    assert np.abs(read_audio(tmp_path / "0.wav")).max() == pytest.approx(rendered.record["peak"], abs=1e-4)


def test_the_loudness_said_is_that_of_what_was_written(tmp_path: Path) -> None:
    loud = FakeGenerator(lambda request: 1_000 * np.sin(np.arange(RATE, dtype=np.float32)))
    (rendered,) = write_sounds(loud, _requests(tmp_path, 1, 1.0), SIDECARS)  # type: ignore[arg-type]
    assert rendered.record is not None and -20 < rendered.record["loudness"] < 6


def test_progress_counts_whole_seconds_of_sound(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    generator, requests = FakeGenerator(_constant), _requests(tmp_path, 3, duration=1.4)
    list(write_sounds(generator, requests, progress=lambda *done: seen.append(done)))  # type: ignore[arg-type]
    assert seen == [(0, 5), (1, 5), (2, 5)]


class TestFinished:
    @pytest.fixture
    def requests(self, tmp_path: Path) -> list[GenerationRequest]:
        """One finished request."""
        requests = _requests(tmp_path, 1)
        _write(requests, SIDECARS)
        return requests

    def find(self, requests: Sequence[GenerationRequest], fingerprint: str = "f" * 64, **more: Any) -> list[int]:
        return list(find_finished(requests, Maker(fingerprint, RATE, **more)))

    def test_sounds_of_an_earlier_run_are_found_and_not_written_again(self, tmp_path: Path) -> None:
        requests = _requests(tmp_path, 3)
        earlier = _write(requests[:2], SIDECARS)
        found = find_finished(requests, MAKER)
        assert found == {rendered.index: rendered.record for rendered in earlier}
        generator = FakeGenerator(_constant)
        results = list(write_sounds(generator, requests, SIDECARS, found))  # type: ignore[arg-type]
        assert [rendered.kept for rendered in results] == [True, True, False]
        assert [rendered.record for rendered in results[:2]] == [rendered.record for rendered in earlier]
        assert generator.requests == requests[2:]

    @pytest.mark.parametrize(
        "change",
        [
            {"text": "other"},
            {"seed": 9},
            {"duration": 0.02},
            {"sampling": Sampling(guidance=2.5, top_k=9)},
            {"extra": {"tag": "new"}},
        ],
    )
    def test_another_request_is_not(self, requests: list[GenerationRequest], change: dict[str, Any]) -> None:
        assert self.find([replace(requests[0], **change)]) == []

    def test_another_model_and_another_level_are_not(self, requests: list[GenerationRequest]) -> None:
        assert self.find(requests, "e" * 64) == self.find(requests, delivery=Delivery(normalize=Level(-23))) == []

    def test_another_number_format_is_not_unless_any_will_do(
        self, tmp_path: Path, requests: list[GenerationRequest]
    ) -> None:
        record = json.loads((tmp_path / "0.json").read_text())
        assert self.find(requests) == self.find(requests, computing={"dtype": "float32", "device": "cpu"}) == [0]
        assert (
            self.find(requests, computing={"dtype": "int4"}) == self.find(requests, computing={"device": "cuda"}) == []
        )
        del record["dtype"], record["device"]  # an old sidecar
        (tmp_path / "0.json").write_text(json.dumps(record))
        assert self.find(requests, computing={"dtype": "float32"}) == [0]

    def test_a_drawn_seed_takes_any(self, requests: list[GenerationRequest]) -> None:
        assert self.find([replace(requests[0], seed=77, seed_drawn=True)]) == [0]

    def test_a_sidecar_without_a_newer_setting_has_its_default(
        self, tmp_path: Path, requests: list[GenerationRequest]
    ) -> None:
        record = json.loads((tmp_path / "0.json").read_text())
        (tmp_path / "0.json").write_text(json.dumps({key: record[key] for key in record if key != "layers"}))
        assert self.find(requests) == [0]
        assert self.find([replace(requests[0], sampling=replace(SAMPLING, layers=2))]) == []

    @pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
    def test_a_sound_that_was_cut_is_not(self, tmp_path: Path, suffix: str) -> None:
        requests = [replace(_requests(tmp_path, 1, 1.0)[0], output=tmp_path / f"x{suffix}")]
        _write(requests, SIDECARS)
        assert self.find(requests) == [0]
        content = requests[0].output.read_bytes()
        requests[0].output.write_bytes(content[: len(content) // 3])
        assert self.find(requests) == []

    def test_columns_called_as_our_entries_are_kept_apart(self, tmp_path: Path) -> None:
        extra = {"model": "theirs", "rms": "7", "tag": "dog"}
        requests = [replace(_requests(tmp_path, 1)[0], extra=extra)]
        (rendered,) = _write(requests, SIDECARS)
        record = json.loads((tmp_path / "0.json").read_text())
        assert record == rendered.record and record["rms"] != "7"
        assert record["tag"] == "dog" and record["columns"] == {"model": "theirs", "rms": "7"}
        assert self.find(requests) == [0]
        assert self.find([replace(requests[0], extra={**extra, "rms": "8"})]) == []

    @pytest.mark.parametrize("damage", ["gone", "empty", "no sidecar", "half a sidecar", "foreign sidecar"])
    def test_what_is_damaged_is_not(self, tmp_path: Path, requests: list[GenerationRequest], damage: str) -> None:
        sound, sidecar = tmp_path / "0.wav", tmp_path / "0.json"
        {
            "gone": sound.unlink,
            "empty": lambda: sound.write_bytes(b""),
            "no sidecar": sidecar.unlink,
            "half a sidecar": lambda: sidecar.write_text(sidecar.read_text()[:50]),
            "foreign sidecar": lambda: sidecar.write_text("[1]"),
        }[damage]()
        assert self.find(requests) == []

    def test_a_sidecar_never_vouches_for_a_later_sound(
        self, requests: list[GenerationRequest], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("audiogen_cli.lm.generation.writer.write_text", _full_disk)
        (rendered,) = _write([replace(requests[0], seed=5)], SIDECARS)
        assert rendered.failure is not None and self.find(requests) == []


class TestTakes:
    def place(self, requests: Sequence[GenerationRequest]) -> tuple[list[str], list[int]]:
        """The names that requests get, those finished before as their numbers; the others are then written."""
        placed, found = place_requests(requests, MAKER)
        generator = FakeGenerator(_constant)
        list(write_sounds(generator, placed, SIDECARS, found))  # type: ignore[arg-type]
        return [request.output.name for request in placed], list(found)

    def test_another_seed_and_other_settings_get_names_of_their_own(self, tmp_path: Path) -> None:
        (request,) = _requests(tmp_path, 1)
        wanted = [
            request,
            replace(request, seed=9),
            replace(request, seed=9, duration=0.02),
            replace(request, text="x"),
        ]
        for again in ([], [0]):
            names = [self.place([each]) for each in wanted]
            assert names == [(["0.wav"], again)] + [([f"0-seed{name}.wav"], again) for name in ("9", "9-2", "1")]
        assert [
            np.all(read_audio(tmp_path / f"0{name}.wav") == value / 128) for name, value in (("", 1), ("-seed9", 9))
        ]

    def test_drawn_seeds_complete_a_run_and_then_make_new_takes(self, tmp_path: Path) -> None:
        def drawn(seed: int) -> list[GenerationRequest]:
            return [replace(each, seed=seed, seed_drawn=True) for each in _requests(tmp_path, 2)]

        assert self.place(drawn(5)[:1]) == (["0.wav"], [])
        assert self.place(drawn(6)) == (["0.wav", "1.wav"], [0])
        assert self.place(drawn(7)) == (["0-seed7.wav", "1-seed7.wav"], [])
        (tmp_path / "1-seed7.wav").unlink()
        assert self.place(drawn(8)) == (["0-seed7.wav", "1-seed8.wav"], [0])
        assert self.place([replace(each, seed_drawn=False) for each in drawn(8)]) == (
            ["0-seed8.wav", "1-seed8.wav"],
            [1],
        )

    def test_a_run_killed_at_any_file_is_completed_under_the_same_names(self, tmp_path: Path) -> None:
        """A sound and its sidecar are two files: whichever a kill leaves alone, no other name is taken for it."""
        made: list[list[str]] = []

        def look(generator: FakeGenerator) -> None:
            made.append(sorted(path.name for path in tmp_path.iterdir()))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("audiogen_cli.lm.generation.writer._tags", lambda generator, request: look(generator) or {})
            self.place(_requests(tmp_path, 1))
        assert made == [["0.json"]]  # when the sound is about to be written
        (tmp_path / "0.wav").unlink()
        assert self.place(_requests(tmp_path, 1)) == (["0.wav"], [])
        assert self.place(_requests(tmp_path, 1)) == (["0.wav"], [0])

    def test_a_folder_that_is_not_there_is_made(self, tmp_path: Path) -> None:
        assert self.place(_requests(tmp_path / "a" / "b", 1)) == (["0.wav"], [])

    def test_a_sound_that_cannot_be_written_leaves_no_sidecar(self, tmp_path: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("audiogen_cli.lm.generation.delivery.Delivered.write", _full_disk)
            (rendered,) = _write(_requests(tmp_path, 1), SIDECARS)
        assert rendered.failure is not None and not list(tmp_path.iterdir())

    @pytest.mark.parametrize("foreign", ["0.wav", "0.flac", "0.json"])
    def test_what_others_made_stays(self, tmp_path: Path, foreign: str) -> None:
        (tmp_path / foreign).write_bytes(b"theirs")
        assert self.place(_requests(tmp_path, 1)) == (["0-seed1.wav"], [])
        assert (tmp_path / foreign).read_bytes() == b"theirs"

    def test_a_damaged_sound_is_made_again_in_its_place(self, tmp_path: Path) -> None:
        requests = _requests(tmp_path, 1)
        _write(requests, SIDECARS)
        (tmp_path / "0.wav").write_bytes(b"")
        assert self.place(requests) == (["0.wav"], [])

    def test_no_two_requests_share_a_name(self, tmp_path: Path) -> None:
        request, _ = requests = _requests(tmp_path, 2)
        _write(requests, SIDECARS)
        others = [replace(request, seed=3), replace(request, seed=3, output=tmp_path / "0-seed3.wav", text="other")]
        assert self.place(others) == (["0-seed3-2.wav", "0-seed3.wav"], [])


def _full_disk(*_: object) -> None:
    raise OSError("no space left")


def test_license_line() -> None:
    assert license_line("\n  CC0 \nmore") == "CC0"
    assert license_line(" \n") == "no license is stated"


def test_drawn_seeds_differ() -> None:
    assert len({choose_seed() for _ in range(8)}) > 1
