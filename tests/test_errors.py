"""Durations as people write them."""

from __future__ import annotations

import pytest

from audiogen_cli.errors import read_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("30", 30), (5.0, 5), ("0.5", 0.5), ("1e3", 1000), ("30s", 30), ("500ms", 0.5), ("2m", 120), ("1.5 min", 90)),
        *(("1m30s", 90), ("1h 2m 3s", 3723), ("1:30", 90), ("1:00:01.5", 3601.5), ("10 seconds", 10)),
    ],
)
def test_durations_are_read(text: object, seconds: float) -> None:
    assert read_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "m", "2 parsecs", "1m30", "s30", "1:2:3:4", "--"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no duration: give seconds"):
        read_seconds(text)
