"""Windows of at most 10 s that clips are cut into, for `tokenize` and both trainings (paper sec. 4.1)."""

from __future__ import annotations

import json
import zlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from audiogen_cli.data.audio import read_audio
from audiogen_cli.data.captions import published_texts
from audiogen_cli.data.manifest import SPLITS, Clip, Split
from audiogen_cli.errors import InputError

WINDOW_SECONDS = 10.0  # paper.md: crops of up to 10 s
SHORTEST_REST = 1.0  # seconds; ours: a shorter rest of a long clip is no example of its caption
ROUNDING = 1e-3  # share of a window, at another speed, by which it and its file may end apart


@dataclass(frozen=True)
class Window:
    """A part of a clip: `n_samples` at the codec's rate, from `start` seconds into the clip's file.

    speed: times as fast as recorded, pitch included. pause_seed: draws the pauses where the window is loop-filled.
    """

    clip: Clip
    id: str
    start: float
    n_samples: int
    speed: float = 1.0
    pause_seed: int = 0


@dataclass(frozen=True)
class WindowTable:
    """The W windows of clips, by number. Per window it keeps 13 bytes; the clips stay on disk. `cut_windows` makes it.

    clip_of, part: [W] uint32, each window's clip and its place among the windows of that clip; windows of one clip are
    neighbors. n_samples: [W] uint32. split: [W] uint8, an index into SPLITS.
    """

    clips: Sequence[Clip]
    sample_rate: int
    clip_of: np.ndarray
    part: np.ndarray
    n_samples: np.ndarray
    split: np.ndarray

    def __len__(self) -> int:
        return len(self.clip_of)

    def __getitem__(self, number: int) -> Window:
        return split_clip(self.clips[int(self.clip_of[number])], self.sample_rate)[self.part[number]]

    def select(self, split: Split) -> WindowTable:
        """Return the table of one split's windows, in the same order."""
        chosen = self.split == SPLITS.index(split)
        columns = {name: getattr(self, name)[chosen] for name in ("clip_of", "part", "n_samples", "split")}
        return replace(self, **columns)

    def same_clip(self, number: int) -> range:
        """Return the numbers of all windows of window `number`'s clip."""
        clip = self.clip_of[number]
        return range(*(int(np.searchsorted(self.clip_of, clip, side)) for side in ("left", "right")))


def cut_windows(
    clips: Sequence[Clip], sample_rate: int, visit: Callable[[Clip, list[Window]], None] = lambda clip, windows: None
) -> WindowTable:
    """Cut all clips into windows, in one pass. visit: called with each clip and its windows."""
    clip_of, part, n_samples, split = array("I"), array("I"), array("I"), array("B")
    for index, clip in enumerate(clips):
        windows = split_clip(clip, sample_rate)
        clip_of.extend([index] * len(windows))
        part.extend(range(len(windows)))
        n_samples.extend(window.n_samples for window in windows)
        split.extend([SPLITS.index(clip.split)] * len(windows))
        visit(clip, windows)
    return WindowTable(clips, sample_rate, *map(np.asarray, (clip_of, part, n_samples, split)))


def clip_key(clip: Clip) -> bytes:
    """Return what rows made of a clip depend on, but for its audio, to be hashed."""
    parts = (clip.id, clip.path, clip.start, clip.duration, clip.dataset, clip.split, clip.texts, published_texts(clip))
    return json.dumps(parts).encode()


def split_clip(clip: Clip, sample_rate: int) -> list[Window]:
    """Cut a clip: up to 10 s it is one window, else consecutive windows of 10 s with the ids `<id>#0`, `<id>#1`, …

    The rest after the last full window becomes a window too, unless it is shorter than 1 s.
    """
    whole, n_window = whole_clip(clip, sample_rate), round(WINDOW_SECONDS * sample_rate)
    n_samples = whole.n_samples
    if n_samples <= n_window:
        return [whole]
    return [
        Window(
            clip,
            f"{clip.id}#{number}",
            clip.start + first / sample_rate,
            min(n_window, n_samples - first),
            pause_seed=_pause_seed(f"{clip.id}#{number}"),
        )
        for number, first in enumerate(range(0, n_samples, n_window))
        if n_samples - first >= SHORTEST_REST * sample_rate
    ]


def whole_clip(clip: Clip, sample_rate: int, speed: float = 1.0) -> Window:
    """Return all of a clip, however long, as one window."""
    n_samples = max(1, round(clip.duration * sample_rate / speed))
    return Window(clip, clip.id, clip.start, n_samples, speed, _pause_seed(clip.id))


def read_window(window: Window, sample_rate: int) -> np.ndarray:
    """Read a window's audio: [N] float32, N = its `n_samples`. Raises InputError if its file is damaged or was cut."""
    rate = round(sample_rate / window.speed)  # read at one rate and played at another, audio is faster or slower
    wav = read_audio(window.clip.audio_path, rate, window.start, window.n_samples / rate)
    missing = max(0, window.n_samples - len(wav))
    if missing > 1 + ROUNDING * window.n_samples:
        raise InputError(f"{window.clip.audio_path} lasts {missing / rate:.3g} s less than prep found; run it again")
    return np.pad(wav, (0, missing))


def _pause_seed(window_id: str) -> int:
    return zlib.crc32(window_id.encode())
