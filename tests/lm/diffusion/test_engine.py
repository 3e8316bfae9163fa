"""Decoding with a diffusion model: seeds, batches, given codes, windows, passes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.diffusion import make_config

from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.lm.config import Sampling
from audiogen_cli.lm.decoding.requests import UNKNOWN, DecodingRequest
from audiogen_cli.lm.diffusion.engine import GPU_BATCH, DiffusionEngine, list_passes, list_windows
from audiogen_cli.lm.diffusion.network import DiffusionModel
from audiogen_cli.lm.generation.estimates import estimate
from audiogen_cli.lm.generation.generator import Generator
from audiogen_cli.lm.generation.requests import GenerationRequest

SAMPLING = Sampling(guidance=2.0, top_p=0.85)


def make_engine(schedule: str = "mask_uniform", **changes: object) -> DiffusionEngine:
    torch.manual_seed(0)
    model = DiffusionModel(make_config(schedule, 6, **changes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return DiffusionEngine(model)


@pytest.fixture(scope="module")
def engine() -> DiffusionEngine:
    return make_engine()


def make_text(n: int) -> torch.Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(n))


def decode(engine: DiffusionEngine, *requests: DecodingRequest) -> list[torch.Tensor]:
    return [codes for _, codes in sorted(engine.generate(requests), key=lambda pair: pair[0])]


def test_outputs_that_are_no_numbers_are_said() -> None:
    engine = make_engine()
    torch.nn.init.constant_(next(each for each in engine.model.parameters() if each.ndim == 1), torch.nan)
    with pytest.raises(AudiogenError, match="no finite numbers"):
        decode(engine, DecodingRequest(make_text(2), 12, 1, SAMPLING))


@pytest.mark.parametrize("schedule", ["mask_uniform", "mask", "uniform"])
def test_a_seed_gives_the_same_codes_whatever_is_beside_it(schedule: str) -> None:
    engine = make_engine(schedule)
    requests = [
        DecodingRequest(make_text(2), 12, 1, SAMPLING),
        DecodingRequest(make_text(5), 12, 2, SAMPLING, negative=make_text(3)),
        DecodingRequest(None, 9, 3, SAMPLING),
        DecodingRequest(make_text(2), 12, 4, dataclasses.replace(SAMPLING, passes=3)),
        DecodingRequest(make_text(2), 50, 5, SAMPLING),  # beyond the window of 20
    ]
    together = decode(engine, *requests)
    for request, codes in zip(requests, together, strict=True):
        assert codes.shape == (3, request.n_frames) and codes.min() >= 0 and codes.max() < engine.config.codebook_size
        assert torch.equal(decode(engine, request)[0], codes)
        assert torch.equal(torch.cat(list(engine.stream(request, 4)), 1), codes)
    assert not torch.equal(together[0], decode(engine, dataclasses.replace(requests[0], seed=9))[0])


def test_a_gpu_takes_its_own_number_at_once_and_halves_that(
    tiny_diffusion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, tried = Generator.load(tiny_diffusion, device="cpu"), list[int | None]()
    assert generator.engine.default_batch == 1
    monkeypatch.setattr(generator.engine, "exact", False)
    monkeypatch.setattr(generator.engine, "default_batch", GPU_BATCH)
    original = generator.engine.generate

    def generate(
        requests: Sequence[DecodingRequest], batch_size: int | None = None
    ) -> Iterator[tuple[int, torch.Tensor]]:
        tried.append(batch_size or len(requests))
        if batch_size is None and len(requests) > GPU_BATCH:
            raise torch.OutOfMemoryError
        yield from original(requests, batch_size)

    monkeypatch.setattr(generator.engine, "generate", generate)
    requests = [GenerationRequest("rain", seed, 0.2, generator.sampling) for seed in range(GPU_BATCH + 1)]
    assert len(list(generator.generate(requests))) == len(requests) and tried == [GPU_BATCH + 1, GPU_BATCH // 2]
    tried.clear()
    estimate(generator, [0.2] * 40)
    assert {*tried} == {GPU_BATCH}


def test_apples_gpu_is_refused() -> None:
    model = SimpleNamespace(null_text=SimpleNamespace(device=torch.device("mps")), config=make_config("mask", 2))
    with pytest.raises(InputError, match="--device mps"):
        DiffusionEngine(model)  # type: ignore[arg-type]


def test_memory_is_that_of_a_windows_logits(engine: DiffusionEngine) -> None:
    plain, guided = (DecodingRequest(text, 50, 0, SAMPLING) for text in (None, make_text(2)))
    assert engine.count_bytes(plain, 1) == 4 * 21 * 3 * engine.config.codebook_size  # of 50 frames the window of 21
    assert engine.count_bytes(guided, 3) == 6 * engine.count_bytes(plain, 1)


def test_text_and_guidance_matter(engine: DiffusionEngine) -> None:
    request = DecodingRequest(make_text(2), 20, 1, SAMPLING)
    others = [
        dataclasses.replace(request, vectors=make_text(4)),
        dataclasses.replace(request, sampling=Sampling(guidance=6.0, top_p=0.85)),
        dataclasses.replace(request, negative=make_text(3)),
    ]
    codes, *rest = decode(engine, request, *others)
    assert not any(torch.equal(codes, other) for other in rest)


def test_given_codes_stay_wherever_they_are(engine: DiffusionEngine) -> None:
    given = torch.full((3, 50), UNKNOWN)
    given[:, :7] = 1
    given[0, 20:30] = 2  # of one stream only
    given[:, 45:] = 3
    (codes,) = decode(engine, DecodingRequest(make_text(2), 50, 1, SAMPLING, given))
    assert torch.equal(codes[given != UNKNOWN], given[given != UNKNOWN])
    assert (codes >= 0).all() and (codes[:, 7:20] != 1).any()
    (longer,) = decode(engine, DecodingRequest(make_text(2), 60, 1, SAMPLING, codes))
    assert torch.equal(longer[:, :50], codes)


def test_windows_hold_the_gap_in_their_middle() -> None:
    codes = torch.zeros(2, 100)
    codes[:, 40:50] = UNKNOWN
    codes[1, 90:] = UNKNOWN
    assert list_windows(codes, 30) == [(30, 60), (70, 100)]
    assert list_windows(torch.full((2, 100), UNKNOWN), 30) == [
        (0, 30),
        (15, 45),
        (30, 60),
        (45, 75),
        (60, 90),
        (70, 100),
    ]
    assert list_windows(torch.full((2, 20), UNKNOWN), 30) == [(0, 20)]
    assert list_windows(torch.zeros(2, 20), 30) == []


def test_passes_skip_evenly() -> None:
    assert list_passes(4, 0) == list_passes(4, 9) == [(4, 3), (3, 2), (2, 1), (1, 0)]
    assert list_passes(100, 4) == [(100, 75), (75, 50), (50, 25), (25, 0)]
