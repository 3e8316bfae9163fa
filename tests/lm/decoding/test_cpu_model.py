"""Blocks on ONNX Runtime against torch: products, rounded weights, and rows against themselves in other company."""

from __future__ import annotations

import onnxruntime
import pytest
import torch
from helpers.zoo import CONFIG, make_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen_cli.errors import AudiogenError
from audiogen_cli.lm.decoding.backend import TorchBackend
from audiogen_cli.lm.decoding.cpu_backend import LEAST_ROWS, MAX_ROWS, CpuBackend
from audiogen_cli.lm.decoding.cpu_model import GraphBlocks, convert_weights, use_graph
from audiogen_cli.lm.decoding.onnx_graph import Graph
from audiogen_cli.lm.decoding.rounding import GROUPS, round_weight
from audiogen_cli.lm.model import AudioLanguageModel

ERROR = {"float32": 1e-6, "int8": 1.5e-2, "int4": 0.2}  # relative to the largest result


def make_layer(n_inputs: int = 48, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    layer = nn.Linear(n_inputs, 80, bias)
    nn.init.normal_(layer.weight)
    return layer.requires_grad_(False)


def multiply(layer: nn.Linear, dtype: str, x: Tensor) -> Tensor:
    """The product of x [R, in] as the graphs compute it."""
    weights = (
        {"y.weight": layer.weight}
        if dtype == "float32"
        else {f"y.{part}": each for part, each in round_weight(layer.weight, dtype).items()}
    )
    if layer.bias is not None:
        weights["y.bias"] = layer.bias
    graph = Graph(weights, {})
    x_name = graph.read("x", torch.float32, "R", "S", layer.in_features)
    y = graph.linear("y", x_name, layer.in_features, layer.bias is not None)
    graph.add("Identity", y, outputs=[graph.write("out", "R", "S", layer.out_features)])
    options = onnxruntime.SessionOptions()
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(each.detach().numpy()) for each in weights.values()]
    options.add_external_initializers(list(weights), values)
    session = onnxruntime.InferenceSession(graph.serialize(), options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"x": x[:, None].numpy()})[0])[:, 0]


def restore(parts: dict[str, Tensor], n_inputs: int) -> Tensor:
    """The weight that rounded parts stand for, by their definition."""
    codes, scales = parts["codes"], parts["scales"]
    zeros = torch.full_like(scales, 128)
    if "zeros" in parts:
        codes, zeros = (torch.stack([each & 15, each >> 4], -1).flatten(-2) for each in (codes, parts["zeros"]))
    return ((codes.float() - zeros[:, : scales.shape[1], None]) * scales[..., None]).flatten(1)[:, :n_inputs]


@pytest.mark.parametrize("n_inputs", [16, 48, 160])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", list(ERROR))
def test_a_product_is_the_plain_layer_within_its_precision(dtype: str, bias: bool, n_inputs: int) -> None:
    layer, x = make_layer(n_inputs, bias), torch.randn(10, n_inputs)
    plain = F.linear(x, layer.weight, layer.bias)
    error = (multiply(layer, dtype, x) - plain).abs().max()
    assert float(error) <= ERROR[dtype] * float(plain.abs().max())


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 300), st.integers(1, 5), st.floats(1e-4, 1e4), st.integers(0, 1000))
def test_rounding_is_to_the_nearest_level(n_inputs: int, n_outputs: int, size: float, seed: int) -> None:
    weight = size * torch.randn(n_outputs, n_inputs, generator=torch.Generator().manual_seed(seed))
    weight[0] = 0
    for dtype in ("int8", "int4"):
        parts = round_weight(weight, dtype)
        half = parts["scales"].repeat_interleave(GROUPS[dtype], 1)[:, :n_inputs] / 2
        reach = 2 if dtype == "int4" else 1  # a zero between two levels moves all of them
        assert ((restore(parts, n_inputs) - weight).abs() <= reach * half * (1 + 1e-4)).all()


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_products_of_rounded_weights_are_neither_cut_off_nor_spoilt_by_other_rows(dtype: str) -> None:
    layer = make_layer(256)
    layer.weight.fill_(1.0)
    layer.weight[1] = -1.0
    x = torch.ones(4, 256)
    x[1], x[2], x[3] = -1, 0, 1e-9
    x[2, 7] = 1e4
    expected = layer(x)
    error = (multiply(layer, dtype, x) - expected).abs().amax(1)
    assert (error <= ERROR[dtype] * (expected - layer.bias).abs().amax(1) + 1e-6).all()


