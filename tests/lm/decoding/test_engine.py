"""The decoding engine against the full forward pass, and samples against themselves in other company."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.zoo import CONFIG, make_model
from torch import Tensor

from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.lm.config import Sampling
from audiogen_cli.lm.decoding.backend import Backend, TorchBackend
from audiogen_cli.lm.decoding.cpu_backend import CpuBackend
from audiogen_cli.lm.decoding.engine import Engine, choose_dtype
from audiogen_cli.lm.decoding.requests import DecodingRequest, DecodingWindow, count_frames, list_windows
from audiogen_cli.lm.model import AudioLanguageModel


def make_text(length: int, seed: int = 0) -> Tensor:
    return torch.randn(length, CONFIG.text_width, generator=torch.Generator().manual_seed(seed))


def run(engine: Engine, requests: list[DecodingRequest], batch_size: int | None = None) -> list[Tensor]:
    return [codes for _, codes in sorted(engine.generate(requests, batch_size), key=lambda pair: pair[0])]


@torch.inference_mode()
def greedy_by_full_forwards(model: AudioLanguageModel, request: DecodingRequest) -> Tensor:
    """The same decoding without cache or engine: after every step the whole sequence is computed anew."""
    config, guidance = model.config, request.sampling.guidance
    late = config.stream_delays
    codes = torch.zeros(1, config.n_q, request.n_frames, dtype=torch.long)
    known = request.n_prompt
    if request.prompt is not None:
        codes[0, :, :known] = request.prompt
    nothing = torch.zeros(1, 1, config.text_width), torch.zeros(1, 1, dtype=torch.bool)
    texts = [
        nothing if vectors is None else (vectors[None], torch.ones(1, len(vectors), dtype=torch.bool))
        for vectors in (request.vectors, None, request.negative)
    ]
    for step in range(known + 1, 1 + request.n_frames + max(late)):
        with_text, without, against = (model(codes, *text).logits.log_softmax(-1) for text in texts)
        best = (without + guidance * (with_text - against)).argmax(-1)
        for k in range(config.n_q):
            if known <= step - 1 - late[k] < request.n_frames:
                codes[0, k, step - 1 - late[k]] = best[0, k, step - 1 - late[k]]
    return codes[0]


@pytest.mark.parametrize("prompt_frames", [0, 1, 5])
@pytest.mark.parametrize("changes", [{}, {"pattern": "parallel"}, {"text_prefix": False}, {"cross_attention": False}])
def test_cached_decoding_is_the_full_forward(changes: dict[str, object], prompt_frames: int) -> None:
    model = make_model(**changes)
    prompt = torch.randint(CONFIG.codebook_size, (3, prompt_frames)) if prompt_frames else None
    loud = 5 * make_text(2, 1)
    texts = [(None, None), (make_text(4), None), (make_text(4), loud), (None, loud)]
    requests = [DecodingRequest(text, 11, 1, Sampling(temperature=0), prompt, negative) for text, negative in texts]
    expected = [greedy_by_full_forwards(model, request) for request in requests]
    for backend in (TorchBackend, CpuBackend):
        for request, codes in zip(requests, expected, strict=True):
            assert torch.equal(run(Engine(model, backend=backend), [request])[0], codes)
    if "cross_attention" not in changes:  # a prefix alone moves this model too little
        assert len({codes.numpy().tobytes() for codes in expected}) == len(texts)


@pytest.mark.parametrize("changes", [{}, {"pattern": "parallel", "n_q": 1}, {"text_prefix": False, "bias": False}])
def test_a_sample_is_the_same_alone_and_in_any_company(changes: dict[str, object]) -> None:
    engine = Engine(make_model(max_frames=8, **changes))
    requests = [
        DecodingRequest(
            None if i % 7 == 3 else make_text(1 + (5 * i) % 23, i),
            n_frames=5 + (i * 11) % 13,  # many beyond the trained window of 8
            seed=i,
            sampling=Sampling(guidance=[3.0, 1.0, 2.0][i % 3], top_p=0.9),
            prompt=torch.full((engine.config.n_q, 3), i % CONFIG.codebook_size) if i % 5 == 0 else None,
            negative=make_text(1 + (7 * i) % 23, 100 + i) if i % 3 == 2 else None,
        )
        for i in range(11)
    ]
    alone = [run(engine, [request])[0] for request in requests]
    together = run(engine, requests)
    backwards = run(engine, requests[::-1], batch_size=3)[::-1]
    for request, one, two, three in zip(requests, alone, together, backwards, strict=True):
        assert one.shape == (engine.config.n_q, request.n_frames)
        assert torch.equal(one, two) and torch.equal(one, three)


def record_logits(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """A list that every step's guided logits, [n, K, V], are added to."""
    seen: list[Tensor] = []
    inner = Backend.compute_logits

    def compute(backend: Backend, *arguments: Any) -> Tensor:
        seen.append(inner(backend, *arguments).clone())
        return seen[-1]

    monkeypatch.setattr(Backend, "compute_logits", compute)
    return seen


