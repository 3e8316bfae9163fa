"""Candidates: their seeds, what fits a text best, and that the best one is kept in any company."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.zoo import make_probe

from audiogen_cli.lm.config import Sampling
from audiogen_cli.lm.decoding.engine import Engine
from audiogen_cli.lm.decoding.requests import Job
from audiogen_cli.lm.generation.generator import Generator, Request
from audiogen_cli.lm.generation.rerank import fit, likelihood_gain, takes
from audiogen_cli.lm.model import AudioLanguageModel

FREE = Sampling(guidance=2.0, top_p=1.0)


@pytest.fixture(scope="module")
def folder(delayed_lm: Path) -> Path:
    return delayed_lm


def test_takes_have_seeds_of_their_own() -> None:
    job = Job(torch.zeros(1, 6), 5, seed=7, sampling=replace(FREE, candidates=5))
    drawn = takes(job)
    assert drawn[0] is job and len({take.seed for take in drawn}) == 5
    neighbours = {take.seed for seed in range(3, 12) for take in takes(replace(job, seed=seed))}
    assert len(neighbours) == 9 * 5
    assert takes(replace(job, text=None)) == [replace(job, text=None)]


def test_gain_in_likelihood_is_per_frame(folder: Path) -> None:
    model = AudioLanguageModel.load(folder)
    generator = torch.Generator().manual_seed(0)
    n_frames = model.config.max_frames + 3  # the last three make a window of their own
    codes = torch.randint(model.config.codebook_size, (model.config.n_q, n_frames), generator=generator)
    text = torch.randn(3, model.config.text_width, generator=generator)
    expected = 0.0
    for window in (codes[:, :-3], codes[:, -3:]):
        for sign, words in ((1, text[None]), (-1, torch.zeros(1, 1, model.config.text_width))):
            mask = torch.full(words.shape[:2], sign > 0)
            probabilities = model(window[None], words, mask).logits.double().softmax(-1)[0]
            for stream, row in enumerate(window):
                for frame, code in enumerate(row):
                    expected += sign * float(probabilities[stream, frame, code].log().detach())
    assert likelihood_gain(model, codes, text) == pytest.approx(expected / n_frames, abs=1e-4)
    packed = Engine(AudioLanguageModel.load(folder)).model  # as generating has it
    assert likelihood_gain(packed, codes, text) == pytest.approx(expected / n_frames, abs=1e-4)


@pytest.mark.parametrize("probed", [False, True])
def test_the_best_of_the_candidates_is_kept_in_any_company(folder: Path, tmp_path: Path, probed: bool) -> None:
    folder = Path(shutil.copytree(folder, tmp_path / "lm"))
    if probed:
        make_probe(AudioLanguageModel.load(folder)).save(folder)
    generator = Generator.load(folder, device="cpu")
    assert bool(generator.probe) == probed
    requests = [
        Request("dog", 1, 0.3, replace(FREE, candidates=4)),
        Request("rain bark", 2, 0.5, replace(FREE, candidates=3)),
        Request(None, 3, 0.3, replace(FREE, candidates=4)),
        Request("dog", 1, 0.3, FREE),
    ]
    together = dict(generator.generate(requests))
    for index, request in enumerate(requests):
        ((_, alone),) = generator.generate([request])
        assert np.array_equal(alone, together[index])
    for index, request in enumerate(requests[:2]):
        plan = generator._plan(request)
        (job,) = plan.jobs
        assert job.text is not None
        texts = job.text
        scores, sounds = [], []
        for take in takes(job):
            ((_, codes),) = generator.engine.generate([take])
            scores.append(fit(generator.engine.model, generator.probe, codes, texts))
            single = replace(request, seed=take.seed, sampling=FREE)
            sounds.append(next(wav for _, wav in generator.generate([single])))
        assert len(set(scores)) == len(scores)
        assert np.array_equal(sounds[int(np.argmax(scores))], together[index])


def test_a_take_near_silence_is_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Generator.load(folder, device="cpu")
    request = Request("dog", 1, 0.3, replace(FREE, candidates=4))
    ((_, ranked),) = generator._ranked_codes(list(generator._plan(request).jobs), None, lambda seconds: None)
    decode, silent = generator._decode, 0
    tried: list[int] = []

    def faint(blocks: Iterable[torch.Tensor]) -> Iterator[np.ndarray]:
        codes = torch.cat(list(blocks), dim=1)
        place = next(place for place, each in enumerate(ranked) if torch.equal(each, codes))
        tried.append(place)
        for wav in decode([codes]):
            yield wav * np.float32(place >= silent)

    monkeypatch.setattr(generator, "_decode", faint)
    sounds = []
    for silent in range(5):  # so many of the four takes are nothing, the best ones first
        tried.clear()
        sounds.append(next(wav for _, wav in generator.generate([request])))
        assert tried == list(range(min(silent, 3) + 1))
    assert all(sound.any() for sound in sounds[:4]) and len({sound.tobytes() for sound in sounds[:4]}) == 4
    assert not sounds[4].any() and len(sounds[4]) == 4800
