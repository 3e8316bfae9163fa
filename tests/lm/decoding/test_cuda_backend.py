"""A GPU's decoding without one: what a step launches, with fake CUDA tensors; what is recorded, kept and fits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.gpu import CountOps
from helpers.zoo import CONFIG, make_model
from packaging.version import Version
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from audiogen_cli.bench.decode import Setup
from audiogen_cli.lm.config import TextConfig
from audiogen_cli.lm.decoding import cuda_backend
from audiogen_cli.lm.decoding.backend import Backend, TorchBackend
from audiogen_cli.lm.decoding.cuda_backend import CudaBackend, RecordedBackend, RecordedStep, load_fastest
from audiogen_cli.lm.decoding.engine import Engine
from audiogen_cli.lm.decoding.requests import DecodingRequest
from audiogen_cli.lm.model import AudioLanguageModel

POINTERS = {
    torch.float32: "fp32",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.float64: "fp64",
    torch.int64: "i64",
    torch.int32: "i32",
}
MOST_KERNELS = 200  # of a step of the base model; torch runs about 450


def make_text(length: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(length, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.timeout(900)
def test_kernels_interpreted() -> None:
    """Run `test_cuda_kernels`, in a process that tells triton to interpret."""
    triton = pytest.importorskip("triton")
    if Version(triton.__version__) < Version("3.8") and Version(np.__version__) >= Version("2.4"):
        pytest.skip("triton's interpreter before 3.8 (seen: 3.6, torch 2.11's) takes arrays for numbers: NumPy < 2.4")
    path = Path(__file__).with_name("test_cuda_kernels.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)]
    done = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0 and " skipped" not in done.stdout, done.stdout[-3000:]


class FakeCudaBackend(CudaBackend):
    """Takes a model that is loaded, and records nothing."""

    record = Backend.record

    @staticmethod
    def load(model: AudioLanguageModel, dtype: str) -> int:
        return 1 << 30


class OnOneDevice(CountOps):
    """Also refuses two devices in one operation."""

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: dict[str, Any] | None = None
    ) -> Any:
        devices = {each.device.type for each in torch.utils._pytree.tree_leaves(arguments) if isinstance(each, Tensor)}
        assert devices == {"cuda"}, f"{function}: {devices}"
        return super().__torch_dispatch__(function, types, arguments, options)


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, tuple[Any, ...], dict[str, Any]]]:
    """Replace a GPU: kernels are listed in place of being launched, and nothing is read from the device."""
    pytest.importorskip("triton")
    listed: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []
    launch = lambda kernel, grid, arguments, **constants: listed.append((kernel, arguments, constants))  # noqa: E731
    monkeypatch.setattr(cuda_backend, "launch", launch)
    monkeypatch.setattr("audiogen_cli.lm.decoding.engine.free_memory", lambda device: 1e11)
    fake = lambda data, device=None: torch.empty(np.shape(data), dtype=torch.long, device=device)  # noqa: E731
    monkeypatch.setattr(torch, "tensor", fake)  # which would ask the driver
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    return listed


def load_on_meta(setup: Setup, dtype: str) -> AudioLanguageModel:
    with torch.device("meta"):
        model = AudioLanguageModel(setup.config).requires_grad_(False)
    CudaBackend.load(model, dtype)
    return model


def move_to_fake_gpu(model: AudioLanguageModel) -> AudioLanguageModel:
    """Call within FakeTensorMode's context."""
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")
    return model


def advance(launches: list[Any], size: str, dtype: str, n: int, n_text: int, n_frames: int = 2500) -> int:
    """List the kernels of a step of n sequences; return how many of torch's own run beside them."""
    setup = Setup(size, 1, n)
    config, model = setup.config, load_on_meta(setup, dtype)
    with FakeTensorMode(), torch.inference_mode():
        requests = [DecodingRequest(torch.empty(n_text, config.text_width), n_frames, seed) for seed in range(n)]
        engine = Engine(move_to_fake_gpu(model), dtype, FakeCudaBackend)
        with engine.open_batch(requests) as batch:
            launches.clear()
            with OnOneDevice() as counting:
                batch._advance(20)
    return counting.counts.total()


