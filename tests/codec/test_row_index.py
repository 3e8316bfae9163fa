"""The rows that are made: mixed copies and their partners, the order, and how little of it is in memory."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from audiogen_cli.codec.tokenize import RowIndex
from audiogen_cli.data.augment import AugmentConfig, RowSpec
from audiogen_cli.data.manifest import Clip
from audiogen_cli.data.windows import split_clip
from audiogen_cli.errors import InputError

SAMPLE_RATE = 1_000


def clip(name: str, duration: float = 2.0, split: Any = "train") -> Clip:
    return Clip(f"x/{name}", "x", split, f"{name}.wav", 0.25, duration, 1_000, 1, (), (), (f"a sound {name}",), "")


CLIPS = [clip("a"), clip("b", 3.0), clip("c", 25.5), clip("d", 5.0, "test"), clip("e", 11.0, "val")]


def rows_of(clips: Sequence[Clip] = CLIPS, vary: float = 0.0, fill: float = 0.0, **settings: int) -> dict[str, RowSpec]:
    index = RowIndex(clips, SAMPLE_RATE, AugmentConfig(vary=vary, fill=fill), **settings)
    return {row.id: row for row in index}


def test_rows_are_sorted_by_length_and_none_is_lost() -> None:
    rows = rows_of(mix_copies=2)
    lengths = [row.n_samples for row in rows.values()]
    assert lengths == sorted(lengths, reverse=True)
    windows = [window.id for one in CLIPS for window in split_clip(one, SAMPLE_RATE)]
    mixed = [f"{row}+mix{copy}" for row in ("x/a", "x/b", "x/c#0", "x/c#1", "x/c#2") for copy in (0, 1)]
    assert sorted(rows) == sorted([*windows, *mixed])
    assert all(row.id == row.window.id for row in rows.values() if row.partner is None)


def test_partners_are_uniform_among_other_training_clips() -> None:
    met: Counter[tuple[str, str]] = Counter()
    for row in rows_of(mix_copies=400).values():
        if row.partner:
            assert row.window.clip.id != row.partner.clip.id and row.partner.clip.split == "train"
            met[row.window.id, row.partner.id] += 1
    # a and b choose among four windows, c's windows among two; four standard errors around 100 and 200
    assert len(met) == 4 + 4 + 3 * 2
    for (window, _), times in met.items():
        expected, error = (200, 10) if window.startswith("x/c") else (100, 8.7)
        assert abs(times - expected) < 4 * error


def test_draws_are_each_rows_own() -> None:
    rows, again = rows_of(mix_copies=1, seed=3), rows_of(CLIPS[:3], mix_copies=2, seed=3)
    assert all(rows[name] == again[name] for name in ("x/a+mix0", "x/b+mix0", "x/c#0+mix0"))
    assert rows["x/a+mix0"].mix_seed != rows_of(mix_copies=1, seed=4)["x/a+mix0"].mix_seed
    assert len({row.mix_seed for row in again.values()}) == 2 * 5 + 1  # 0 for all that are no mixes


def test_copies_have_speeds_and_pauses_of_their_own() -> None:
    rows = rows_of(mix_copies=1, copies=20, vary=0.2)
    assert sum("+copy" in name for name in rows) == 20 * 5 and not any("x/d+" in name for name in rows)
    copies = [row.window for name, row in rows.items() if name.startswith("x/b+copy")]
    assert all(0.8 <= window.speed <= 1.2 for window in copies) and len({window.speed for window in copies}) == 20
    assert min(window.speed for window in copies) < 0.9 and max(window.speed for window in copies) > 1.1
    assert all(abs(window.n_samples * window.speed - 3_000) <= 1 for window in copies)
    assert all(row.n_samples <= 10_000 for row in rows.values())  # windows of 10 s are cut when they are slowed
    mixed = rows["x/a+mix0"]
    assert mixed.partner and {mixed.window.speed, mixed.partner.speed}.isdisjoint({1.0})
    assert rows["x/a"].window.speed == 1.0
    assert len({window.pause_seed for window in copies}) == 20


def test_a_share_of_the_rows_is_filled_each_by_its_own_number() -> None:
    def filled(share: float, copies: int = 200) -> dict[str, bool]:
        return {name: row.fill for name, row in rows_of(mix_copies=1, copies=copies, fill=share).items()}

    some = filled(0.3)
    assert abs(sum(some.values()) / len(some) - 0.3) < 0.06  # four standard errors of a thousand rows
    assert not any(filled(0.0).values()) and all(filled(1.0).values())
    assert all(some[row] <= more for row, more in filled(0.6).items())  # more rows, none other
    assert all(some[row] == fill for row, fill in filled(0.3, copies=2).items())


def test_the_digest_changes_with_whatever_rows_depend_on() -> None:
    calls: list[tuple[Any, ...]] = [
        (CLIPS, SAMPLE_RATE),
        (CLIPS[:-1], SAMPLE_RATE),
        (CLIPS[::-1], SAMPLE_RATE),
        ([*CLIPS[:-1], clip("e", 11.5, "val")], SAMPLE_RATE),
        (CLIPS, 2 * SAMPLE_RATE),
        (CLIPS, SAMPLE_RATE, AugmentConfig(fill=0.5)),
        (CLIPS, SAMPLE_RATE, AugmentConfig(fill=1.0)),
        (CLIPS, SAMPLE_RATE, AugmentConfig(vary=0.1)),
        (CLIPS, SAMPLE_RATE, AugmentConfig(), 1),
        (CLIPS, SAMPLE_RATE, AugmentConfig(), 0, 1),
        (CLIPS, SAMPLE_RATE, AugmentConfig(), 0, 1, 5),
    ]
    assert len({RowIndex(*call).digest for call in calls}) == len(calls)
    assert RowIndex(list(CLIPS), SAMPLE_RATE).digest == RowIndex(CLIPS, SAMPLE_RATE).digest


def test_nothing_to_mix_with_is_refused() -> None:
    for clips in (CLIPS[:1], CLIPS[2:]):  # one training clip, of one window or of three
        with pytest.raises(InputError, match="at least two training clips"):
            rows_of(clips, mix_copies=1)
        assert rows_of(clips)
    held_out = [replace(clip, split="val") for clip in CLIPS]  # gets no mixes, so it needs no partners
    assert rows_of(held_out, mix_copies=1) == rows_of(held_out)


class OnDisk(Sequence[Clip]):
    """Clips that come and go."""

    def __len__(self) -> int:
        return 5_000

    def __getitem__(self, index: Any) -> Any:
        # One file name: Python keeps a table of the names in paths, which grows at times.
        return replace(clip("a", 5 + index % 7), id=f"x/{index}")

    def __iter__(self) -> Iterator[Clip]:
        return map(self.__getitem__, range(len(self)))


def test_an_index_takes_a_few_bytes_a_row() -> None:
    tracemalloc.start()
    try:
        rows = RowIndex(OnDisk(), SAMPLE_RATE, mix_copies=1)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(rows) >= 10_000
    assert kept / len(rows) < 28 and peak / len(rows) < 100
    assert rows[0].n_samples == 10_000
