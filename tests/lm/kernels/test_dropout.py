"""Our dropout drops the share asked for, keeps the mean, and has its mask's gradient."""

from __future__ import annotations

import pytest
import torch

from audiogen_cli.lm.kernels.dropout import Dropout


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
