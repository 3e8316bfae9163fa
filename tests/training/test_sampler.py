"""The order of examples is a permutation that needs no memory; processes share each step."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from audiogen_cli.training.sampler import ExampleOrder, RankBatchSampler, seed_step, spread_evenly


@given(n=st.integers(1, 50), epoch=st.integers(0, 5), seed=st.integers(0, 1000))
def test_every_epoch_sees_every_item_once_from_any_start(n, epoch, seed):
    forwards = ExampleOrder(n, seed)
    seen = [forwards[i] for i in range(epoch * n, (epoch + 1) * n)]
    assert sorted(seen) == list(range(n))
    assert ExampleOrder(n, seed)[epoch * n + n // 2] == seen[n // 2]


def test_epochs_and_seeds_differ():
    def first(seed: int, epoch: int) -> list[int]:
        order = ExampleOrder(40, seed)
        return [order[i] for i in range(epoch * 40, epoch * 40 + 40)]

    assert first(0, 0) != first(0, 1)
    assert first(0, 0) != first(1, 0)


def test_a_curriculum_goes_from_low_to_high_in_the_first_epoch_alone():
    levels = np.random.default_rng(0).integers(0, 4, 60)
    plain, sorted_ = ExampleOrder(60, 7), ExampleOrder(60, 7, levels)
    first, second = ([sorted_[i] for i in range(start, start + 60)] for start in (0, 60))
    assert sorted(first) == list(range(60)) and second == [plain[i] for i in range(60, 120)]
    found = [levels[item] for item in first if levels[item]]
    assert found == sorted(found)
    assert [item for item in first if not levels[item]] == [plain[i] for i in range(60) if not levels[plain[i]]]
    assert [i for i in range(60) if not levels[first[i]]] == [i for i in range(60) if not levels[plain[i]]]


@given(
    processes=st.integers(1, 7),
    per_process=st.integers(1, 5),
    extra=st.integers(0, 6),
    micro_batch=st.integers(0, 6),
)
def test_every_example_is_read_once_by_one_process(processes, per_process, extra, micro_batch):
    size = processes * per_process + min(extra, processes - 1)
    samplers = [
        RankBatchSampler(lambda step: range(step * size, (step + 1) * size), range(2, 4), rank, processes, micro_batch)
        for rank in range(processes)
    ]
    for step in (2, 3):
        shares = [sampler.batches(step) for sampler in samplers]
        assert all(share and all(0 < len(batch) <= (micro_batch or size) for batch in share) for share in shares)
        own = [sum(map(len, share)) for share in shares]
        assert max(own) - min(own) <= 1
        read = sorted(i for share in shares for batch in share for i in batch)
        assert read == list(range(step * size, (step + 1) * size))
    assert list(samplers[0]) == samplers[0].batches(2) + samplers[0].batches(3)


@given(n=st.integers(0, 200), wanted=st.integers(1, 100))
def test_items_chosen_of_many_are_spread_over_all(n, wanted):
    chosen = spread_evenly(n, wanted)
    assert len(set(chosen)) == len(chosen) == min(n, wanted)
    if len(chosen) > 1:
        gaps = np.diff(chosen)
        assert (chosen[0], chosen[-1]) == (0, n - 1) and gaps.max() - gaps.min() <= 1


def test_what_a_step_draws_depends_on_seed_step_and_process():
    drawn = []
    for numbers in ((0, 0, 0), (1, 0, 0), (2**53, 0, 0), (0, 1, 0), (0, 0, 1), (0, 2**32, 0)):
        seed_step(*numbers)
        drawn.append(float(torch.rand(())))
        seed_step(*numbers)
        assert drawn[-1] == float(torch.rand(()))
    assert len(set(drawn)) == len(drawn)
