"""Which rows `audiogen tokenize` makes: windows of at most 10 s, varied and mixed copies of them (paper sec. 4.1).

Every row is a pure function of (clips, copies, seed). Of millions only numbers are kept: some 16 bytes a window and 8 a
mixed copy; the clips themselves stay on disk.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from audiogen_cli.data.manifest import Clip
from audiogen_cli.errors import InputError

WINDOW = 10.0  # seconds, paper.md: crops of up to 10 s
SHORTEST_REST = 1.0  # seconds: ours, a shorter rest of a long clip is no example of its caption


@dataclass(frozen=True)
class Window:
    """A part of a clip that becomes a row: n_samples at the codec's rate from `start` seconds into the file.

    speed: how many times as fast it is played, with its pitch. layout: seed of its pauses, if it is to fill its row.
    """

    clip: Clip
    id: str
    start: float
    n_samples: int
    speed: float = 1.0
    layout: int = 0

    def varied(self, vary: float, number: int, most: int) -> Window:
        """The same sound up to `vary` (a share) slower or faster, with other pauses; number: 63 random bits.

        most: samples beyond which a slower sound is cut.
        """
        speed = 1 + vary * (2 * (number >> 32) / (1 << 31) - 1)
        return replace(self, speed=speed, layout=number, n_samples=max(1, min(most, round(self.n_samples / speed))))


@dataclass(frozen=True)
class Plan:
    """One row to make: a window, or a mix of two.

    seed: of the mix's offset and SNR, 0 where there is none. fill: whether each sound is to fill its window first.
    """

    id: str
    window: Window
    partner: Window | None = None
    seed: int = 0
    fill: bool = False

    @property
    def n_samples(self) -> int:
        """How long the row's audio is; a mix is as long as the longer of its two."""
        return max(self.window.n_samples, self.partner.n_samples if self.partner else 0)