def make_backend(model: AudioLanguageModel, n_rows: int, dtype: str = "float32", n_text: int = 32) -> CpuBackend:
    CpuBackend.load(model, dtype)
    return CpuBackend(model, n_rows, n_columns=80 + n_text, n_text=n_text, dtype=torch.float32)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", list(ERROR))
def test_a_row_has_the_same_bits_in_any_company(dtype: str) -> None:
    model = make_model(dim=96, n_heads=3, max_frames=70)
    whole, x = make_backend(model, MAX_ROWS, dtype), torch.randn(MAX_ROWS, 96)
    lengths = torch.arange(MAX_ROWS) * 2 + 1
    pasts = [torch.randn(1, int(n), 96) for n in lengths]
    texts = [torch.randn(1 + row % 23, CONFIG.text_width) for row in range(MAX_ROWS)]

    def fill(backend: CpuBackend, rows: list[int]) -> Tensor:
        for number, row in enumerate(rows):
            backend.prepare(number, texts[row])
            backend.prefill(number, pasts[row])
        return backend.step(x[rows], lengths[rows], int(lengths[rows].max()) + 1).clone()

    together = fill(whole, list(range(MAX_ROWS)))
    for n_rows in (1, LEAST_ROWS, 3, 5, 8, 13):
        for rows in (list(range(n_rows)), list(range(MAX_ROWS - n_rows, MAX_ROWS))):
            few = make_backend(model, n_rows, dtype, n_text=48)  # texts and pasts are as long as the longest
            assert torch.equal(fill(few, rows), together[rows])