@pytest.mark.parametrize(("dtype", "n"), [("bfloat16", 1), ("float32", 2)])
def test_a_step_is_few_kernels(launches: list[Any], dtype: str, n: int) -> None:
    config, n_torch = Setup("base", 1, n).config, advance(launches, "base", dtype, n, 12)
    assert len(launches) + n_torch <= MOST_KERNELS
    half = getattr(torch, dtype)
    for kernel, arguments, constants in launches:
        tensors = [each for each in arguments if isinstance(each, Tensor)]
        assert all(each.device.type == "cuda" and each.is_contiguous() for each in tensors)
        if kernel.__name__ == "multiply":
            x, _, _, weight, _, out, _ = arguments
            is_head = constants["OUTPUTS"] == config.codebook_size
            assert weight.dtype == (torch.float32 if is_head else half)
            # The residual stream is read by norms and written by additions.
            assert x.dtype == (torch.float32 if constants["NORM"] else half)
            assert out.dtype == (torch.float32 if constants["ADD"] or is_head else half)


def specialize(kernel: Any, arguments: tuple[Any, ...], constants: dict[str, Any]) -> tuple[Any, ...]:
    """Return what triton compiles for a launch: types, values and alignments of arguments, and options."""
    options = {name: constants[name] for name in ("num_stages", "num_warps") if name in constants}
    values = {name: value for name, value in constants.items() if name not in options}
    types, aligned = dict.fromkeys(values, "constexpr"), []
    for parameter, value in zip(kernel.params, arguments, strict=False):
        if isinstance(value, Tensor):
            types[parameter.name] = f"*{POINTERS[value.dtype]}"
        elif value is None or (value == 1 and not parameter.do_not_specialize):
            types[parameter.name], values[parameter.name] = "constexpr", value
        else:
            types[parameter.name] = "fp32" if isinstance(value, float) else "i32"
        divisible = isinstance(value, int) and value % 16 == 0 and not parameter.do_not_specialize
        if isinstance(value, Tensor) or divisible:  # torch aligns its memory
            aligned.append(parameter.num)
    return kernel.__name__, types, values, aligned, options


# Rows of 16 and 32, texts that are folded and not: all kernels in all their forms.
@pytest.mark.parametrize(("dtype", "n", "n_text", "gpu"), [("bfloat16", 1, 12, 90), ("float16", 9, 70, 80)])
def test_kernels_compile_for_gpus_since_ampere(launches: list[Any], dtype: str, n: int, n_text: int, gpu: int) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    advance(launches, "tiny", dtype, n, n_text)
    forms = {repr(form): (launch[0], *form[1:]) for launch in launches for form in [specialize(*launch)]}
    for kernel, types, values, aligned, options in forms.values():
        attributes = {(number,): [["tt.divisibility", 16]] for number in aligned}
        source = ASTSource(kernel, signature=types, constexprs=values, attrs=attributes)
        compiled = compile(source, target=GPUTarget("cuda", gpu, 32), options=options)
        assert "cubin" in compiled.asm and compiled.metadata.shared <= 99 << 10
    assert {kernel.__name__ for kernel, *_ in forms.values()} >= {"multiply", "attend", "join", "draw"} | (
        {"read_text", "write_text"} if n == 1 else set()
    )


def test_one_compiled_kernel_serves_all_rows_texts_and_lengths(launches: list[Any]) -> None:
    # Another would add in another order: a row's last bits would depend on the longest text and sound beside it.
    def forms(n: int, n_text: int, n_frames: int) -> set[str]:
        advance(launches, "tiny", "bfloat16", n, n_text, n_frames)
        return {repr(specialize(*launch)) for launch in launches}

    assert forms(1, 12, 400) == forms(3, 30, 2500) == forms(8, 60, 5000)  # of 2, 6 and 16 rows


