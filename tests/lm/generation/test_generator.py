"""From model folders to samples: lengths, continuation, company, refusals."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.zoo import make_codec, make_word_vectors
from hypothesis import example, given, settings
from hypothesis import strategies as st

from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.lm.config import Sampling
from audiogen_cli.lm.decoding.engine import Engine
from audiogen_cli.lm.decoding.requests import DecodingRequest
from audiogen_cli.lm.generation import estimates
from audiogen_cli.lm.generation.estimates import estimate
from audiogen_cli.lm.generation.generator import Generator
from audiogen_cli.lm.generation.requests import GenerationRequest
from audiogen_cli.lm.generation.tracks import splice
from audiogen_cli.lm.sampling_config import MAX_GUIDANCE, MAX_TEMPERATURE, MAX_TOP_K
from audiogen_cli.model_folder import copy_model, fingerprint

FREE = Sampling(top_p=0.95)
N_RANDOM = int(os.environ.get("AUDIOGEN_EXAMPLES", "15"))  # 1000 before a release


@pytest.fixture(scope="module")
def folder(delayed_lm: Path) -> Path:
    return delayed_lm


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    return Generator.load(folder, device="cpu")


def run(generator: Generator, *requests: GenerationRequest) -> list[np.ndarray]:
    return [wav for _, wav in sorted(generator.generate(requests), key=lambda pair: pair[0])]


def test_knows_its_model(generator: Generator, folder: Path) -> None:
    assert generator.sample_rate == 16_000 and generator.sampling.guidance == 2.0
    assert generator.license == "only for tests" and generator.fingerprint == fingerprint(folder)
    assert generator.prepare(GenerationRequest("a dog is barking at the park", 0, 1.0)).texts == ("dog bark park",)


@given(n_samples=st.integers(1, 30_000))
@example(n_samples=1)
@example(n_samples=640)
@example(n_samples=641)
@settings(max_examples=6, deadline=None)
def test_any_duration_is_exact(generator: Generator, n_samples: int) -> None:
    (wav,) = run(generator, GenerationRequest("dog", 0, n_samples / 16_000))
    assert wav.shape == (n_samples,) and wav.dtype == np.float32 and np.isfinite(wav).all()


def test_same_request_same_samples_in_any_company(generator: Generator) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3000).astype(np.float32)
    requests = [
        GenerationRequest("dog", 1, 0.5, FREE),
        GenerationRequest("rain bark", 2, 0.9, FREE),
        GenerationRequest(None, 3, 0.3, FREE),
        GenerationRequest("rain", 4, 0.6, FREE, noise),
        GenerationRequest("dog", 5, 0.5, FREE),
        GenerationRequest("dog", 1, 0.5, replace(FREE, negative="bark")),
        GenerationRequest(None, 3, 0.3, replace(FREE, negative="a barking dog")),
    ]
    together = run(generator, *requests)
    for request, wav in zip(requests, together, strict=True):
        assert np.array_equal(run(generator, request)[0], wav)
    assert not np.array_equal(together[0], together[4])  # another seed


def test_a_gpu_decodes_several_sounds_at_once(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [GenerationRequest("dog", seed, 0.4 if seed % 3 else 0.7, Sampling()) for seed in range(5)]
    alone, sizes = dict(generator.generate(requests)), list[int]()
    decode = generator.codec.decode_chunks

    def decode_chunks(blocks: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
        first = next(blocks)
        sizes.append(len(first))
        return decode(chain([first], blocks))

    monkeypatch.setattr(generator.codec, "decode_chunks", decode_chunks)
    monkeypatch.setattr(generator.engine, "exact", False)  # as on a GPU
    together = dict(generator.generate(requests))
    assert sorted(sizes) == [2, 3]  # those of one length
    for seed in range(5):
        np.testing.assert_allclose(together[seed], alone[seed], atol=1e-5)


def test_an_empty_negative_prompt_is_no_text(generator: Generator) -> None:
    requests = (GenerationRequest("dog", 1, 0.2, replace(FREE, negative=text)) for text in ("", " "))
    assert np.array_equal(*run(generator, *requests))


@given(
    duration=st.floats(1 / 16_000, 1.0),
    seed=st.integers(0, 2**32 - 1),
    text=st.none() | st.sampled_from(["dog", "rain bark", "dogs dogs rain bark dog"]),
    sampling=st.builds(
        Sampling,
        guidance=st.floats(0, MAX_GUIDANCE),
        top_p=st.floats(0, 1, exclude_min=True),
        top_k=st.integers(0, MAX_TOP_K),
        temperature=st.floats(0, MAX_TEMPERATURE),
    ),
    n_prompt=st.integers(0, 12_000),
    loud=st.floats(0, 4.0),
    batch_size=st.none() | st.integers(1, 5),
)
@settings(max_examples=N_RANDOM, deadline=None)
def test_random_settings_give_the_asked_number_of_numbers(
    generator: Generator,
    duration: float,
    seed: int,
    text: str | None,
    sampling: Sampling,
    n_prompt: int,
    loud: float,
    batch_size: int | None,
) -> None:
    prompt = (loud * np.random.default_rng(seed).uniform(-1, 1, n_prompt)).astype(np.float32)
    whole = duration + n_prompt / 16_000
    requests = [
        GenerationRequest(text, seed, duration, sampling),
        GenerationRequest(text, seed, whole, sampling, prompt),
        GenerationRequest(None, seed, duration / 2 + 1 / 16_000, sampling),
    ]
    results = dict(generator.generate(requests, batch_size))
    assert len(results) == 3
    for index, request in enumerate(requests):
        assert results[index].shape == (round(request.duration * 16_000),)
        assert results[index].dtype == np.float32 and np.isfinite(results[index]).all()
    assert np.array_equal(results[1][:n_prompt], prompt)


def test_next_to_no_temperature_is_none(generator: Generator) -> None:
    cold, colder = (GenerationRequest("dog", 0, 0.2, Sampling(temperature=t)) for t in (0.0, 1e-275))
    assert np.array_equal(*run(generator, cold, colder))


@pytest.mark.parametrize("duration", [1 / 16_000, 0.04, 0.3, 1.7])
@pytest.mark.parametrize("text", ["dog", None])
def test_a_stream_is_the_same_sound(generator: Generator, text: str | None, duration: float) -> None:
    request = GenerationRequest(text, 3, duration, FREE)
    blocks = list(generator.stream(generator.prepare(request)))
    assert np.array_equal(np.concatenate(blocks), run(generator, request)[0])
    assert len(blocks) > 1 or duration < 0.5


def test_a_stream_begins_before_all_is_decided(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    stream = generator.engine.stream

    def count(*arguments: Any) -> Iterator[Any]:
        nonlocal steps
        for codes in stream(*arguments):
            steps += codes.shape[1]
            yield codes

    monkeypatch.setattr(generator.engine, "stream", count)
    first = next(generator.stream(generator.prepare(GenerationRequest("dog", 0, 60.0, FREE))))
    assert len(first) > 0 and steps <= 50  # of 1500


def test_a_stream_begins_with_its_prompt(generator: Generator) -> None:
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, 1_000).astype(np.float32)
    request = GenerationRequest("dog", 0, 1.0, FREE, audio)
    streamed = np.concatenate([*generator.stream(generator.prepare(request))])
    assert np.array_equal(streamed, *run(generator, request))


class SmallMemory:
    """An engine that runs out of memory with more than `most` jobs at once, or with one longer than `longest`."""

    def __init__(self, engine: Engine, error: Exception, most: int, longest: int = 10**6) -> None:
        self.engine, self.error, self.most, self.longest = engine, error, most, longest
        self.exact, self.most_rows, self.sizes = engine.exact, engine.most_rows, list[int | None]()
        self.default_batch = engine.default_batch

    def generate(self, jobs: Sequence[Any], batch_size: int | None = None) -> Iterator[tuple[int, Any]]:
        self.sizes.append(batch_size)
        size = batch_size or 8
        for start in range(0, len(jobs), size):
            lane = jobs[start : start + size]
            if len(lane) > self.most or any(job.n_frames > self.longest for job in lane):
                raise self.error
            for index, codes in self.engine.generate(lane):
                yield start + index, codes

    def stream(self, job: Any, block_frames: int) -> Iterator[Any]:
        self.sizes.append(1)
        if job.n_frames > self.longest:
            raise self.error
        yield from self.engine.stream(job, block_frames)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        Exception("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_out_of_memory_halves_the_batch_and_changes_no_sound(
    generator: Generator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    requests = [GenerationRequest("dog", seed, 0.2, FREE) for seed in range(7)]
    expected = run(generator, *requests)
    small = SmallMemory(generator.engine, error, most=2)
    monkeypatch.setattr(generator, "engine", small)
    for wav, same in zip(run(generator, *requests), expected, strict=True):
        assert np.array_equal(wav, same)
    assert small.sizes[:3] == [None, 3, 1]
    assert "at most 3 sounds" in caplog.text


def test_a_sound_too_long_for_the_memory_fails_alone(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [GenerationRequest("dog", 0, 0.2), GenerationRequest("dog", 1, 2.0), GenerationRequest("rain", 2, 0.2)]
    monkeypatch.setattr(generator, "engine", SmallMemory(generator.engine, MemoryError(), 8, longest=20))
    done = []
    with pytest.raises(AudiogenError, match="even alone this is too long"):
        for index, _ in generator.generate(requests):
            done.append(index)
    assert done == [0, 2]


def test_other_errors_are_not_taken_for_memory(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "engine", SmallMemory(generator.engine, RuntimeError("shapes"), 0))
    with pytest.raises(RuntimeError, match="shapes"):
        run(generator, GenerationRequest("dog", 0, 0.2), GenerationRequest("dog", 1, 0.2))


def test_progress_counts_seconds_of_sound(generator: Generator) -> None:
    seen: list[float] = []
    list(generator.generate([GenerationRequest("dog", 0, 1.0)], progress=seen.append))
    assert len(seen) > 3 and seen == sorted(seen) and seen[-1] == 1.0
    seen.clear()
    list(generator.generate([GenerationRequest("dog", seed, 0.5) for seed in range(3)], progress=seen.append))
    assert seen == [0.5, 1.0, 1.5]
    seen.clear()
    list(
        generator.generate(
            [GenerationRequest("dog", 0, 1.0, prompt_audio=np.zeros(12_000, np.float32))], progress=seen.append
        )
    )
    assert seen[-1] == 0.25 and max(seen) <= 0.28  # only what is new; frames are longer than samples


def test_an_estimate_grows_with_the_sound(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    # Seconds of this thread's computing, whatever else the machine does meanwhile; the first also prepare.
    monkeypatch.setattr(estimates, "time", SimpleNamespace(perf_counter=time.thread_time))
    monkeypatch.setattr(estimates, "used_memory", lambda device: 1000)  # the process's own goes up and down
    estimate(generator, [1.0])
    (short, little), (long, much) = estimate(generator, [1.0]), estimate(generator, [1000.0] * 20)
    assert 0 < short < long / 100 and 1000 < little < much


def test_an_estimate_counts_steps_and_frames_read_again(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    def time(_: Generator, request: DecodingRequest, n: int) -> float:
        """Let a step take a second, and the reading of a frame a quarter of one."""
        return request.n_frames - request.n_prompt + request.n_prompt / 4

    def seconds(*given: object) -> float:
        return estimate(generator, *given)[0]

    monkeypatch.setattr("audiogen_cli.lm.generation.estimates._time", time)
    assert seconds([0.36]) == 10  # 9 frames, the second stream one step late
    assert seconds([1.0]) == 26 + 5 * 5 / 4  # the window holds 11 steps, sliding 9; 5 stay
    n = 2 * generator.engine.default_batch
    assert seconds([0.36] * n) == 2 * 10
    assert seconds([0.36] * n, 1) == n * 10
    assert seconds([0.36, 1.0]) == seconds([1.0])
    assert seconds([]) == 0
    monkeypatch.setattr("audiogen_cli.lm.generation.estimates._time", lambda *given: given[-1] * time(*given))
    assert seconds([0.36] * 16) == seconds([0.36] * 16, 1) == 16 * 10  # nothing is gained side by side


def test_an_estimate_is_made_with_the_settings_asked_for(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(
        "audiogen_cli.lm.generation.estimates._time", lambda _, request, n: tried.append(request.sampling.passes) or 1.0
    )
    estimate(generator, [1.0], None, Sampling(passes=7))
    assert tried and set(tried) == {7}


def test_an_estimate_counts_the_row_of_a_negative_text(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(
        "audiogen_cli.lm.generation.estimates._time", lambda _, request, n: tried.append((len(request.texts), n)) or 1.0
    )
    monkeypatch.setattr("audiogen_cli.lm.generation.estimates.used_memory", lambda device: 0)
    plain, steered = (estimate(generator, [0.36], None, Sampling(negative=text))[1] for text in ("", "rain"))
    assert 2 * steered == 3 * plain > 0
    estimate(generator, [0.36] * 100, 100, Sampling(negative="rain"))
    assert tried == [(2, 1), (3, 1), (3, generator.engine.most_rows // 3)]


@pytest.mark.parametrize("n_prompt", [1, 639, 640, 5000, 9000])  # up to beyond the trained window of 6400
def test_continuation_begins_with_exactly_the_prompt(generator: Generator, n_prompt: int) -> None:
    prompt = np.random.default_rng(0).uniform(-0.5, 0.5, n_prompt).astype(np.float32)
    for n_samples in (n_prompt, n_prompt + 1, n_prompt + 2000):
        (wav,) = run(generator, GenerationRequest("dog", 0, n_samples / 16_000, FREE, prompt))
        assert len(wav) == n_samples
        assert np.array_equal(wav[:n_prompt], prompt)


def test_seam_is_continuous_and_the_rest_is_the_decoder_s() -> None:
    time = np.arange(4000) / 16_000
    prompt = np.sin(2 * np.pi * 440 * time[:2000]).astype(np.float32)
    decoded = (0.4 * np.sin(2 * np.pi * 440 * time + 0.7) + 0.2).astype(np.float32)
    joined = splice(prompt, decoded, [(2000, 4000)], 320)
    assert np.abs(np.diff(joined[1990:2010])).max() < 0.18  # a 440 Hz sine of height 1 steps by 0.17 at most
    assert np.abs(decoded[2000] - prompt[1999]) > 0.18  # unmended it would have clicked
    assert np.array_equal(joined[2320:], decoded[2320:])
    whole = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    regions = [(0, 500), (1000, 1100), (1300, 2500)]  # the second nearer to the third than a fade is long
    mended = splice(whole, decoded, regions, 320)
    seams = [place for region in regions for place in region if place]
    assert all(np.abs(np.diff(mended[place - 10 : place + 10])).max() < 0.2 for place in seams)
    assert all(np.abs(decoded[place] - whole[place - 1]) > 0.2 for place in seams)  # unmended
    assert all(np.array_equal(mended[a:b], whole[a:b]) for a, b in ((500, 1000), (1100, 1300), (2500, 4000)))


def test_at_a_seam_a_codec_that_invents_waveforms_fades_in() -> None:
    draw = np.random.default_rng(0)
    audio = (0.01 * draw.standard_normal(4000)).astype(np.float32)
    decoded = (0.05 * draw.standard_normal(4000)).astype(np.float32)  # louder than the audio ever is
    joined = splice(audio, decoded, [(1000, 3000)], 320)
    for seam, step in ((1000, 1), (3000, -1)):
        outwards, inwards = seam - (step > 0), seam - (step < 0)
        assert joined[inwards] == pytest.approx(audio[outwards], abs=1e-6)  # no step at all
        faded = joined[inwards : inwards + 320 * step : step]
        assert np.square(faded).mean() < np.square(decoded).mean()  # nowhere louder than both
    assert np.array_equal(joined[1320:2680], decoded[1320:2680])


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (GenerationRequest("xyzzy", 0, 1.0), "holds no word that the model knows"),
        (GenerationRequest("dog", 0, 1.0, Sampling(negative="xyzzy")), "negative prompt 'xyzzy' holds no word"),
        (GenerationRequest("dog", 0, 0.0), "ask for at least"),
        (
            GenerationRequest("dog", 0, 0.1, prompt_audio=np.zeros(16_000, np.float32)),
            "shorter than the 1.00 s to continue",
        ),
    ],
)
def test_impossible_requests_are_refused(generator: Generator, request_: GenerationRequest, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(generator, GenerationRequest("dog", 0, 0.1), request_)


def test_another_codec_is_refused_by_both_names(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "lm")
    other = make_codec(tmp_path / "other", seed=1)
    copy_model(other, tmp_path / "lm" / "codec")
    with pytest.raises(InputError, match=f"{fingerprint(folder / 'codec')[:12]}.*{fingerprint(other)[:12]}"):
        Generator.load(tmp_path / "lm", device="cpu")


def test_other_word_vectors_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "lm")
    make_word_vectors(tmp_path / "vectors", width=5)
    config = tmp_path / "lm" / "config.json"
    config.write_text(config.read_text().replace(str(folder.parent / "vectors"), str(tmp_path / "vectors")))
    with pytest.raises(InputError, match="other word vectors"):
        Generator.load(tmp_path / "lm", device="cpu")