@torch.inference_mode()
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"cross_attention": False},
        {"bias": False},
        {"text_prefix": False, "text_padding": "zeros"},
        {"n_heads": 8},  # of 4 numbers, where ONNX Runtime takes multiples of 8
        {"dim": 36, "n_heads": 3},
        {"dim": 34, "bias": False},
    ],
)
@pytest.mark.parametrize("n_past", [1, 7, 40])
def test_a_step_has_the_numbers_of_the_modules(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], n_past: int
) -> None:
    monkeypatch.setattr("audiogen_cli.lm.decoding.cpu_model.STEPS", 16)  # so that it takes several turns …
    monkeypatch.setattr("audiogen_cli.lm.decoding.cpu_model.PART_BYTES", 1)  # … in several sessions
    model = make_model(max_frames=70, **changes)
    past, x = torch.randn(1, n_past, model.config.dim), torch.randn(3, model.config.dim)
    positions = torch.tensor([n_past, 0, 0])
    results = []
    plain = TorchBackend(model, 3, n_columns=80, n_text=16, dtype=torch.float32)
    for backend in (plain, None):
        backend = backend or make_backend(model, 3)
        for row, text in enumerate((torch.ones(5, CONFIG.text_width), None, torch.ones(1, CONFIG.text_width))):
            backend.prepare(row, text)
        backend.prefill(0, past)
        results.append(backend.step(x, positions, n_past + 1).clone())
        results.append(backend.step(x, positions + 1, n_past + 2).clone())
    for one, two in zip(results[:2], results[2:], strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("changes", [{}, {"text_prefix": False}, {"cross_attention": False}])
def test_what_a_probe_reads_is_the_same(monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]) -> None:
    monkeypatch.setattr("audiogen_cli.lm.decoding.cpu_model.STEPS", 5)
    monkeypatch.setattr("audiogen_cli.lm.decoding.cpu_model.PART_BYTES", 1)
    model, codes = make_model(**changes), torch.randint(CONFIG.codebook_size, (2, CONFIG.n_q, 13))
    mask = torch.arange(13) < torch.tensor([[13], [4]])
    expected, held = model.hidden_states(codes, [0, 1], mask)
    CpuBackend.load(model, "float32")
    found, same = model.hidden_states(codes, [0, 1], mask)
    assert torch.equal(held, same) and len(found) == 2
    for one, two in zip(expected, found, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", list(ERROR))
def test_the_number_of_sessions_changes_no_bit(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    """As large models have, and machines of other numbers of cores."""
    found = []
    for n_cores, n_bytes in ((2, 1 << 40), (1, 1), (2, 1), (64, 1)):
        monkeypatch.setattr("audiogen_cli.lm.decoding.cpu_model.count_threads", lambda n_cores=n_cores: n_cores)
        monkeypatch.setattr("audiogen_cli.lm.decoding.cpu_model.PART_BYTES", n_bytes)
        backend = make_backend(make_model(n_layers=3), 2, dtype)
        text, past = torch.ones(5, CONFIG.text_width), torch.full((1, 4, CONFIG.dim), 0.5)
        backend.prepare(0, text)
        backend.prefill(0, past)
        x = torch.ones(2, CONFIG.dim)
        found.append((len(backend.blocks.parts), backend.step(x, torch.tensor([4, 0]), 5).clone()))
    assert [n_parts for n_parts, _ in found] == [1, 1, 2, 3]
    assert all(torch.equal(logits, found[0][1]) for _, logits in found)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", list(ERROR))
def test_the_sessions_hold_their_own_copy_of_the_weights(dtype: str) -> None:
    """As ONNX Runtime promises; so the plain weights can go."""
    model, other = (make_model(cross_attention=False) for _ in range(2))
    weights = convert_weights(model, dtype)
    use_graph(model, weights, dtype)
    for each in weights.values():
        each.zero_()
    x = torch.randn(1, 9, CONFIG.dim)
    kept, fresh = (
        next(blocks.states(x, None, None)) for blocks in (model.blocks, make_backend(other, 2, dtype).blocks)
    )
    assert torch.equal(kept, fresh) and kept.abs().max() > 0


@pytest.mark.parametrize("name", ["blocks.0.norm_self.weight", "blocks.1.up.weight", "null_text"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_not_rounded(name: str, value: float) -> None:
    model = make_model().requires_grad_(False)
    model.get_parameter(name).view(-1)[3] = value
    with pytest.raises(AudiogenError, match="no finite numbers"):
        convert_weights(model, "int8")


def test_a_model_is_converted_once_and_its_own_weights_go() -> None:
    model = make_model().requires_grad_(False)
    # By layer: queries, keys, values, output; cross-attention's query and output; up and down. Then the heads.
    n_weights = CONFIG.n_layers * (4 + 2 + 8) * CONFIG.dim**2 + CONFIG.dim * CONFIG.n_q * CONFIG.codebook_size
    CpuBackend.load(model, "float32")
    blocks = model.blocks
    CpuBackend.load(model, "float32")  # for a second engine on the same model
    assert model.blocks is blocks and isinstance(blocks, GraphBlocks)
    with pytest.raises(ValueError, match="load it again for int8"):
        CpuBackend.load(model, "int8")
    codes, text = torch.zeros(1, CONFIG.n_q, 4, dtype=torch.long), torch.zeros(1, 3, CONFIG.text_width)
    with pytest.raises(ValueError, match="converted for decoding on a CPU: load it again"):
        model(codes, text, torch.ones(1, 3, dtype=torch.bool))
    assert blocks.n_bytes == 4 * n_weights
    assert {name for name, each in model.named_modules() if isinstance(each, nn.Linear)} == {"text_projection"}
