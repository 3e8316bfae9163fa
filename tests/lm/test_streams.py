"""The delay pattern, and streams in and out."""

from __future__ import annotations

import torch
from helpers.zoo import CONFIG, make_model
from hypothesis import given, settings
from hypothesis import strategies as st

from audiogen_cli.lm.model import StreamEmbedding, StreamHeads, delay, undelay

S = 17  # the special token


def test_delay_as_the_public_checkpoints_draw_it() -> None:
    codes = torch.arange(20).reshape(1, 4, 5)  # a0 … a4 are 0 … 4, b0 … b4 are 5 … 9, …
    assert delay(codes, (0, 1, 2, 3), -1).tolist() == [
        [
            [-1, 0, 1, 2, 3, 4, -1, -1, -1],
            [-1, -1, 5, 6, 7, 8, 9, -1, -1],
            [-1, -1, -1, 10, 11, 12, 13, 14, -1],
            [-1, -1, -1, -1, 15, 16, 17, 18, 19],
        ]
    ]


@given(delays=st.lists(st.integers(0, 5), min_size=1, max_size=4), n_frames=st.integers(1, 12), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_undelay_inverts_delay_and_the_rest_is_special(delays: list[int], n_frames: int, seed: int) -> None:
    codes = torch.randint(S, (2, len(delays), n_frames), generator=torch.Generator().manual_seed(seed))
    steps = delay(codes, delays, S)
    assert torch.equal(undelay(steps, delays), codes)
    assert (steps[..., 0] == S).all()
    assert int((steps != S).sum()) == codes.numel()


def test_embedding_is_the_mean_of_independent_tables() -> None:
    embedding = StreamEmbedding(CONFIG)
    tables = embedding.table.weight.unflatten(0, (CONFIG.n_q, CONFIG.codebook_size + 1))
    steps = torch.tensor([[[3], [S], [0]]])
    expected = (tables[0, 3] + tables[1, S] + tables[2, 0]) / 3
    torch.testing.assert_close(embedding(steps)[0, 0], expected)


def test_heads_are_independent() -> None:
    heads = StreamHeads(CONFIG)
    hidden = torch.randn(2, 5, CONFIG.dim)
    logits = heads(hidden)
    assert logits.shape == (2, CONFIG.n_q, 5, CONFIG.codebook_size)
    weights = heads.linear.weight.unflatten(0, (CONFIG.n_q, CONFIG.codebook_size))
    torch.testing.assert_close(logits[:, 1], hidden @ weights[1].T + heads.linear.bias[17:34])


def test_later_frames_and_padding_change_nothing_before_them() -> None:
    model = make_model()
    text, text_mask = torch.randn(1, 3, CONFIG.text_width), torch.ones(1, 3, dtype=torch.bool)
    codes = torch.randint(S, (1, 3, 8))
    other = codes.clone()
    other[..., 5:] = (other[..., 5:] + 1) % S
    logits, changed = (model(each, text, text_mask).logits for each in (codes, other))
    torch.testing.assert_close(logits[:, 0, :6], changed[:, 0, :6])  # stream 0's frame 5 is predicted, not read
    assert not torch.allclose(logits[:, 0, 6:], changed[:, 0, 6:])
    mask = torch.arange(8)[None] < 5
    short = model(codes[..., :5], text, text_mask).logits
    torch.testing.assert_close(model(codes, text, text_mask, mask).logits[:, :, :5], short)
