"""The discrete diffusion against brute force: matrices of single steps, and Bayes' rule, in a world of four codes."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.diffusion import MASK, SCHEDULES, V, make_config, matrix

from audiogen_cli.lm.diffusion.objective import Denoising
from audiogen_cli.lm.diffusion.schedule import NoiseSchedule

T = 7


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_cumulative_formula_is_the_product_of_the_steps(name: str) -> None:
    schedule, product = NoiseSchedule(make_config(name, T)), torch.eye(V + 1, dtype=torch.float64)
    for time in range(1, T + 1):
        step = matrix(schedule, time - 1, time)
        assert (step >= 0).all() and torch.allclose(step.sum(1), torch.ones(V + 1, dtype=torch.float64), atol=1e-6)
        product = product @ step
        assert torch.allclose(product, matrix(schedule, 0, time), atol=1e-6)
    gone = matrix(schedule, 0, T)[:V]
    assert (gone - gone[0]).abs().max() < 2e-5  # nothing is left of a clip


def draw_many(schedule: NoiseSchedule, was: int, now: int, begin: int, end: int) -> torch.Tensor:
    """The shares [V + 1] of what two decisions make of a code, over a grid of the numbers that they are drawn by."""
    side = 200
    grid = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    of_mask, of_code = (each.flatten()[None, None] for each in torch.meshgrid(grid, grid, indexing="ij"))
    codes, times = torch.full(of_mask.shape, now), (torch.tensor([begin]), torch.tensor([end]))
    masked = schedule.stay_masked(codes, *times, of_mask)
    drawn = schedule.draw_back(torch.full_like(codes, was), codes, *times, of_code).where(~masked, MASK)
    return torch.bincount(drawn.flatten(), minlength=V + 1).double() / side**2


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("begin", "end"), [(0, 1), (0, 5), (2, 3), (3, 7), (6, 7)])
def test_the_way_back_is_bayes_rule(name: str, begin: int, end: int) -> None:
    schedule = NoiseSchedule(make_config(name, T))
    first, rest, whole = (matrix(schedule, *span) for span in ((0, begin), (begin, end), (0, end)))
    for now in range(V + 1):
        for was in range(V):
            if whole[was, now] > 0:
                wanted = first[was] * rest[:, now] / whole[was, now]
                assert torch.allclose(draw_many(schedule, was, now, begin, end), wanted, atol=0.02), (name, was, now)


@pytest.mark.parametrize("name", SCHEDULES)
def test_noise_has_the_chances_of_the_matrix(name: str) -> None:
    schedule, n = NoiseSchedule(make_config(name, T)), 20_000
    uniform = (torch.arange(n, dtype=torch.float64)[None, None] + 0.5) / n
    for time in (1, 3, T):
        drawn = schedule.add_noise(torch.full((1, 1, n), 2), torch.tensor([time]), uniform)
        counts = torch.bincount(drawn.flatten(), minlength=V + 1).double() / n
        assert torch.allclose(counts, matrix(schedule, 0, time)[2], atol=2 / n)


def test_masks_alone_are_masked_generation() -> None:
    """A mask is lifted with the probability that belongs to its step, to what the network says; codes stay."""
    schedule = NoiseSchedule(make_config("mask", 100))
    found = draw_many(schedule, 2, MASK, 40, 50)
    assert found[MASK] == pytest.approx(float(schedule.masked[40] / schedule.masked[50]), abs=0.006)
    assert found[2] == pytest.approx(1 - float(found[MASK]))
    assert draw_many(schedule, 2, 1, 40, 50)[1] == 1  # whatever the network says


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("time", [1, 3, T])
def test_what_a_code_says_of_its_original_is_bayes_rule(name: str, time: int) -> None:
    schedule, whole = NoiseSchedule(make_config(name, T)), matrix(NoiseSchedule(make_config(name, T)), 0, time)
    prior = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    for now in range(V + 1):
        if not whole[:V, now].any():
            continue
        logits = prior.log().float()[None, None, None]
        found = schedule.weigh(logits, torch.tensor([[[now]]]), torch.tensor([time])).softmax(-1).flatten().double()
        assert torch.allclose(found, prior * whole[:V, now] / (prior @ whole[:V, now]), atol=1e-5), now


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_network_that_knows_nothing_loses_as_much_as_it_would_by_guessing(name: str) -> None:
    """Over all steps and what they may make of a code, the bound is ln V: nothing is lost by not repeating a code."""
    objective = Denoising(make_config(name, T), 0, torch.device("cpu"))
    bound, was = 0.0, torch.tensor([[[2]]])
    for time in range(1, T + 1):
        for now, chance in enumerate(matrix(objective.schedule, 0, time)[2].tolist()):
            codes, times = torch.tensor([[[now]]]), torch.tensor([time])
            logits = objective.schedule.weigh(torch.zeros(1, 1, 1, V), codes, times)
            bound += chance * float(objective.divergence(logits, was, codes, times)[0])
    assert bound == pytest.approx(math.log(V), abs=1e-3)


def test_published_numbers() -> None:
    schedule = NoiseSchedule(make_config("mask_uniform", 100))
    assert len(schedule.kept) == 101 and schedule.kept[0] == 1 and schedule.masked[0] == 0
    assert [float(schedule.kept[t]) for t in (1, 100)] == pytest.approx([0.99999, 9e-6])
    assert [float(schedule.masked[t]) for t in (1, 100)] == pytest.approx([9e-6, 0.9])
