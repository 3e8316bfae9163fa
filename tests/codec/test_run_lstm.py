"""Parts of a signal side by side give what one pass over it gives, whatever the LSTM remembers."""

import pytest
import torch
from torch import nn

from audiogen_cli.codec import streaming
from audiogen_cli.codec.streaming import ROWS, SHORTEST, one_by_one, run_lstm


def small_lstm(forget_bias: float) -> nn.LSTM:
    torch.manual_seed(0)
    lstm = nn.LSTM(8, 8).requires_grad_(False)
    lstm.bias_ih_l0[8:16] = forget_bias
    return lstm


@pytest.mark.parametrize("n_rows", [1, 3, ROWS])
@pytest.mark.parametrize("n_frames", [1, 2 * SHORTEST, 5 * SHORTEST + 3])
@pytest.mark.parametrize("forget_bias", [0.0, 3.0, 6.0, 30.0])  # forgets in 20 frames, in 300, in 6000, never
def test_parts_give_what_one_pass_gives(forget_bias, n_frames, n_rows):
    lstm = small_lstm(forget_bias)
    x, start = torch.randn(n_frames, n_rows, 8), (torch.randn(1, n_rows, 8).tanh(), torch.randn(1, n_rows, 8))
    for state in (start, None):
        y, last = run_lstm(lstm, x, state)
        y_one, last_one = lstm(x, state)
        # What is left of a wrong state, TOLERANCE at most, may grow in the frames that follow; to 1e-4 was seen.
        assert torch.allclose(y, y_one, atol=2e-3)
        assert all(torch.allclose(*pair, rtol=2e-3, atol=2e-3) for pair in zip(last, last_one, strict=True))


def frames_run(monkeypatch: pytest.MonkeyPatch, forget_bias: float) -> int:
    """Steps that 8 parts of 1024 frames took in all."""
    steps = []
    run_batch = streaming._run_batch

    def counting(lstm, parts, starts):
        steps.append(parts.shape[1])
        return run_batch(lstm, parts, starts)

    monkeypatch.setattr(streaming, "_run_batch", counting)
    run_lstm(small_lstm(forget_bias), torch.randn(8 * 1024, 1, 8), None)
    return sum(steps)


def test_work_is_what_forgetting_allows(monkeypatch):
    assert frames_run(monkeypatch, 0.0) == streaming.WARM_UP + 1024


def test_parts_that_started_wrong_are_run_again(monkeypatch):
    assert frames_run(monkeypatch, 3.0) == streaming.WARM_UP + 2 * 1024


def test_what_never_forgets_goes_frame_by_frame(monkeypatch):
    # Running the wrong ones again makes one more part right, beyond the first.
    assert frames_run(monkeypatch, 30.0) == streaming.WARM_UP + 2 * 1024 + 6 * 1024


@pytest.mark.parametrize("n_rows", [1, 3])
def test_a_layer_on_onnx_runtime_gives_what_torch_gives(n_rows):
    torch.manual_seed(0)
    lstm = nn.LSTM(24, 24, 2).requires_grad_(False)
    x, hidden, cell = torch.randn(70, n_rows, 24), torch.randn(2, n_rows, 24).tanh(), torch.randn(2, n_rows, 24)
    for start in (None, (hidden, cell)):
        y, last = x, []
        for number, layer in enumerate(one_by_one(lstm)):
            y, after = layer(y, start and tuple(each[number : number + 1] for each in start))
            last.append(after)
        expected, expected_last = lstm(x, start)
        assert torch.allclose(y, expected, atol=1e-6)
        for found, each in zip(zip(*last, strict=True), expected_last, strict=True):
            assert torch.allclose(torch.cat(found), each, atol=1e-6)
