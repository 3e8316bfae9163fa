"""Training's kernels for a CPU: attention against torch's, and dropout's share, mean and gradient."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from audiogen_cli.lm.training import cpu_kernels
from audiogen_cli.lm.training.cpu_kernels import BLOCK_STEPS, CausalAttention, Dropout, is_suited


@pytest.mark.parametrize(("n_rows", "n_steps"), [(1, 1), (2, 9), (1, BLOCK_STEPS + 1), (2, 3 * BLOCK_STEPS - 5)])
def test_agrees_with_torch_forwards_and_backwards(n_rows: int, n_steps: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(n_rows, n_steps, 3, 2, 8, dtype=torch.float64)
    dy = torch.randn(n_rows, n_steps, 2, 8, dtype=torch.float64)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y = CausalAttention.apply(ours)
    expected = F.scaled_dot_product_attention(*theirs.permute(2, 0, 3, 1, 4), is_causal=True).transpose(1, 2)
    torch.testing.assert_close(y, expected)
    y.backward(dy)
    expected.backward(dy)
    assert ours.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert torch.equal(ours, x)


def test_only_a_training_in_bfloat16_takes_it() -> None:
    x = torch.zeros(1, 2, 3, 1, 4, dtype=torch.bfloat16, requires_grad=True)
    assert not is_suited(x, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert is_suited(x, 2)
        assert not is_suited(x.detach(), 2)
        assert not is_suited(x, 10_000)


def test_softmax_backward_without_the_private_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, gradient = torch.randn(3, 7).softmax(-1), torch.randn(3, 7)
    expected = cpu_kernels.softmax_backward(gradient, weights)
    monkeypatch.setattr(cpu_kernels, "_softmax_backward", None)
    torch.testing.assert_close(cpu_kernels.softmax_backward(gradient, weights), expected)


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("shape", [(7, 31, 101), (1000, 33)])
def test_share_mean_and_gradient(p: float, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.ones(shape, requires_grad=True)
    y = Dropout(p)(x)
    dropped = y == 0
    assert dropped.float().mean() == pytest.approx(p, abs=0.015)
    assert y[~dropped].unique().tolist() == pytest.approx([1 / (1 - p)], rel=1e-4)
    neighbours = dropped.flatten()[:-1] & dropped.flatten()[1:]  # four elements share a number, not a fate
    assert neighbours.float().mean() == pytest.approx(p * p, abs=0.015)
    y.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, y.detach())


def test_it_is_seeded_and_off_outside_training() -> None:
    layer, x = Dropout(0.3), torch.randn(10, 11)
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        results.append(layer(x))
    assert torch.equal(*results)
    assert layer.eval()(x) is x
    assert Dropout(0.0)(x) is x
    assert not Dropout(1.0)(x).any()
