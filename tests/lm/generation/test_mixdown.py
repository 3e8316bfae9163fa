"""Sounds of one prompt made apart: where they lie, their sum, and what becomes of them in a generator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiogen_cli.data.loudness import measure
from audiogen_cli.errors import InputError
from audiogen_cli.lm.config import Sampling
from audiogen_cli.lm.generation.generator import Generator
from audiogen_cli.lm.generation.requests import GenerationRequest
from audiogen_cli.lm.generation.tracks import FADE, derive_seed, mix_tracks, place_tracks

RATE = 16_000
FREE = Sampling(guidance=2.0, top_p=0.95)


@given(n=st.integers(1, 8), n_samples=st.integers(1, 2_000_000))
def test_tracks_fill_the_whole_one_after_the_other(n: int, n_samples: int) -> None:
    tracks = place_tracks(n, n_samples, RATE)
    begins, ends = [begin for begin, _ in tracks], [begin + length for begin, length in tracks]
    assert begins[0] == 0 and ends[-1] == n_samples and len(tracks) == n
    assert begins == sorted(begins) and ends == sorted(ends)
    assert begins[-1] <= min(2 * RATE, 0.4 * n_samples + 1)
    assert len({length for _, length in tracks}) == 1 and tracks[0][1] >= 1


def test_in_five_seconds_each_of_two_is_alone_for_two_seconds() -> None:
    assert place_tracks(2, 5 * RATE, RATE) == [(0, 48_000), (32_000, 48_000)]
    assert [begin for begin, _ in place_tracks(3, 60 * RATE, RATE)] == [0, 16_000, 32_000]
    assert place_tracks(1, 777, RATE) == [(0, 777)]


def test_the_sum_has_all_at_one_level_and_fades_inside_only() -> None:
    t = np.arange(48_000) / RATE
    loud, faint = (a * np.sin(2 * np.pi * f * t).astype(np.float32) for a, f in ((0.3, 440), (0.02, 440)))
    whole = mix_tracks([loud, faint], [0, 32_000], RATE)
    assert whole.shape == (80_000,) and whole.dtype == np.float32
    n_fade = round(FADE * RATE)
    np.testing.assert_array_equal(whole[:32_000], loud[:32_000])
    np.testing.assert_allclose(whole[48_000:], 15 * faint[16_000:], atol=1e-6)
    middle = slice(32_000 + n_fade, 48_000 - n_fade)
    expected = loud[middle] + 15 * faint[n_fade : 16_000 - n_fade]
    np.testing.assert_allclose(whole[middle], expected, atol=1e-6)
    assert np.abs(np.diff(whole)).max() < 0.3  # no click


def test_a_sum_past_full_scale_is_scaled_down_and_silence_is_not_raised() -> None:
    ones = np.ones(100, np.float32)
    whole = mix_tracks([ones, 0.5 * ones], [0, 0], RATE)
    np.testing.assert_allclose(whole, 0.99 * ones, rtol=1e-6)
    assert not measure(whole).clipped_samples
    nothing = np.full(100, 1e-9, np.float32)
    np.testing.assert_array_equal(mix_tracks([nothing, nothing], [0, 0], RATE), 2 * nothing)
    np.testing.assert_allclose(mix_tracks([0.5 * ones, nothing], [0, 0], RATE), 0.5 * ones, atol=1e-8)
    assert mix_tracks([ones], [0], RATE) is ones


@pytest.mark.parametrize(("height", "n"), [(0.9, 16), (0.3, 32), (0.05, 160)])
def test_a_click_leaves_the_rain_its_level(height: float, n: int) -> None:
    rain = _rain(0.05)
    click = np.zeros_like(rain)
    click[RATE : RATE + n] = height * np.sin(np.arange(n))
    both = mix_tracks([rain, click], [0, 0], RATE)
    assert 0.7 < np.median(both / rain) <= 1 and np.abs(both[RATE : RATE + n]).max() > max(height, 0.45)


def test_what_stops_is_measured_where_it_sounds_and_near_silence_is_not_raised() -> None:
    rain, hiss = _rain(0.05), _rain(3e-4)
    barks = rain * (np.arange(len(rain)) % RATE < RATE // 2)
    gain = np.median((mix_tracks([rain, barks], [0, 0], RATE) - rain)[: RATE // 2] / rain[: RATE // 2])
    assert 1 < gain < 1.3  # by their powers 1.41
    assert measure(hiss).near_silent
    np.testing.assert_allclose(mix_tracks([rain, hiss], [0, 0], RATE), rain + hiss, atol=1e-6)


def _rain(level: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, level, 3 * RATE).astype(np.float32)


@pytest.fixture(scope="module")
def generator(delayed_generator: Generator) -> Generator:
    return delayed_generator


def _one(generator: Generator, request: GenerationRequest) -> np.ndarray:
    ((_, wav),) = generator.generate([request])
    return wav


def test_a_generator_lays_what_it_makes_apart(generator: Generator) -> None:
    layered = GenerationRequest("a dog barks while it rains", 7, 1.0, replace(FREE, layers=2))
    tracks = place_tracks(2, RATE, RATE)
    seconds = tracks[0][1] / RATE
    parts = [
        _one(generator, GenerationRequest("a dog barks", 7, seconds, FREE)),
        _one(generator, GenerationRequest("it rains", derive_seed(7, "layer 1"), seconds, FREE)),
    ]
    assert np.array_equal(_one(generator, layered), mix_tracks(parts, [begin for begin, _ in tracks], RATE))
    assert generator.prepare(layered).texts == ("dog bark", "rain")
    assert generator.prepare(replace(layered, sampling=FREE)).texts == ("dog bark rain",)
    assert generator.prepare(replace(layered, text=None)).texts == ()


def test_layers_come_in_any_company(generator: Generator) -> None:
    sampling = replace(FREE, candidates=5, layers=2)
    requests = [
        GenerationRequest("a dog barks and rain", 1, 0.5, sampling),
        GenerationRequest("dog", 2, 0.4, sampling),
        GenerationRequest("rain and a dog", 3, 0.5, replace(sampling, candidates=1)),
        GenerationRequest(None, 4, 0.3, sampling),
    ]
    assert [len(generator.prepare(request).tracks) for request in requests] == [2, 1, 2, 1]
    together = dict(generator.generate(requests))
    assert len(together) == 4
    for index, request in enumerate(requests):
        assert np.array_equal(_one(generator, request), together[index])
    assert np.array_equal(together[1], _one(generator, replace(requests[1], sampling=replace(sampling, layers=1))))


def test_a_continuation_has_no_layers_and_a_stream_takes_none(generator: Generator) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3000).astype(np.float32)
    layered = GenerationRequest("a dog barks while it rains", 7, 0.7, replace(FREE, layers=2))
    plain = replace(layered, sampling=FREE)
    assert not np.array_equal(_one(generator, layered), _one(generator, plain))
    with pytest.raises(InputError, match="--stream cannot mix"):
        next(generator.stream(generator.prepare(layered)))
    continued, as_well = (_one(generator, replace(each, prompt_audio=noise)) for each in (layered, plain))
    assert np.array_equal(continued, as_well)


def test_a_part_without_a_known_word_is_no_track(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    encode, texts = generator.encoder.encode, []

    def encode_but_frog(given: list[str]) -> list[object]:
        texts.append(tuple(given))
        return [vectors[: 0 if text == "frog" else None] for vectors, text in zip(encode(given), given, strict=True)]

    monkeypatch.setattr(generator.encoder, "encode", encode_but_frog)
    request = GenerationRequest("a dog and a frog", 0, 1.0, replace(FREE, layers=2))
    assert generator.prepare(request).texts == ("dog frog",) and texts == [("dog", "frog"), ("dog frog",)]
    assert generator.prepare(replace(request, text="a dog and rain")).texts == ("dog", "rain")
