"""Guidance, nucleus and draws, against brute force and by their defining properties."""

from __future__ import annotations

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from audiogen_cli.lm.config import Sampling
from audiogen_cli.lm.sampling import SamplingRows, draw, guide, sample, top_k, top_p, uniforms


def make_rows(*settings_: Sampling) -> SamplingRows:
    rows = SamplingRows.empty(len(settings_), torch.device("cpu"))
    for row, each in enumerate(settings_):
        rows.set(row, each)
    return rows


def logits(seed: int, *shape: int) -> torch.Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_guidance_one_is_conditional_and_zero_unconditional() -> None:
    conditional, unconditional = logits(0, 2, 3, 9), logits(1, 2, 3, 9)
    for guidance, expected in ((1.0, conditional), (0.0, unconditional)):
        guided = guide(conditional, unconditional, guidance).softmax(-1)
        torch.testing.assert_close(guided, expected.softmax(-1))


def test_guidance_is_equation_4() -> None:
    conditional, unconditional = logits(0, 9), logits(1, 9)
    p, q = conditional.softmax(-1), unconditional.softmax(-1)
    torch.testing.assert_close(guide(conditional, unconditional, 3.0), 3 * p.log() - 2 * q.log())


def test_a_negative_text_takes_away_what_the_text_adds() -> None:
    conditional, unconditional, negative = (logits(seed, 2, 3, 9) for seed in range(3))
    nothing = guide(conditional, unconditional, 3.0, conditional).softmax(-1)
    torch.testing.assert_close(nothing, unconditional.softmax(-1))
    torch.testing.assert_close(
        guide(conditional, unconditional, 3.0, unconditional), guide(conditional, unconditional, 3.0)
    )
    p, q, r = (each.softmax(-1) for each in (conditional, unconditional, negative))
    expected = (q * (p / r) ** 2).log().log_softmax(-1)
    torch.testing.assert_close(guide(conditional, unconditional, 2.0, negative).log_softmax(-1), expected)


@given(seed=st.integers(0, 1000), p=st.floats(1e-6, 1.0), size=st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_nucleus_is_the_fewest_that_hold_the_mass(seed: int, p: float, size: int) -> None:
    probabilities = logits(seed, size).softmax(-1).sort(descending=True).values
    kept = int(top_p(probabilities, p).sum())
    assert kept >= 1
    assert top_p(probabilities, p)[:kept].all()  # the likeliest, no gaps
    assert kept == size or float(probabilities[:kept].double().sum()) >= p - 1e-6
    assert kept == 1 or float(probabilities[: kept - 1].double().sum()) <= p + 1e-6


def test_off_means_all() -> None:
    probabilities = torch.tensor([1.0, 0.0, 0.0])
    assert top_p(probabilities, 1.0).all() and top_k(probabilities, 0).all()
    assert top_k(probabilities, 2).tolist() == [True, True, False]


@given(seed=st.integers(0, 1000), uniform=st.floats(0, 1, exclude_max=True, width=32))
@example(seed=0, uniform=1 - 2**-24)
@settings(max_examples=200, deadline=None)
def test_draw_never_takes_the_impossible(seed: int, uniform: float) -> None:
    probabilities = logits(seed, 12).softmax(-1) * (torch.arange(12) % 3 == 0)
    assert probabilities[draw(probabilities, torch.tensor(uniform))] > 0


def test_draw_follows_the_distribution() -> None:
    probabilities = torch.tensor([0.5, 0.0, 0.2, 0.3])
    drawn = draw(probabilities.expand(1000, 4), (torch.arange(1000) + 0.5) / 1000)
    assert torch.bincount(drawn, minlength=4).tolist() == [500, 0, 200, 300]


def test_rows_keep_their_own_settings() -> None:
    rows = make_rows(
        Sampling(top_p=1e-6),
        Sampling(temperature=0, top_p=1.0),
        Sampling(top_k=1, top_p=1.0),
        Sampling(top_p=1.0),
    )
    same = logits(0, 1, 2, 50).expand(4, 2, 50)
    drawn = torch.stack([sample(same, rows, torch.full((4, 2), u)) for u in (0.01, 0.5, 0.99)])
    assert (drawn[:, :3] == same[0].argmax(-1)).all()
    assert not (drawn[:, 3] == same[0].argmax(-1)).all()


def test_high_temperature_flattens() -> None:
    flat = make_rows(Sampling(temperature=1e4, top_p=1.0))
    many = torch.stack([sample(logits(0, 1, 1, 4), flat, torch.full((1, 1), (i + 0.5) / 100)) for i in range(100)])
    assert torch.bincount(many.flatten(), minlength=4).tolist() == [25] * 4


def test_uniforms_of_a_longer_sample_begin_alike() -> None:
    assert torch.equal(uniforms(3, 50, 4)[:20], uniforms(3, 20, 4))
    assert not torch.equal(uniforms(3, 20, 4), uniforms(4, 20, 4))
    assert float(uniforms(2**53, 1000, 4).min()) >= 0 and float(uniforms(0, 1000, 4).max()) < 1
