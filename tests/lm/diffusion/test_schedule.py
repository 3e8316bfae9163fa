"""The discrete diffusion against brute force: matrices of single steps, and Bayes' rule, in a world of four codes."""

from __future__ import annotations

import pytest
import torch
from helpers.diffusion import MASK, SCHEDULES, V, make_config, matrix

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


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("begin", "end"), [(0, 1), (0, 5), (2, 3), (3, 7), (6, 7)])
def test_the_posterior_is_bayes_rule(name: str, begin: int, end: int) -> None:
    schedule = NoiseSchedule(make_config(name, T))
    first, rest, whole = (matrix(schedule, *span) for span in ((0, begin), (begin, end), (0, end)))
    chances = torch.rand(V, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    chances /= chances.sum()
    for now in range(V + 1):
        possible = [was for was in range(V) if whole[was, now] > 0]
        if not possible:
            continue
        # over codes that cannot have become this one there is no posterior
        weights = chances.clone() if len(possible) == V else torch.eye(V, dtype=torch.float64)[possible[0]]
        wanted = sum(weights[was] * first[was] * rest[:, now] / whole[was, now] for was in possible)
        codes, times = torch.tensor([[[now]]]), (torch.tensor([begin]), torch.tensor([end]))
        found, masked = schedule.posterior(weights.float()[None, None, None], codes, *times)
        found = torch.cat([found.flatten(), masked.flatten()]).double()
        assert torch.allclose(found, wanted, atol=1e-5), (name, now)  # type: ignore[arg-type]
        assert abs(float(found.sum()) - 1) < 1e-5


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
    guess = torch.tensor([0.1, 0.2, 0.3, 0.4]).expand(1, 1, 2, V)
    codes, masked = schedule.posterior(guess, torch.tensor([[[MASK, 1]]]), torch.tensor([40]), torch.tensor([50]))
    lifted = 1 - float(masked[0, 0, 0])
    assert lifted == pytest.approx(1 - float(schedule.masked[40] / schedule.masked[50]), abs=1e-6)
    assert codes[0, 0, 0] == pytest.approx(lifted * guess[0, 0, 0], abs=1e-6)
    assert codes[0, 0, 1].tolist() == [0, 1, 0, 0] and masked[0, 0, 1] == 0


def test_published_numbers() -> None:
    schedule = NoiseSchedule(make_config("mask_uniform", 100))
    assert len(schedule.kept) == 101 and schedule.kept[0] == 1 and schedule.masked[0] == 0
    assert [float(schedule.kept[t]) for t in (1, 100)] == pytest.approx([0.99999, 9e-6])
    assert [float(schedule.masked[t]) for t in (1, 100)] == pytest.approx([9e-6, 0.9])
