"""The loss of the diffusion decoder: exact on a small world, indifferent to padding and to how examples are shared."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.diffusion import MASK, SCHEDULES, V, make_config, matrix
from torch import Tensor

from audiogen_cli.lm.decoder import CodeBatch
from audiogen_cli.lm.diffusion.objective import ENOUGH, Denoising
from audiogen_cli.lm.model import LMOutput

K, STEPS = 3, 7


def make_batch(lengths: tuple[int, ...], longest: int | None = None, first: int = 0) -> CodeBatch:
    longest = longest or max(lengths)
    numbers = torch.arange(longest * K).view(longest, K).T
    codes = torch.stack([(numbers * (first + row + 3)) % V for row in range(len(lengths))])
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    ids = [f"clip{first + row}" for row in range(len(lengths))]
    text = torch.zeros(len(lengths), 1, 2)
    return CodeBatch(ids, codes, mask, text, text[..., 0] > 0)


def perfect(batch: CodeBatch) -> Any:
    """A network that knows the originals."""

    def network(codes: Tensor, *_: Any) -> LMOutput:
        logits = torch.full((*codes.shape, V), -60.0).scatter_(-1, batch.codes[..., None], 60.0)
        return LMOutput(logits, batch.frames_mask[:, None].expand(codes.shape))

    return network


def ignorant(codes: Tensor, times: Tensor, text: Tensor, text_mask: Tensor, mask: Tensor, known: Tensor) -> LMOutput:
    """A network whose prediction depends on the place and what is read there alone."""
    places = torch.arange(codes.shape[2])[:, None] * torch.arange(V)
    logits = torch.sin(places + codes[..., None].float() + times[:, None, None, None])
    return LMOutput(logits, mask[:, None].expand(codes.shape))


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_perfect_network_has_no_loss(name: str) -> None:
    batch, objective = make_batch((5, 9)), Denoising(make_config(name, STEPS), 0, torch.device("cpu"))
    for step in (None, 0, 1, 2):
        assert objective.losses(perfect(batch), batch, step).abs().max() < 1e-3


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("time", [1, 2, 6, 7])
def test_the_divergence_is_that_of_the_posteriors(name: str, time: int) -> None:
    objective = Denoising(make_config(name, STEPS), 0, torch.device("cpu"))
    logits = torch.randn(V, generator=torch.Generator().manual_seed(time))
    guess = logits.double().softmax(0)
    first, rest, whole = (matrix(objective.schedule, *span) for span in ((0, time - 1), (time - 1, time), (0, time)))
    for now in range(V + 1):
        for was in range(V):
            if whole[was, now] == 0 or (name == "mask" and now != MASK):
                continue  # a code that was never masked is known
            # with uniform noise a code may be unreachable only at float rounding
            posteriors = first * rest[:, now] / whole[:, now, None]
            true, predicted = posteriors[was], guess @ posteriors[:V]
            wanted = (torch.xlogy(true, true) - torch.xlogy(true, predicted)).sum()
            codes, original = torch.tensor([[[now]]]), torch.tensor([[[was]]])
            found, surprise = objective.divergence(logits[None, None, None], original, codes, torch.tensor([time]))
            assert float(found) == pytest.approx(float(wanted), abs=2e-5)
            assert float(surprise) == pytest.approx(-float(guess[was].log()), abs=1e-5)
            assert time > 1 or float(found) == pytest.approx(float(surprise), abs=1e-4)


def test_losses_add_up_however_examples_are_shared_and_padded() -> None:
    objective = Denoising(make_config("mask_uniform", STEPS), 0, torch.device("cpu"))
    for step in (None, *range(4)):
        whole = objective.losses(ignorant, make_batch((5, 9, 12, 3)), step)
        parts = [objective.losses(ignorant, make_batch((n,), 12 + i, i), step) for i, n in enumerate((5, 9, 12, 3))]
        assert whole == pytest.approx(sum(parts), rel=1e-4)
        assert whole.shape == (K,) and (whole > 0).all()


def test_a_row_that_could_not_be_read_costs_nothing() -> None:
    objective = Denoising(make_config("mask_uniform", STEPS), 0, torch.device("cpu"))
    read = objective.losses(ignorant, make_batch((5,), 9), 1)
    both = make_batch((5, 9))
    both.frames_mask[1] = False
    assert objective.losses(ignorant, both, 1) == pytest.approx(read, rel=1e-5)


class OneProcess:
    def reduce(self, seen: Tensor, how: str) -> Tensor:
        return seen


def test_steps_are_drawn_by_their_losses_once_each_was_seen_often() -> None:
    objective = Denoising(make_config("mask_uniform", 3), 0, torch.device("cpu"))
    times, losses = torch.tensor([1, 2, 3]), torch.tensor([1.0, 2.0, 5.0])
    for _ in range(ENOUGH):
        assert objective.chances().tolist() == [1 / 3] * 3
        objective._remember(times, losses, torch.ones(3, dtype=torch.bool))
        objective.end_step(OneProcess())  # type: ignore[arg-type]
    assert objective.chances() == pytest.approx(torch.tensor([2.0, 2.0, 5.0]).double() / 9, rel=1e-3)
    other = Denoising(make_config("mask_uniform", 3), 0, torch.device("cpu"))
    other.load_state_dict(objective.state_dict())
    assert torch.equal(other.chances(), objective.chances())
    # weighted by their chances, the losses stay an estimate of the same sum
    draws = [float(objective.losses(ignorant, make_batch((6,), 6, i), i).sum()) for i in range(600)]
    flat = Denoising(make_config("mask_uniform", 3), 0, torch.device("cpu"))
    plain = [float(flat.losses(ignorant, make_batch((6,), 6, i), i).sum()) for i in range(600)]
    assert sum(draws) == pytest.approx(sum(plain), rel=0.1)


def test_a_loss_that_is_not_finite_is_not_remembered() -> None:
    def broken(codes: Tensor, times: Tensor, *inputs: Tensor) -> LMOutput:
        output = ignorant(codes, times, *inputs)
        return LMOutput(output.logits * torch.tensor([torch.inf, 1.0])[:, None, None, None], output.mask)

    objective, clean = (Denoising(make_config("mask_uniform", 3), 0, torch.device("cpu")) for _ in range(2))
    assert not objective.losses(broken, make_batch((6, 6)), 0).isfinite().all()
    for value in (torch.inf, torch.nan, 1e30):  # the last has no finite square
        objective._remember(torch.tensor([1, 2]), torch.tensor([value, value]), torch.ones(2, dtype=torch.bool))
    objective.end_step(OneProcess())  # type: ignore[arg-type]
    for step in range(1, 4 * ENOUGH):
        for each in (objective, clean):
            each.losses(ignorant, make_batch((6, 6)), step)
            each.end_step(OneProcess())  # type: ignore[arg-type]
    assert objective.chances().isfinite().all() and objective.chances()[2] != 1 / 3
    assert torch.allclose(objective.chances(), clean.chances(), rtol=0.1)
