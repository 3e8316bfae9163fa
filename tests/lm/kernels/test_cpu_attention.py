import pytest
import torch
from torch.nn import functional as F

from audiogen_cli.lm.kernels.cpu_attention import BLOCK_STEPS, CausalAttention, suits


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
    assert not suits(x, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert suits(x, 2)
        assert not suits(x.detach(), 2)
        assert not suits(x, 10_000)
