"""Packed linear layers against `F.linear`, and rows against themselves in other company."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers.zoo import CONFIG, make_model
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen_cli.lm import cpu_ops
from audiogen_cli.lm.decoding import cpu_kernels
from audiogen_cli.lm.decoding.cpu_kernels import (
    FILLED_ROWS,
    MAX_ROWS,
    PackedLinear,
    PlainWeight,
    count_rows,
    pack_model,
)

ERROR = {
    "float32": 1e-6,
    "bfloat16": 1e-2,
    "float16": 1e-3,
    "int8": 2e-2,
    "int4": 0.15,
}  # relative to the largest result


def make_layer(bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    layer = nn.Linear(48, 80, bias)
    nn.init.normal_(layer.weight)
    return layer.requires_grad_(False)


def packed_ways(layer: nn.Linear, dtype: str) -> list[Callable[[Tensor, Tensor], Tensor]]:
    """What a packed layer computes of x [R, 48] and added [R, 80]: the product, with GELU, and with a sum."""
    packed, gelu = PackedLinear(layer, dtype), PackedLinear(layer, dtype, "gelu")
    return [
        lambda x, added: packed(x),
        lambda x, added: gelu(x).float(),
        lambda x, added: packed.product(len(x))(x, "none", added),
    ]


@pytest.mark.parametrize("without", [None, "reorder_weight", "linear_add"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", list(ERROR))
def test_packed_is_the_plain_layer_within_its_precision(
    monkeypatch: pytest.MonkeyPatch, dtype: str, bias: bool, without: str | None
) -> None:
    if without:  # as with a torch that lacks the operator
        monkeypatch.setattr(cpu_ops, without, None)
    layer, x, added = make_layer(bias), torch.randn(10, 48), torch.randn(10, 80)
    plain = F.linear(x, layer.weight, layer.bias)
    for compute, expected in zip(packed_ways(layer, dtype), (plain, F.gelu(plain), added + plain), strict=True):
        result = compute(x, added)
        assert result.dtype == torch.float32 and result.shape == expected.shape
        assert float((result - expected).abs().max()) <= ERROR[dtype] * float(expected.abs().max())


@pytest.mark.parametrize("dtype", list(ERROR))
def test_a_row_has_the_same_bits_in_any_company(dtype: str) -> None:
    layer, x, added = make_layer(), torch.randn(MAX_ROWS, 48), torch.randn(MAX_ROWS, 80)
    packed = PackedLinear(layer, dtype)
    most = MAX_ROWS if packed.packed.least_rows < FILLED_ROWS else FILLED_ROWS
    ways: list[Callable[[Tensor, Tensor], Tensor]] = [
        lambda x, added: packed.product(len(x))(x, "gelu", None),
        lambda x, added: packed.product(len(x))(x, "none", added),
    ]
    for compute in ways:
        together = compute(x[:most], added[:most])
        for n_rows in range(1, most + 1):
            assert torch.equal(compute(x[:n_rows], added[:n_rows]), together[:n_rows])
            last = slice(most - n_rows, most)
            assert torch.equal(compute(x[last], added[last]), together[last])


@pytest.mark.parametrize(("alike", "filled"), [((3, 8), 3), ((8,), 8), ((), MAX_ROWS)])
def test_rows_that_round_differently_are_filled_up(
    monkeypatch: pytest.MonkeyPatch, alike: tuple[int, ...], filled: int
) -> None:
    """As on a processor whose kernels for few rows sum up in another order."""
    monkeypatch.setattr(cpu_kernels, "_rounds_alike", lambda shape, dtype, n_rows: n_rows in alike)
    layer, x, added = make_layer(), torch.randn(3, 48), torch.randn(3, 80)
    packed = PackedLinear(layer, "float32")
    if isinstance(packed.packed, PlainWeight):
        pytest.skip("no such kernels here")
    assert packed.packed.fill_to(3) == filled
    expected = packed.packed(x[torch.arange(filled) % 3], "none", added[torch.arange(filled) % 3])
    assert torch.equal(packed.product(3)(x, "none", added), expected[:3])


def test_int8_survives_rows_of_zeros_and_outliers() -> None:
    layer = make_layer()
    x = torch.zeros(3, 48)
    x[1, 7], x[2] = 1e4, 1e-9
    expected = layer(x)
    error, largest = (PackedLinear(layer, "int8")(x) - expected).abs().amax(1), expected.abs().amax(1)
    assert (error <= ERROR["int8"] * largest + 1e-6).all()  # row by row: none suffers from the others


def test_a_model_is_packed_once_and_keeps_one_copy_of_its_weights() -> None:
    model = make_model().requires_grad_(False)
    for _ in range(2):  # the second time for a second engine on the same model
        pack_model(model, "bfloat16")
        packed = [layer.packed.n_bytes for layer in model.modules() if isinstance(layer, PackedLinear)]
        # By layer: queries, keys, values, output, for both attentions; up and down. Then the heads.
        n_weights = CONFIG.n_layers * (4 + 4 + 8) * CONFIG.dim**2 + CONFIG.dim * CONFIG.n_q * CONFIG.codebook_size
        assert sum(packed) == 2 * n_weights
    left = {name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    assert left == {"text_projection"}
    assert count_rows(model) in (FILLED_ROWS, MAX_ROWS)


def test_few_rows_are_filled_up_for_kernels_that_need_them() -> None:
    layer, x = make_layer(), torch.randn(3, 48)
    packed = PackedLinear(layer, "float32")
    packed.packed = PlainWeight(layer.weight, layer.bias, torch.float32)
    torch.testing.assert_close(packed(x), layer(x))
    assert torch.equal(packed(x[:1]), packed(x)[:1])


def test_sums_of_rows_without_the_private_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    table, rows, starts = torch.randn(9, 4), torch.tensor([3, 0, 8, 8]).int(), torch.tensor([0, 1]).int()
    weights = torch.randn(2, 2)
    expected = torch.stack([weights[0, 0] * table[3], weights.view(-1)[1:] @ table[[0, 8, 8]]])
    torch.testing.assert_close(cpu_ops.sum_rows(table, rows, starts, weights), expected)
    monkeypatch.setattr(cpu_ops, "_embedding_bag", None)
    torch.testing.assert_close(cpu_ops.sum_rows(table, rows, starts, weights), expected)