class Plans:
    """All rows to make, the longest first, so that those encoded together are of one length or nearly.

    clips: gone through once, then read as asked for. copies, mix_copies: unmixed and mixed copies per training window,
    all varied by up to `vary`. fill: share of the rows whose sounds fill them. digest: changes with anything that rows
    depend on, but the audio and the codec. Raises InputError if there is nothing to mix with.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        sample_rate: int,
        mix_copies: int = 0,
        seed: int = 0,
        fill: float = 0.0,
        copies: int = 0,
        vary: float = 0.0,
    ) -> None:
        self._clips, self._sample_rate, self._seed = clips, sample_rate, seed
        self._copies, self._mix_copies, self._fill, self._vary = copies, mix_copies, fill, vary
        clip_of, part, n_samples = array("I"), array("I"), array("I")  # of each window: its clip, its place there
        training, drawn = array("I"), array("Q")  # training windows, and what is drawn for each one's copies
        settings = [sample_rate, WINDOW, SHORTEST_REST, mix_copies, seed, fill, copies, vary]
        digest = hashlib.sha256(json.dumps(settings).encode())
        for index, clip in enumerate(clips):
            digest.update(_facts(clip))
            for number, window in enumerate(split_clip(clip, sample_rate)):
                if clip.split == "train":
                    training.append(len(clip_of))
                    drawn.extend(_draw(seed, window.id, f"{copy}")[0] for copy in range(mix_copies))
                clip_of.append(index)
                part.append(number)
                n_samples.append(window.n_samples)
        self.digest = digest.hexdigest()
        self._clip_of, self._part, self._training = np.asarray(clip_of), np.asarray(part), np.asarray(training)
        self._partners = self._choose_partners(np.asarray(drawn).reshape(len(training), mix_copies))
        lengths = np.asarray(n_samples)
        mixed = np.maximum(lengths[self._training, None], lengths[self._partners])
        plain = np.repeat(lengths[self._training], copies)
        # Row numbers: first the windows, then each training window's copies, then its mixes. Equal lengths keep that
        # order; how much slower or faster a copy is makes no difference to it.
        self._order = np.argsort(-np.concatenate([lengths, plain, mixed.ravel()]).astype(np.int64), kind="stable")

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> Plan:
        row = int(self._order[index])
        if row < len(self._clip_of):
            window = self._window(row)
            return self._plan(window.id, window)
        row -= len(self._clip_of)
        if row < len(self._training) * self._copies:
            first, copy = divmod(row, self._copies)
            window = self._window(int(self._training[first]))
            number = _draw(self._seed, window.id, f"copy{copy}")[0]
            return self._plan(f"{window.id}+copy{copy}", self._varied(window, number))
        first, copy = divmod(row - len(self._training) * self._copies, self._mix_copies)
        window, partner = self._window(int(self._training[first])), self._window(int(self._partners[first, copy]))
        _, seed, *numbers = _draw(self._seed, window.id, f"{copy}")
        window, partner = (self._varied(*each) for each in zip((window, partner), numbers, strict=True))
        return self._plan(f"{window.id}+mix{copy}", window, partner, seed)

    def _plan(self, row: str, window: Window, partner: Window | None = None, seed: int = 0) -> Plan:
        filled = _draw(self._seed, row, "fill")[0] < self._fill * 2.0**63
        return Plan(row, window, partner, seed, filled)

    def _varied(self, window: Window, number: int) -> Window:
        return window.varied(self._vary, number, round(WINDOW * self._sample_rate)) if self._vary else window

    def _window(self, row: int) -> Window:
        return split_clip(self._clips[int(self._clip_of[row])], self._sample_rate)[self._part[row]]

    def _choose_partners(self, drawn: np.ndarray) -> np.ndarray:
        """Of each drawn number [training windows, copies] a training window, uniform among those of other clips."""
        clips = self._clip_of[self._training]
        begin, end = np.searchsorted(clips, clips, "left"), np.searchsorted(clips, clips, "right")
        others = len(clips) - (end - begin)
        if self._mix_copies and not others.any():
            raise InputError("--mix needs at least two training clips: there is nothing to mix with")
        choice = (drawn % np.maximum(others, 1).astype(np.uint64)[:, None]).astype(np.int64)
        choice += np.where(choice >= begin[:, None], (end - begin)[:, None], 0)  # a clip's windows lie together
        return self._training[choice]


def split_clip(clip: Clip, sample_rate: int) -> list[Window]:
    """Cut a clip into rows: itself if it lasts up to 10 s, else consecutive windows of 10 s called `<id>#0`, `#1`, ...

    The rest after the last whole window becomes a row, too, unless it is shorter than 1 s.
    """
    whole, n_window = whole_clip(clip, sample_rate), round(WINDOW * sample_rate)
    n_samples = whole.n_samples
    if n_samples <= n_window:
        return [whole]
    starts = range(0, n_samples, n_window)
    return [
        Window(
            clip,
            f"{clip.id}#{number}",
            clip.start + start / sample_rate,
            min(n_window, n_samples - start),
            layout=_layout(f"{clip.id}#{number}"),
        )
        for number, start in enumerate(starts)
        if n_samples - start >= SHORTEST_REST * sample_rate
    ]


def whole_clip(clip: Clip, sample_rate: int, speed: float = 1.0) -> Window:
    """All of a clip, however long, played so many times as fast."""
    n_samples = max(1, round(clip.duration * sample_rate / speed))
    return Window(clip, clip.id, clip.start, n_samples, speed, _layout(clip.id))


def _layout(window: str) -> int:
    return zlib.crc32(window.encode())


def _draw(seed: int, window: str, copy: str) -> tuple[int, int, int, int]:
    """Four numbers of 63 bits for a window's copy, its own: no other row's change them."""
    digest = hashlib.sha256(f"{seed}/{window}/{copy}".encode()).digest()
    first, second, third, fourth = (int.from_bytes(digest[at : at + 8], "big") >> 1 for at in range(0, 32, 8))
    return first, second, third, fourth


def _facts(clip: Clip) -> bytes:
    parts = (clip.id, clip.path, clip.start, clip.duration, clip.dataset, clip.split, clip.texts)
    return json.dumps(parts).encode()
