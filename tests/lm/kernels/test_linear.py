"""Packed linear layers against `F.linear`, and rows against themselves in other company."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from audiogen_cli.lm.kernels.linear import LANE_ROWS, MAX_ROWS, Linear, Plain, pack_linears, packed_layers

ERROR = {"float32": 1e-6, "bfloat16": 1e-2, "float16": 1e-3, "int8": 2e-2}  # relative to the largest result


def make_layer(bias: bool = True) -> Linear:
    torch.manual_seed(0)
    layer = Linear(48, 80, bias)
    torch.nn.init.normal_(layer.weight)
    return layer.requires_grad_(False)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", list(ERROR))
def test_packed_is_the_plain_layer_within_its_precision(dtype: str, bias: bool) -> None:
    layer, x = make_layer(bias), torch.randn(2, 5, 48)
    plain, gelu = F.linear(x, layer.weight, layer.bias), layer.gelu(x)
    torch.testing.assert_close(gelu, F.gelu(plain))
    layer.pack(dtype)
    added = torch.randn(2, 5, 80)
    for result, expected in (
        (layer(x), plain),
        (layer.gelu(x).float(), gelu),
        (layer.product(10)(x, "none", added), added + plain),
    ):
        assert result.dtype == torch.float32 and result.shape == expected.shape
        assert float((result - expected).abs().max()) <= ERROR[dtype] * float(expected.abs().max())


@pytest.mark.parametrize("dtype", list(ERROR))
def test_a_row_has_the_same_bits_in_any_company(dtype: str) -> None:
    layer, x = make_layer(), torch.randn(MAX_ROWS, 48)
    layer.pack(dtype)
    counts = range(1, MAX_ROWS + 1) if layer.packed.least_rows < LANE_ROWS else range(1, LANE_ROWS + 1)
    added = torch.randn(MAX_ROWS, 80)
    for compute in (
        lambda rows: layer.gelu(x[rows]),
        lambda rows: layer.product(len(x[rows]))(x[rows], "none", added[rows]),
    ):
        together = compute(slice(counts[-1]))
        for n_rows in counts:
            assert torch.equal(compute(slice(n_rows)), together[:n_rows])
            assert torch.equal(compute(slice(counts[-1] - n_rows, counts[-1])), together[-n_rows:])


def test_int8_survives_rows_of_zeros_and_outliers() -> None:
    layer = make_layer()
    x = torch.zeros(3, 48)
    x[1, 7], x[2] = 1e4, 1e-9
    expected = layer(x)
    layer.pack("int8")
    error, largest = (layer(x) - expected).abs().amax(1), expected.abs().amax(1)
    assert (error <= ERROR["int8"] * largest + 1e-6).all()  # row by row: none suffers from the others


def test_packing_keeps_one_copy_of_the_weights() -> None:
    module = torch.nn.Sequential(make_layer(), torch.nn.ReLU(), make_layer())
    pack_linears(module, "bfloat16")
    assert [packed.n_bytes for packed in packed_layers(module)] == [48 * 80 * 2] * 2
    assert all(layer.weight.numel() == 0 for layer in module if isinstance(layer, Linear))
    pack_linears(module, "bfloat16")  # a second engine on the same model


def test_without_onednn_few_rows_are_filled_up() -> None:
    layer, x = make_layer(), torch.randn(3, 48)
    expected = layer(x)
    layer.packed = Plain(layer.weight, layer.bias, torch.float32)
    torch.testing.assert_close(layer(x), expected)
    assert torch.equal(layer(x[:1]), layer(x)[:1])
