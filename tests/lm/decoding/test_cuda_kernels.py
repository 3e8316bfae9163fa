"""The kernels of a GPU's decoding step, run one program after the other by triton's interpreter on CPU tensors.

`test_cuda_backend` runs this file in a process of its own: triton must be told to interpret before it is imported.
"""

from __future__ import annotations

import dataclasses
import os

import pytest
import torch
from helpers.zoo import CONFIG, make_model
from torch import Tensor

from audiogen_cli.lm.config import Sampling
from audiogen_cli.lm.decoding import cuda_backend
from audiogen_cli.lm.decoding.backend import Backend, TorchBackend
from audiogen_cli.lm.decoding.cuda_backend import CudaBackend, RecordedBackend, load_fastest
from audiogen_cli.lm.decoding.engine import Engine
from audiogen_cli.lm.decoding.requests import UNKNOWN, DecodingRequest
from audiogen_cli.lm.sampling import draw, top_k, top_p

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="run by test_cuda_backend")


class PlainCudaBackend(CudaBackend):
    """Not recorded."""

    record = Backend.record


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few positions be several parts, and batches have no room that no step needs."""
    monkeypatch.setattr(cuda_backend, "PART", 16)
    monkeypatch.setattr(PlainCudaBackend, "bucket", 1)


def make_text(length: int, seed: int = 0) -> Tensor:
    return torch.randn(length, CONFIG.text_width, generator=torch.Generator().manual_seed(seed))


def make_requests(n_prompts: list[int], n_new: int, n_q: int) -> list[DecodingRequest]:
    settings = [Sampling(), Sampling(top_p=0.9, top_k=7, temperature=1.5), Sampling(temperature=0), Sampling(top_p=1)]
    return [
        DecodingRequest(make_text(2 + 5 * i, i), n + n_new, i, settings[i % 4], torch.full((n_q, n), i))
        for i, n in enumerate(n_prompts)
    ]


@pytest.mark.parametrize("changes", [{}, {"pattern": "parallel", "n_q": 1, "bias": False, "embedding": "sum"}])
def test_codes_are_those_of_the_plain_backend(changes: dict[str, object]) -> None:
    requests = make_requests([3, 14, 9], 2, int(changes.get("n_q", 3)))  # the third follows the first, in its slot
    requests += [dataclasses.replace(request, negative=make_text(4, 9)) for request in requests[:2]]

    def run(backend: type[Backend]) -> list[Tensor]:
        engine = Engine(make_model(n_layers=1, max_frames=16, **changes), backend=backend)
        return [codes for _, codes in sorted(engine.generate(requests, 2), key=lambda pair: pair[0])]

    for one, two in zip(run(TorchBackend), run(PlainCudaBackend), strict=True):
        assert torch.equal(one, two)


def step(backend: Backend, rows: list[int], inputs: Tensor, prompts: list[Tensor], texts: list[Tensor]) -> Tensor:
    """Compute a position after each row's own prompt [1, C, d]: logits [R, K, V]."""
    for place, row in enumerate(rows):
        backend.prepare(place, texts[row])
        backend.prefill(place, prompts[row])
    return backend.step(inputs[rows], torch.tensor([prompts[row].shape[1] for row in rows]), 40).clone()


