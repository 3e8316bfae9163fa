"""Cutting clips into windows, the table of them, and reading one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audiogen_cli.data.audio import read_audio, write_audio
from audiogen_cli.data.manifest import Clip
from audiogen_cli.data.windows import Window, cut_windows, read_window, split_clip
from audiogen_cli.errors import InputError

RATE = 1_000


def clip(name: str, duration: float = 2.0, split: Any = "train", root: Path = Path()) -> Clip:
    return Clip(f"x/{name}", "x", split, f"{name}.wav", 0.25, duration, RATE, 1, (), (), (name,), "", root)


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
    windows = split_clip(clip("a", seconds), RATE)
    assert [(w.id, w.start - 0.25, w.n_samples / RATE) for w in windows] == expected


def test_a_table_holds_every_window_and_knows_its_neighbors() -> None:
    clips = [clip("a"), clip("b", 25.5), clip("c", 5.0, "val"), clip("d", 11.0)]
    visited = []
    table = cut_windows(clips, RATE, lambda one, windows: visited.append((one.id, len(windows))))
    assert visited == [("x/a", 1), ("x/b", 3), ("x/c", 1), ("x/d", 2)]
    assert [table[i] for i in range(len(table))] == [window for one in clips for window in split_clip(one, RATE)]
    assert [list(table.same_clip(i)) for i in (0, 2, 6)] == [[0], [1, 2, 3], [5, 6]]
    train = table.select("train")
    assert [train[i].id for i in range(len(train))] == ["x/a", "x/b#0", "x/b#1", "x/b#2", "x/d#0", "x/d#1"]
    assert list(train.same_clip(4)) == [4, 5] and not len(table.select("test"))


@pytest.fixture
def recording(tmp_path: Path) -> Clip:
    wave = np.sin(2 * np.pi * 100 * np.arange(2_000) / RATE)
    write_audio(tmp_path / "a.wav", 0.5 * wave.astype(np.float32), RATE)
    return clip("a", root=tmp_path)


def test_a_window_is_its_part_of_the_file(recording: Clip) -> None:
    wav = read_window(Window(recording, "x", start=0.5, n_samples=700), RATE)
    np.testing.assert_array_equal(wav, read_audio(recording.audio_path, RATE)[500:1_200])


def test_a_file_that_was_cut_since_is_no_silence(recording: Clip) -> None:
    window = Window(recording, "x", start=1.0, n_samples=1_000)
    write_audio(recording.audio_path, read_audio(recording.audio_path, RATE)[:1_999], RATE)
    assert read_window(window, RATE)[-1] == 0  # rounded
    write_audio(recording.audio_path, read_audio(recording.audio_path, RATE)[:1_900], RATE)
    with pytest.raises(InputError, match=r"a.wav lasts 0.1 s less than prep found; run it again"):
        read_window(window, RATE)


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.25])
def test_a_faster_sound_is_higher_and_shorter(recording: Clip, speed: float) -> None:
    window = Window(recording, "x", start=0.0, n_samples=round(2_000 / speed), speed=speed)
    wav = read_window(window, RATE)
    assert len(wav) == window.n_samples and np.abs(wav[-50:]).max() > 0.4
    spectrum = np.abs(np.fft.rfft(wav * np.hanning(len(wav))))
    assert abs(spectrum.argmax() * RATE / len(wav) - 100 * speed) < 1
