"""Candidates: their seeds, their order, and that the best one is kept in any company."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.zoo import make_probe
from torch import Tensor

from audiogen_cli.errors import AudiogenError
from audiogen_cli.lm.config import Sampling
from audiogen_cli.lm.decoding.requests import DecodingRequest
from audiogen_cli.lm.generation.generator import Generator
from audiogen_cli.lm.generation.requests import GenerationRequest
from audiogen_cli.lm.generation.tracks import TRIED, Track, generate_best, list_candidates
from audiogen_cli.lm.model import AudioLanguageModel

FREE = Sampling(guidance=2.0, top_p=1.0)


def test_candidates_have_seeds_of_their_own() -> None:
    request = DecodingRequest(torch.zeros(1, 6), 5, seed=7, sampling=replace(FREE, candidates=5))
    drawn = list_candidates(request)
    assert drawn[0] is request and len({each.seed for each in drawn}) == 5
    neighbors = {each.seed for seed in range(3, 12) for each in list_candidates(replace(request, seed=seed))}
    assert len(neighbors) == 9 * 5
    assert list_candidates(replace(request, vectors=None)) == [replace(request, vectors=None)]


SCORES = (0.1, 0.4, 0.3, 0.2)  # of the first track's candidates, as drawn
BEST_FIRST = (1, 2, 3, 0)


class Drawn:
    """Pretends to generate: the codes of a candidate are its number; some decode to near silence."""

    def __init__(self, n_silent: int, order: Sequence[int]) -> None:
        self.silent, self.decoded, self.together = order[:n_silent], list[int](), list[int]()

    def generate(self, requests: Sequence[DecodingRequest]) -> Iterator[tuple[int, Tensor]]:
        yield from ((number, torch.full((1, 3), number)) for number in reversed(range(len(requests))))

    def decode(self, sounds: Sequence[Tensor]) -> list[np.ndarray]:
        self.together.append(len(sounds))
        return [self.decode_one(int(codes[0, 0])) for codes in sounds]

    def decode_one(self, number: int) -> np.ndarray:
        self.decoded.append(number)
        sound = np.full(1_000, (number + 1) / 10, np.float32)
        sound[100 if number in self.silent else 1_000 : 900] = 0  # loud only where the prompt is, and past the end
        return sound


@pytest.mark.parametrize("n_silent", range(5))
@pytest.mark.parametrize("scored", [True, False])
def test_the_best_that_is_audible_is_kept_and_no_more_are_decoded(n_silent: int, scored: bool) -> None:
    request = DecodingRequest(torch.zeros(1, 6), 3, seed=0, sampling=replace(FREE, candidates=4))
    single = Track(replace(request, vectors=None), 0, 900)
    order = BEST_FIRST if scored else (0, 1, 2, 3)
    drawn = Drawn(n_silent, order)
    score = (lambda codes, vectors, negative: SCORES[int(codes[0, 0])]) if scored else None
    tracks = [Track(request, 0, 900, n_known=100), single]
    results, candidates = {}, {}
    for index, sound, ranked in generate_best(tracks, drawn.generate, drawn.decode, score):
        results[index], candidates[index] = sound, [int(each.codes[0, 0]) for each in ranked]
    kept = order[n_silent if n_silent < 4 else 0]
    assert results[0][0] == np.float32((kept + 1) / 10) and len(results[0]) == 900
    assert drawn.decoded == [4, *order[: n_silent + 1]]
    assert results[1][0] == np.float32(0.5)
    assert candidates[0] == [kept, *(number for number in order if number != kept)] and candidates[1] == [4]


def test_only_the_regions_of_a_sound_that_is_filled_in_are_judged() -> None:
    request = DecodingRequest(torch.zeros(1, 6), 3, seed=0, sampling=replace(FREE, candidates=3))
    track = Track(request, 0, 900, regions=((100, 300), (700, 800)))
    drawn = Drawn(1, (0, 1, 2))  # the first is silent in both, and loud before them
    ((_, sound, _),) = generate_best([track], drawn.generate, drawn.decode, None)
    assert sound[0] == np.float32(0.2) and track.n_generated == len(track.generated(sound)) == 300


def test_what_is_finished_before_one_that_is_too_long_is_kept() -> None:
    request = DecodingRequest(torch.zeros(1, 6), 3, seed=0, sampling=FREE)
    drawn, results = Drawn(0, ()), list[int]()

    def generate(requests: Sequence[DecodingRequest]) -> Iterator[tuple[int, Tensor]]:
        yield from ((number, torch.full((1, 3), number)) for number in range(4))
        raise AudiogenError("out of memory")

    with pytest.raises(AudiogenError, match="out of memory"):
        for index, *_ in generate_best([Track(request, 0, 900)] * 5, generate, drawn.decode, None, most=3):
            results.append(index)
    assert results == [0, 1, 2, 3] and drawn.together == [3, 1]


def test_the_best_of_several_tracks_are_decoded_together() -> None:
    request = DecodingRequest(torch.zeros(1, 6), 3, seed=0, sampling=replace(FREE, candidates=2))
    tracks = [Track(request, 0, 900, n_known=100)] * 5
    alone, drawn = Drawn(1, (0,)), Drawn(1, (0,))
    expected = [(index, sound[0]) for index, sound, _ in generate_best(tracks, alone.generate, alone.decode, None)]
    found = generate_best(tracks, drawn.generate, drawn.decode, None, most=2)
    assert [(index, sound[0]) for index, sound, _ in found] == expected
    assert alone.together == [1] * 6 and drawn.together == [2, 2, 1, 1]  # one was near-silent, so another follows


@pytest.mark.parametrize("n_holed", range(5))
def test_candidates_with_holes_give_way_unless_all_have_them(n_holed: int) -> None:
    request = DecodingRequest(torch.zeros(1, 6), 3, seed=0, sampling=replace(FREE, candidates=6))
    drawn, holed = Drawn(1, (0, 1, 2, 3, 4, 5)), range(1, 1 + n_holed)  # the first is near-silent
    tried: list[int] = []

    def is_fine(track: Track, sound: np.ndarray) -> bool:
        tried.append(round(10 * sound[0]) - 1)
        return tried[-1] not in holed

    ((_, sound, _),) = generate_best([Track(request, 0, 900, n_known=100)], drawn.generate, drawn.decode, None, is_fine)
    assert round(10 * sound[0]) - 1 == (1 + n_holed if n_holed < TRIED else 1)
    assert len(tried) == min(n_holed + 1, TRIED)


def test_the_probe_chooses_the_same_in_any_company(delayed_lm: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(delayed_lm, tmp_path / "lm"))
    make_probe(AudioLanguageModel.load(folder)).save(folder)
    generator = Generator.load(folder, device="cpu")
    requests = [
        GenerationRequest("dog", 1, 0.3, replace(FREE, candidates=4)),
        GenerationRequest("rain bark", 2, 0.5, replace(FREE, candidates=3, negative="dog")),
        GenerationRequest(None, 3, 0.3, replace(FREE, candidates=4)),
        GenerationRequest("dog", 1, 0.3, FREE),
    ]
    together = dict(generator.generate(requests))
    for index, request in enumerate(requests):
        ((_, alone),) = generator.generate([request])
        assert np.array_equal(alone, together[index])
    for index, request in enumerate(requests[:2]):
        (track,) = generator.prepare(request).tracks
        scores, sounds = [], []
        for candidate in list_candidates(track.decoding):
            ((_, codes),) = generator.engine.generate([candidate])
            scores.append(generator.probe.score(generator.engine.model, codes, candidate.vectors, candidate.negative))
            sampling = replace(request.sampling, candidates=1)
            ((_, wav),) = generator.generate([replace(request, seed=candidate.seed, sampling=sampling)])
            sounds.append(wav)
        assert len(set(scores)) == len(scores)
        assert np.array_equal(sounds[int(np.argmax(scores))], together[index])


@pytest.mark.parametrize("times", ["@0.1-0.4", "@0-0.5", "@0-"])
def test_kept_candidates_of_a_sound_with_times_are_what_their_sidecars_say(
    audiogen, delayed_lm: Path, times: str
) -> None:
    call = ["generate", "--model", delayed_lm, "--top-p", "1", "--json"]
    done = audiogen(
        *call,
        f"dog{times}",
        "--duration",
        "0.5",
        "--seed",
        "1",
        "--candidates",
        "2",
        "--keep-candidates",
        "-o",
        "a.wav",
    )
    others = json.loads(done.stdout)["kept_candidates"]
    assert len(others) == (2 if times == "@0.1-0.4" else 1)
    for each in others:
        said = json.loads(Path(each["path"]).with_suffix(".json").read_text())
        length = ["--duration", said["generated_seconds"], "--seed", said["seed"]]
        alone = json.loads(audiogen(*call, said["prompt"], *length, "-o", "alone.wav").stdout)
        assert Path(each["path"]).read_bytes() == Path("alone.wav").read_bytes()
        assert {key: said[key] for key in alone if key != "path"} == {k: v for k, v in alone.items() if k != "path"}


def test_kept_candidates_are_what_their_seeds_give(audiogen, delayed_lm: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(delayed_lm, tmp_path / "lm"))
    make_probe(AudioLanguageModel.load(folder)).save(folder)
    call = ["generate", "dog", "--model", folder, "--duration", "0.3", "--top-p", "1", "--seed"]
    done = audiogen(*call, "1", "--candidates", "3", "--keep-candidates", "--out-dir", "out", "--json")
    record = json.loads(done.stdout)
    assert [Path(each["path"]).name for each in record["kept_candidates"]] == [
        "0001-dog-candidate02.wav",
        "0001-dog-candidate03.wav",
    ]
    scores = [record["scores"][0], *(each["scores"][0] for each in record["kept_candidates"])]
    assert scores == sorted(scores, reverse=True)
    for each in record["kept_candidates"]:
        assert f"seed {each['seed']}" in done.stderr and f"score {each['scores'][0]:.2f}" in done.stderr
        alone = audiogen(*call, each["seed"], "-o", "alone.wav", "--json")
        assert Path(each["path"]).read_bytes() == Path("alone.wav").read_bytes()
        sidecar = json.loads(Path(each["path"]).with_suffix(".json").read_text())
        del sidecar["scores"], sidecar["path"]
        assert sidecar == {key: json.loads(alone.stdout)[key] for key in sidecar}
    assert "already there" in audiogen(*call, "1", "--candidates", "3", "--keep-candidates", "--out-dir", "out").stderr
