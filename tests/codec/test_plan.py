"""Which rows are made: windows, mixed copies and their partners, the order, and how little of it is in memory."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from audiogen_cli.codec.plan import Plans, split_clip
from audiogen_cli.data.manifest import Clip
from audiogen_cli.errors import InputError

SAMPLE_RATE = 1_000


def clip(name: str, duration: float = 2.0, split: Any = "train") -> Clip:
    return Clip(f"x/{name}", "x", split, f"{name}.wav", 0.25, duration, 1_000, 1, (), (), (f"a sound {name}",), "")


CLIPS = [clip("a"), clip("b", 3.0), clip("c", 25.5), clip("d", 5.0, "test"), clip("e", 11.0, "val")]


@pytest.mark.parametrize(
    "seconds, expected",
    [
        (10.0, [("x/a", 0.0, 10.0)]),
        (10.4, [("x/a#0", 0.0, 10.0)]),
        (11.0, [("x/a#0", 0.0, 10.0), ("x/a#1", 10.0, 1.0)]),
        (25.5, [("x/a#0", 0.0, 10.0), ("x/a#1", 10.0, 10.0), ("x/a#2", 20.0, 5.5)]),
        (0.2, [("x/a", 0.0, 0.2)]),
    ],
)
def test_long_clips_are_cut_in_windows(seconds: float, expected: list[tuple[str, float, float]]) -> None:
    windows = split_clip(clip("a", seconds), SAMPLE_RATE)
    assert [(w.id, w.start - 0.25, w.n_samples / SAMPLE_RATE) for w in windows] == expected


def test_rows_are_sorted_by_length_and_none_is_lost() -> None:
    plans = list(Plans(CLIPS, SAMPLE_RATE, mix_copies=2))
    lengths = [plan.n_samples for plan in plans]
    assert lengths == sorted(lengths, reverse=True)
    windows = [window.id for one in CLIPS for window in split_clip(one, SAMPLE_RATE)]
    mixed = [f"{row}+mix{copy}" for row in ("x/a", "x/b", "x/c#0", "x/c#1", "x/c#2") for copy in (0, 1)]
    assert sorted(plan.id for plan in plans) == sorted([*windows, *mixed])
    assert all(plan.id == plan.window.id for plan in plans if plan.partner is None)


def test_partners_are_uniform_among_other_training_clips() -> None:
    met: Counter[tuple[str, str]] = Counter()
    for plan in Plans(CLIPS, SAMPLE_RATE, mix_copies=400):
        if plan.partner:
            assert plan.window.clip.id != plan.partner.clip.id and plan.partner.clip.split == "train"
            met[plan.window.id, plan.partner.id] += 1
    # a and b choose among four rows, c's rows among two; four standard errors around 100 and 200
    assert len(met) == 4 + 4 + 3 * 2
    for (row, _), times in met.items():
        expected, error = (200, 10) if row.startswith("x/c") else (100, 8.7)
        assert abs(times - expected) < 4 * error


def test_draws_are_each_rows_own() -> None:
    def rows(*arguments: Any) -> dict[str, Any]:
        return {plan.id: plan for plan in Plans(*arguments)}

    plans, again = rows(CLIPS, SAMPLE_RATE, 1, 3), rows(CLIPS[:3], SAMPLE_RATE, 2, 3)
    assert all(plans[name] == again[name] for name in ("x/a+mix0", "x/b+mix0", "x/c#0+mix0"))
    assert plans["x/a+mix0"].seed != rows(CLIPS, SAMPLE_RATE, 1, 4)["x/a+mix0"].seed
    assert len({plan.seed for plan in again.values()}) == 2 * 5 + 1  # 0 for all that are no mixes


def test_copies_are_varied_each_in_its_own_way() -> None:
    plans = {plan.id: plan for plan in Plans(CLIPS, SAMPLE_RATE, mix_copies=1, copies=20, vary=0.2)}
    assert sum("+copy" in name for name in plans) == 20 * 5 and not any("x/d+" in name for name in plans)
    copies = [plan.window for name, plan in plans.items() if name.startswith("x/b+copy")]
    assert all(0.8 <= window.speed <= 1.2 for window in copies) and len({window.speed for window in copies}) == 20
    assert min(window.speed for window in copies) < 0.9 and max(window.speed for window in copies) > 1.1
    assert all(abs(window.n_samples * window.speed - 3_000) <= 1 for window in copies)
    assert all(plan.n_samples <= 10_000 for plan in plans.values())  # windows of 10 s are cut when they are slowed
    mixed = plans["x/a+mix0"]
    assert mixed.partner and {mixed.window.speed, mixed.partner.speed}.isdisjoint({1.0})
    assert plans["x/a"].window.speed == 1.0
    assert len({window.layout for window in copies}) == 20


def test_a_share_of_the_rows_is_filled_each_by_its_own_lot() -> None:
    def filled(share: float, copies: int = 200) -> dict[str, bool]:
        return {plan.id: plan.fill for plan in Plans(CLIPS, SAMPLE_RATE, mix_copies=1, copies=copies, fill=share)}

    some = filled(0.3)
    assert abs(sum(some.values()) / len(some) - 0.3) < 0.06  # four standard errors of a thousand rows
    assert not any(filled(0.0).values()) and all(filled(1.0).values())
    assert all(some[row] <= more for row, more in filled(0.6).items())  # more rows, none other
    assert all(some[row] == lot for row, lot in filled(0.3, copies=2).items())


def test_the_digest_changes_with_whatever_rows_depend_on() -> None:
    calls: list[tuple[Any, ...]] = [
        (CLIPS, SAMPLE_RATE),
        (CLIPS[:-1], SAMPLE_RATE),
        (CLIPS[::-1], SAMPLE_RATE),
        ([*CLIPS[:-1], clip("e", 11.5, "val")], SAMPLE_RATE),
        (CLIPS, 2 * SAMPLE_RATE),
        (CLIPS, SAMPLE_RATE, 1),
        (CLIPS, SAMPLE_RATE, 1, 5),
        (CLIPS, SAMPLE_RATE, 1, 5, 0.5),
        (CLIPS, SAMPLE_RATE, 1, 5, 1.0),
        (CLIPS, SAMPLE_RATE, 1, 5, 1.0, 1),
        (CLIPS, SAMPLE_RATE, 1, 5, 1.0, 1, 0.1),
    ]
    assert len({Plans(*call).digest for call in calls}) == len(calls)
    assert Plans(list(CLIPS), SAMPLE_RATE).digest == Plans(CLIPS, SAMPLE_RATE).digest


def test_nothing_to_mix_with_is_refused() -> None:
    for clips in (CLIPS[:1], CLIPS[2:]):  # one training clip, of one window or of three
        with pytest.raises(InputError, match="at least two training clips"):
            Plans(clips, SAMPLE_RATE, mix_copies=1)
        assert len(Plans(clips, SAMPLE_RATE)) >= 1


class OnDisk(Sequence[Clip]):
    """Clips that come and go."""

    def __len__(self) -> int:
        return 5_000

    def __getitem__(self, index: Any) -> Any:
        return clip(str(index), 5 + index % 7)

    def __iter__(self) -> Iterator[Clip]:
        return map(self.__getitem__, range(len(self)))


def test_plans_take_a_few_bytes_a_row() -> None:
    tracemalloc.start()
    try:
        plans = Plans(OnDisk(), SAMPLE_RATE, mix_copies=1)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(plans) >= 10_000
    assert kept / len(plans) < 24 and peak / len(plans) < 100
    assert plans[0].n_samples == 10_000
