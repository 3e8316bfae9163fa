"""Sounds of one prompt made apart: where they lie, their sum, and what becomes of them in a generator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiogen_cli.data.loudness import measure
from audiogen_cli.lm.config import Sampling
from audiogen_cli.lm.generation.generator import Generator, Request
from audiogen_cli.lm.generation.mixdown import FADE, Layer, lay, place_layers
from audiogen_cli.lm.generation.rerank import derive_seed

RATE = 16_000
FREE = Sampling(guidance=2.0, top_p=0.95)


@given(n=st.integers(1, 8), n_samples=st.integers(1, 2_000_000))
def test_layers_fill_the_whole_one_after_the_other(n: int, n_samples: int) -> None:
    layers = place_layers(n, n_samples, RATE)
    begins, ends = [layer.begin for layer in layers], [layer.begin + layer.n_samples for layer in layers]
    assert begins[0] == 0 and ends[-1] == n_samples and len(layers) == n
    assert begins == sorted(begins) and ends == sorted(ends)
    assert begins[-1] <= min(2 * RATE, 0.4 * n_samples + 1)
    assert len({layer.n_samples for layer in layers}) == 1 and layers[0].n_samples >= 1


def test_in_five_seconds_each_of_two_is_alone_for_two_seconds() -> None:
    assert place_layers(2, 5 * RATE, RATE) == [Layer(0, 48_000), Layer(32_000, 48_000)]
    assert [layer.begin for layer in place_layers(3, 60 * RATE, RATE)] == [0, 16_000, 32_000]
    assert place_layers(1, 777, RATE) == [Layer(0, 777)]


def test_the_sum_has_all_at_one_level_and_fades_inside_only() -> None:
    layers = place_layers(2, 5 * RATE, RATE)
    t = np.arange(layers[0].n_samples) / RATE
    loud, faint = (a * np.sin(2 * np.pi * f * t).astype(np.float32) for a, f in ((0.3, 440), (0.02, 1000)))
    whole = lay([loud, faint], layers, RATE)
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
    whole = lay([ones, 0.5 * ones], [Layer(0, 100), Layer(0, 100)], RATE)
    np.testing.assert_allclose(whole, 0.99 * ones, rtol=1e-6)
    assert not measure(whole).clipped_samples
    nothing = np.full(100, 1e-9, np.float32)
    np.testing.assert_array_equal(lay([nothing, nothing], [Layer(0, 100), Layer(0, 100)], RATE), 2 * nothing)
    np.testing.assert_allclose(lay([0.5 * ones, nothing], [Layer(0, 100), Layer(0, 100)], RATE), 0.5 * ones, atol=1e-8)


@pytest.fixture(scope="module")
def generator(delayed_generator: Generator) -> Generator:
    return delayed_generator


def _one(generator: Generator, request: Request) -> np.ndarray:
    ((_, wav),) = generator.generate([request])
    return wav


def test_a_generator_lays_what_it_makes_apart(generator: Generator) -> None:
    layered = Request("a dog barks while it rains", 7, 1.0, replace(FREE, layers=2))
    layers = place_layers(2, RATE, RATE)
    seconds = layers[0].n_samples / RATE
    parts = [
        _one(generator, Request("a dog barks", 7, seconds, FREE)),
        _one(generator, Request("it rains", derive_seed(7, "layer 1"), seconds, FREE)),
    ]
    assert np.array_equal(_one(generator, layered), lay(parts, layers, RATE))
    assert generator.read(layered) == ["dog bark", "rain"] and generator.count_takes(layered) == 2
    assert generator.read(replace(layered, sampling=FREE)) == ["dog bark rain"]
    assert generator.read(replace(layered, prompt=None)) == []


def test_layers_come_in_any_company(generator: Generator) -> None:
    sampling = replace(FREE, candidates=5, layers=2)
    requests = [
        Request("a dog barks and rain", 1, 0.5, sampling),
        Request("dog", 2, 0.4, sampling),
        Request("rain and a dog", 3, 0.5, replace(sampling, candidates=1)),
        Request(None, 4, 0.3, sampling),
    ]
    assert [generator.count_takes(request) for request in requests] == [10, 5, 2, 1]
    together = dict(generator.generate(requests))
    assert len(together) == 4
    for index, request in enumerate(requests):
        assert np.array_equal(_one(generator, request), together[index])
    assert np.array_equal(together[1], _one(generator, replace(requests[1], sampling=replace(sampling, layers=1))))


def test_what_goes_on_from_a_sound_or_is_streamed_has_no_layers(generator: Generator) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3000).astype(np.float32)
    layered = Request("a dog barks while it rains", 7, 0.7, replace(FREE, layers=2))
    plain = replace(layered, sampling=FREE)
    assert not np.array_equal(_one(generator, layered), _one(generator, plain))
    assert np.array_equal(np.concatenate(list(generator.stream(layered))), _one(generator, plain))
    continued, as_well = (_one(generator, replace(each, prompt_audio=noise)) for each in (layered, plain))
    assert np.array_equal(continued, as_well)


def test_a_part_without_a_known_word_is_no_layer(tmp_path: Path, generator: Generator) -> None:
    encode, texts = generator.encoder.encode, []

    class Knows:
        def encode(self, given: list[str]) -> list[object]:
            texts.append(given)
            return [
                vectors[: 0 if "frog" in text else None] for vectors, text in zip(encode(given), given, strict=True)
            ]

    knows = Generator.load(generator.folder, device="cpu")
    knows.encoder = Knows()  # type: ignore[assignment]
    request = Request("a dog and a frog", 0, 1.0, replace(FREE, layers=2))
    assert knows.read(request) == ["dog frog"] and texts == [["dog", "frog"]]
    assert knows.read(replace(request, prompt="a dog and rain")) == ["dog", "rain"]
