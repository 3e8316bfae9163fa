"""Progress off a terminal: how often, and what a line says."""

from __future__ import annotations

import itertools
import os
import pty
import sys

import pytest

from audiogen_cli.commands.terminal.progress import LONGEST_WAIT, PlainProgress, progress_bar


def lines_of(calls: list[tuple[float, int, int | None]]) -> list[tuple[float, str]]:
    """What is written when, by calls at given seconds."""
    now, lines = 0.0, list[tuple[float, str]]()
    progress = PlainProgress("preparing", lambda: now, lambda line: lines.append((now, line)))
    for second, done, total in calls:
        now = second
        progress(done, total)
    return lines


def test_a_line_says_count_rate_and_time_left() -> None:
    calls: list[tuple[float, int, int | None]] = [(0, 0, None), (12, 0, None), (20, 0, 50_000), (40, 16_800, 50_000)]
    assert lines_of(calls) == [(12, "preparing: 0"), (40, "preparing: 16,800 of 50,000, 840/s, 40 s left")]
    assert lines_of([(0, 0, 10), (30, 1, 10)])[0][1].endswith("1 of 10, 0.0333/s, 4.5 min left")
    assert lines_of([(0, 0, 1_001), (30, 1, 1_001)])[0][1].endswith("8.3 h left")


def test_a_new_total_begins_a_new_count() -> None:
    lines = lines_of([(0, 0, 10), (9, 10, 10), (9, 0, 400), (19, 100, 400)])
    assert lines == [(19, "preparing: 100 of 400, 10/s, 30 s left")]


def test_short_runs_say_nothing_and_long_ones_little() -> None:
    assert lines_of([(0.1 * tick, tick, 99) for tick in range(99)]) == []
    times = [second for second, _ in lines_of([(float(tick), tick, 36_000) for tick in range(36_000)])]
    assert times[:3] == [10, 20, 30] and len(times) < 200
    assert max(b - a for a, b in itertools.pairwise(times)) <= LONGEST_WAIT


def test_only_the_main_process_talks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("audiogen_cli.commands.terminal.progress.FIRST_LINE", 0.0)
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        with progress_bar("scoring") as progress:
            progress(1, 2)
        output = capsys.readouterr()
        assert output.out == "" and output.err.startswith("" if rank == "1" else "scoring: 1 of 2")
        assert (output.err == "") == (rank == "1")


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, inner = pty.openpty()
    with os.fdopen(inner, "w") as stderr, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stderr)
        with progress_bar("x") as progress:
            progress(1, 2)
        shown = ""
        while "1/2" not in shown:  # a read returns what one refresh has written
            shown += os.read(terminal, 10_000).decode()
    os.close(terminal)
