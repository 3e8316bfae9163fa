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
from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.interop.model_folder import licence_line
from audiogen_cli.lm.config import Sampling
from audiogen_cli.lm.jobs import Job, Settings
from audiogen_cli.lm.render import Outcome, choose_seed, render

RATE = 16_000


class Pretended:
    """Answers in the reverse order with a constant that tells the seed; may break before its n-th answer."""

    sample_rate = RATE
    sampling = Sampling(top_k=9)
    licence = "\nCC BY 4.0, by the testers\nlong text"
    fingerprint = "f" * 64
    folder = Path("models/tiny")
    device = "cpu"
    dtype = torch.float32

    def __init__(self, error: Exception | None = None, after: int = 0) -> None:
        self.error, self.after = error, after
        self.requests: Sequence[Any] = []

    def process(self, text: str) -> str:
        return text.upper()

    def generate(self, requests: Sequence[Any], batch_size: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        self.requests = requests
        for done, index in enumerate(reversed(range(len(requests)))):
            if self.error and done == self.after:
                raise self.error
            request = requests[index]
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
        "model": "models/tiny",
        "model_fingerprint": "f" * 64,
        "licence": "CC BY 4.0, by the testers",
        "device": "cpu",
        "dtype": "float32",
        "peak": 1 / 128,
        "rms": pytest.approx(1 / 128),
        "clipped_samples": 0,
        "near_silent": False,
        "tag": "dog",
    }
    assert {key: record[key] for key in expected} == expected


def test_a_file_that_cannot_be_written_is_one_failure(tmp_path: Path) -> None:
    jobs = _jobs(tmp_path, 3)
    (tmp_path / "1.wav").mkdir()
    outcomes = _run(Pretended(), jobs)
    assert [outcome.failure is None for outcome in outcomes] == [True, False, True]
    assert outcomes[1].failure is not None and "1.wav" in outcomes[1].failure
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("error", "reason"), [(AudiogenError("gone"), "gone"), (torch.OutOfMemoryError("CUDA"), "lower --batch-size")]
)
def test_what_is_left_when_the_generator_breaks_has_failed(tmp_path: Path, error: Exception, reason: str) -> None:
    outcomes = _run(Pretended(error, after=1), _jobs(tmp_path, 3))
    assert [outcome.index for outcome in outcomes] == [0, 1, 2]
    assert [outcome.failure is None for outcome in outcomes] == [False, False, True]
    assert outcomes[0].failure is not None and reason in outcomes[0].failure


def test_wrong_input_is_not_swallowed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too long"):
        _run(Pretended(InputError("too long")), _jobs(tmp_path, 2))


def test_licence_line() -> None:
    assert licence_line("\n  CC0 \nmore") == "CC0"
    assert licence_line(" \n") == "no licence is stated"


def test_drawn_seeds_differ() -> None:
    assert len({choose_seed() for _ in range(8)}) > 1