@pytest.mark.parametrize("dtype", ["float32", "int8", "int4"])
def test_logits_do_not_depend_on_company(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    """Codes could agree by luck: compare the numbers behind them bit for bit, at positions far apart."""
    engine, seen = Engine(make_model(max_frames=150), dtype), record_logits(monkeypatch)
    requests = [
        DecodingRequest(make_text(40, 0), 110, seed=0, prompt=torch.full((3, 50), 2)),  # slides at its 93rd step
        DecodingRequest(make_text(2, 1), 50, seed=1),
        DecodingRequest(make_text(1, 2), 20, seed=2),  # the fourth follows in its place
        DecodingRequest(make_text(17, 3), 15, seed=3),
    ]
    alone = []
    for request in requests:
        seen.clear()
        run(engine, [request])
        alone.append(torch.cat(seen))
    seen.clear()
    run(engine, requests, batch_size=3)
    assert len(seen) == 110 - 50 + 2
    for slot, first, numbers in ((0, 0, alone[0]), (1, 0, alone[1]), (2, 0, alone[2]), (2, 22, alone[3])):
        together = torch.stack([step[slot] for step in seen[first : first + len(numbers)]])
        assert torch.equal(together, numbers)


def test_a_longer_sample_begins_like_a_shorter_one() -> None:
    engine = Engine(make_model())
    short, long = run(engine, [DecodingRequest(make_text(3), n, seed=5) for n in (10, 17)])
    assert torch.equal(long[0, :10], short[0])  # stream 0 comes first; the others end with other neighbours


@pytest.mark.parametrize("backend", [TorchBackend, CpuBackend])
def test_outputs_that_are_no_numbers_are_said(backend: type[Backend]) -> None:
    model = make_model(n_layers=1)
    torch.nn.init.constant_(model.blocks[0].down.bias, torch.inf)  # as float16 overflows
    with pytest.raises(AudiogenError, match="no finite numbers"):
        run(Engine(model, backend=backend), [DecodingRequest(make_text(4), 5, 1)])


def test_prompt_is_kept_and_seeds_differ() -> None:
    engine = Engine(make_model())
    prompt = torch.randint(CONFIG.codebook_size, (3, 6))
    requests = [DecodingRequest(make_text(3), 16, seed, Sampling(top_p=1.0, guidance=1.0), prompt) for seed in range(2)]
    one, two = run(engine, requests)
    assert torch.equal(one[:, :6], prompt) and torch.equal(two[:, :6], prompt)
    assert not torch.equal(one, two)
    assert int(one.max()) < CONFIG.codebook_size and int(one.min()) >= 0


@pytest.mark.parametrize("changes", [{}, {"pattern": "parallel"}, {"delays": (0, 3, 1)}])
@pytest.mark.parametrize(("prompt_frames", "block_frames"), [(0, 1), (0, 4), (5, 7), (5, 100)])
def test_a_stream_is_what_generate_returns(changes: dict[str, object], prompt_frames: int, block_frames: int) -> None:
    engine = Engine(make_model(max_frames=8, **changes))
    prompt = torch.randint(CONFIG.codebook_size, (3, prompt_frames)) if prompt_frames else None
    request = DecodingRequest(make_text(3), 21, seed=5, sampling=Sampling(top_p=0.9), prompt=prompt)
    blocks = list(engine.stream(request, block_frames))
    assert all(block.shape == (3, block_frames) for block in blocks[:-1])
    assert torch.equal(torch.cat(blocks, dim=1), run(engine, [request])[0])


def test_a_stream_speaks_as_soon_as_a_block_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, steps = Engine(make_model()), record_logits(monkeypatch)
    seen = [len(steps) for _ in engine.stream(DecodingRequest(make_text(3), 12, seed=5), 4)]
    assert seen == [4 + 2, 8 + 2, 12 + 2]  # the last of three streams comes two steps late
    with pytest.raises(ValueError, match="block_frames"):
        next(engine.stream(DecodingRequest(None, 3, seed=0), 0))


@pytest.mark.parametrize("changes", [{}, {"text_prefix": False}, {"cross_attention": False, "max_frames": 11}])
def test_both_backends_decode_the_same(changes: dict[str, object]) -> None:
    cold = Sampling(temperature=0)
    requests = [DecodingRequest(make_text(3 + 9 * i, i), 31 - i, i, cold, torch.full((3, 2), i)) for i in range(4)]
    expected = run(Engine(make_model(**changes)), requests, 3)
    for one, two in zip(expected, run(Engine(make_model(**changes), backend=TorchBackend), requests, 3), strict=True):
        assert torch.equal(one, two)


def test_windows_and_what_they_cost() -> None:
    config = make_model(max_frames=8, pattern="parallel").config
    assert list_windows(config, 2, 7) == [DecodingWindow(0, 2, 7)]
    assert list_windows(config, 2, 8) == [DecodingWindow(0, 2, 8)]
    # A longer one never reaches the end of the trained window, where clips end.
    windows = [DecodingWindow(0, 0, 6), DecodingWindow(2, 6, 8), DecodingWindow(4, 8, 10), DecodingWindow(6, 10, 11)]
    assert list_windows(config, 0, 11) == windows
    assert count_frames(config, 2, 7) == (5, 0)
    assert count_frames(config, 0, 11) == (11, 12)


def test_requests_follow_each_other_in_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, steps = Engine(make_model(pattern="parallel")), record_logits(monkeypatch)
    frames = [4, 9, 3, 20, 1, 12, 7]
    requests = [
        DecodingRequest(make_text(1 + 9 * i), n, seed=i, prompt=torch.zeros(3, n // 2)) for i, n in enumerate(frames)
    ]
    whole = sum(n - n // 2 for n in frames)
    for size in (1, 2, 3):
        steps.clear()
        run(engine, requests, size)
        assert whole <= size * len(steps) < whole + size * 10  # at the end some slots stay empty
        assert all(len(step) == size for step in steps)


def test_batches_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(make_model(pattern="parallel"))
    requests = [DecodingRequest(make_text(3), 5, seed=i) for i in range(5)]
    row = 2 * (16 + 5) * CONFIG.dim * 4 * CONFIG.n_layers  # bytes of keys and values
    for rows, size in ((100, 5), (6, 2), (1, 1)):
        monkeypatch.setattr("audiogen_cli.lm.decoding.engine.free_memory", lambda device, rows=rows: rows * row)
        assert engine.count_slots(requests, 8) == size
    assert engine.count_slots(requests, 3) == 1


def test_the_number_format_is_chosen_by_device_and_size(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose_dtype("auto", CONFIG, "cpu") == "float32" and choose_dtype("int8", CONFIG, "cpu") == "int8"
    passes = replace(CONFIG, decoder="diffusion", pattern="parallel", text_prefix=False)
    assert choose_dtype("int8", passes, "cpu") == choose_dtype("bfloat16", CONFIG, "cpu") == "float32"
    assert "int8 is for autoregressive models" in caplog.text and "bfloat16 is for GPUs" in caplog.text
    monkeypatch.setattr("audiogen_cli.lm.decoding.engine.CACHED_WEIGHTS", 1000)
    assert choose_dtype("auto", CONFIG, "cpu") == "int8" and choose_dtype("auto", passes, "cpu") == "float32"
    with pytest.raises(InputError, match="int8"):
        choose_dtype("int8", CONFIG, "mps")


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_in_small_formats_sixteen_together_are_sixteen_alone(dtype: str) -> None:
    engine = Engine(make_model(), dtype)
    requests = [DecodingRequest(make_text(1 + i % 3, i), 4, seed=i, sampling=Sampling(top_p=0.9)) for i in range(16)]
    together = run(engine, requests, batch_size=16)
    for request, codes in zip(requests, together, strict=True):
        assert torch.equal(run(engine, [request])[0], codes)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_decodes_what_a_cpu_decodes() -> None:
    requests = [
        DecodingRequest(make_text(3, i), 30, i, Sampling(temperature=0), torch.full((3, 2), i)) for i in range(6)
    ]
    on_cpu = run(Engine(make_model()), requests)
    on_gpu = run(Engine(make_model().cuda()), requests)
    agreement = [float((one == two).float().mean()) for one, two in zip(on_cpu, on_gpu, strict=True)]
    assert min(agreement) > 0.9  # a near tie may fall otherwise, and what follows it then differs