# The interpreter cannot multiply bfloat16. Texts of up to 16 positions are folded here, of which one has a single one.
@pytest.mark.parametrize(("dtype", "n_text"), [("float32", 16), ("float32", 32), ("float16", 16)])
def test_logits_are_those_of_the_plain_backend_and_do_not_depend_on_company(dtype: str, n_text: int) -> None:
    lengths = [1, 15, 16, 33]
    prompts = [torch.randn(1, n, CONFIG.dim, generator=torch.Generator().manual_seed(n)) for n in lengths]
    texts, inputs = [make_text(1 + 4 * i, i) for i in range(4)], torch.randn(4, CONFIG.dim)
    expected = step(TorchBackend(make_model(), 4, 40, n_text, torch.float32), [0, 1, 2, 3], inputs, prompts, texts)
    model = make_model()
    CudaBackend.load(model, dtype)
    cache_dtype = getattr(torch, dtype)
    with torch.inference_mode():
        together = CudaBackend(model, 4, 40, n_text, cache_dtype)
        logits = step(together, [0, 1, 2, 3], inputs, prompts, texts)
        tolerance = 1e-5 if dtype == "float32" else 0.01
        assert float((logits - expected).abs().max()) < tolerance * float(expected.abs().max())
        assert together.folded == (n_text == 16)
        assert together.x.dtype == torch.float32 == logits.dtype and together.qkv.dtype == cache_dtype
        for row in (1, 3):
            # With less room where it needs less: one part of positions, half of a text.
            room = (16, 8 if together.folded else n_text) if row == 1 else (40, n_text)
            alone = step(CudaBackend(model, 1, *room, cache_dtype), [row], inputs, prompts, texts)
            assert torch.equal(alone[0], logits[row])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_kernels_are_tried_beside_the_modules_before_they_are_used(
    dtype: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_fastest(make_model(n_layers=1), dtype)[0] is CudaBackend and not caplog.messages
    monkeypatch.setattr(cuda_backend.CudaBackend, "_attend", lambda *arguments, **options: None)
    model = make_model(n_layers=1)
    assert load_fastest(model, dtype)[0] is RecordedBackend
    assert {each.dtype for each in model.parameters()} == {getattr(torch, dtype)} and model.precision is None
    assert "their logits differ by" in caplog.messages[0]


def test_draws_without_a_sort_are_those_of_a_sort() -> None:
    from audiogen_cli.lm.decoding import cuda_kernels

    n, size, generator = 40, 45, torch.Generator().manual_seed(0)
    spread = torch.rand(n, 1, 1, generator=generator) * 8
    probabilities = (torch.randn(n, 1, size, generator=generator) * spread).softmax(-1)
    probabilities[: n // 3] = probabilities[: n // 3].bfloat16().float()  # many are equal
    probabilities[:5] = 1 / size  # all
    limits = torch.rand(n, 1, 1, generator=generator)
    limits[::7] = 1.0
    most = torch.randint(0, 4, (n, 1, 1), generator=generator) * 5
    uniforms = torch.rand(n, 1, 2, generator=generator)
    ranked, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
    chosen = draw(ranked * (top_k(ranked, most) & top_p(ranked, limits)), uniforms[..., 1])
    expected = tokens.gather(-1, chosen[..., None]).squeeze(-1)

    ranks, masses = torch.zeros(n, 1, size, dtype=torch.int32), torch.zeros(n, 1, size, dtype=torch.float64)
    steps, at = torch.full((n, 1, 2), UNKNOWN), torch.zeros(n, dtype=torch.long)
    cuda_kernels.rank[(n, 2)](probabilities, ranks, masses, CODES=size, OWN=32, BLOCK=16)
    shape = {"STREAMS": 1, "CODES": size, "UNKNOWN": UNKNOWN, "BLOCK": 64}
    cuda_kernels.draw[(n,)](probabilities, ranks, masses, limits, most, uniforms, steps, at, 2, **shape)
    assert torch.equal(ranks.long(), tokens.argsort(-1))
    assert torch.equal(steps[..., 1], expected) and (steps[..., 0] == UNKNOWN).all()
    before = torch.full((n, 1, 2), 3)  # codes of a prompt
    cuda_kernels.draw[(n,)](probabilities, ranks, masses, limits, most, uniforms, before, at, 2, **shape)
    assert (before == 3).all()
    nothing, after = torch.full_like(probabilities, torch.nan), torch.full((n, 1, 2), UNKNOWN)
    cuda_kernels.rank[(n, 2)](nothing, ranks, masses, CODES=size, OWN=32, BLOCK=16)
    cuda_kernels.draw[(n,)](nothing, ranks, masses, limits, most, uniforms, after, at, 2, **shape)
    assert (after[..., 1] == size).all()  # which the next step can read