def test_gpus_before_ampere_run_torchs_kernels(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(RecordedBackend, "load", lambda model, dtype: 1)
    with FakeTensorMode():
        assert load_fastest(move_to_fake_gpu(make_model(n_layers=1)), "float16")[0] is RecordedBackend
    assert "since Ampere" in caplog.messages[0]


def test_steps_are_recorded_once_for_each_length(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Graph:
        def replay(self) -> None:
            calls.append("replay")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, **_: nullcontext())
    monkeypatch.setattr(cuda_backend, "_recording_stream", lambda: None)
    step = RecordedStep(lambda kv_length: calls.append(f"step {kv_length}"))
    for kv_length in (8, 8, 8, 16, 8, 16):
        step(kv_length)
    assert calls == ["step 8", "step 8", "replay", "replay", "step 16", "replay", "step 16", "replay"]


class KeptBackend(RecordedBackend):
    """As on a GPU, without one: batches are kept, and attention also looks at masked positions."""

    bucket = 8
    n_made = 0

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        KeptBackend.n_made += 1


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[KeptBackend]]:
    monkeypatch.setattr(cuda_backend, "BUCKET", 8)
    monkeypatch.setattr(cuda_backend, "RecordedStep", lambda step: step)
    KeptBackend.n_made = 0
    return KeptBackend


def run(engine: Engine, requests: list[DecodingRequest], batch_size: int) -> list[Tensor]:
    return [codes for _, codes in sorted(engine.generate(requests, batch_size), key=lambda pair: pair[0])]


def test_a_recorded_batch_serves_further_requests_of_its_shape(kept: type[KeptBackend]) -> None:
    def requests(seed: int, n_frames: int) -> list[DecodingRequest]:
        text = make_text(3 + seed, CONFIG.text_width, seed)
        return [DecodingRequest(text, n_frames - i, seed + i, prompt=torch.full((3, i), 1)) for i in range(4)]

    engine = Engine(make_model(), backend=kept)
    for seed, n_frames, n_made in ((0, 14, 1), (5, 11, 1), (9, 17, 2), (2, 21, 2)):
        batch = requests(seed, n_frames)
        for one, two in zip(run(Engine(make_model()), batch, 2), run(engine, batch, 2), strict=True):
            assert torch.equal(one, two)
        assert kept.n_made == n_made
    # One that is not decoded to its end is not kept, and one in use serves nobody else.
    first, second = (requests(seed, 21)[0] for seed in (2, 3))
    streams = [engine.stream(first, 4), engine.stream(second, 4)]
    blocks = list(zip(*streams, strict=True))
    for request, mine in zip((first, second), zip(*blocks, strict=True), strict=True):
        assert torch.equal(torch.cat(mine, 1), run(engine, [request], 1)[0])


def test_batches_fit_into_a_gpus_memory(kept: type[KeptBackend], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(make_model(pattern="parallel"), backend=kept)
    engine.exact = False  # as on a GPU
    requests = [DecodingRequest(make_text(3, CONFIG.text_width), 8, seed=i) for i in range(100)]
    row = 2 * (16 + 8) * CONFIG.dim * 4 * CONFIG.n_layers  # bytes of keys and values
    for rows, size in ((1000, 64), (100, 40), (1, 1)):
        monkeypatch.setattr("audiogen_cli.lm.decoding.engine.free_memory", lambda device, rows=rows: rows * row)
        assert engine.count_slots(requests, 64) == size
    # A kept batch is not in the way of its successor.
    with engine.open_batch(requests, 10) as batch:
        shape = batch.shape
    assert engine.count_slots(requests, 64, held=shape._replace(n_slots=50)) == 40


def test_both_ways_are_compared_on_a_text_that_the_model_can_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_backend, "CudaBackend", TorchBackend)  # as if its kernels could run here
    for text in (CONFIG.text, TextConfig("lookup")):
        model = make_model(text=text, text_width=1 if text.kind == "lookup" else CONFIG.text_width)
        assert cuda_backend._compare(model, torch.float32) == 0


def test_without_kernels_a_step_is_recorded_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert load_fastest(make_model(), "float32")[0] is RecordedBackend
    assert len(caplog.messages) == 1 and "kernels" in caplog.messages[0] and "\n" not in caplog.messages[0]
