"""The rows that `audiogen tokenize` makes: windows, copies of them at other speeds, mixed copies (paper sec. 4.1).

Every row is a pure function of (clips, settings, seed). Of millions only numbers are kept: 13 bytes a window, 8 a clip
and 8 a mixed copy; the clips themselves stay on disk.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from audiogen_cli.data.augment import NO_AUGMENTATION, AugmentConfig, RowSpec, speed_perturbed
from audiogen_cli.data.manifest import SPLITS, Clip
from audiogen_cli.data.windows import SHORTEST_REST, WINDOW_SECONDS, Window, clip_key, cut_windows
from audiogen_cli.errors import InputError


class RowIndex(Sequence[RowSpec]):
    """All rows to make, the longest first, so that rows encoded together are of about one length.

    clips: read once, then on demand. copies, mix_copies: unmixed and mixed copies per training window. digest: changes
    with whatever the rows depend on, except the audio (`files_digest`) and the codec. Raises InputError if there is
    nothing to mix with.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        sample_rate: int,
        augment: AugmentConfig = NO_AUGMENTATION,
        copies: int = 0,
        mix_copies: int = 0,
        seed: int = 0,
    ) -> None:
        self._augment, self._copies, self._mix_copies, self._seed = augment, copies, mix_copies, seed
        self._max_samples = round(WINDOW_SECONDS * sample_rate)
        settings = [sample_rate, WINDOW_SECONDS, SHORTEST_REST, mix_copies, seed, augment.fill, copies, augment.vary]
        digest = hashlib.sha256(json.dumps(settings).encode())
        partner_numbers = array("Q")  # of each training window's mixed copies: what chooses the partner
        files = array("Q")  # of each clip's file

        def visit(clip: Clip, windows: list[Window]) -> None:
            digest.update(clip_key(clip))
            files.append(_file_number(clip.audio_path))
            if clip.split == "train":
                for window in windows:
                    partner_numbers.extend(_draw(seed, window.id, f"{copy}")[0] for copy in range(mix_copies))

        self._windows = cut_windows(clips, sample_rate, visit)
        self.digest = digest.hexdigest()
        self._files = np.asarray(files)
        self._training = np.flatnonzero(self._windows.split == SPLITS.index("train"))
        self._partners = self._choose_partners(np.asarray(partner_numbers).reshape(len(self._training), mix_copies))
        lengths = self._windows.n_samples
        plain = np.repeat(lengths[self._training], copies)
        mixed = np.maximum(lengths[self._training, None], lengths[self._partners])
        # Row numbers: first the windows, then each training window's copies, then its mixes. Equal lengths keep that
        # order; a copy counts with its length before its change of speed.
        self._order = np.argsort(-np.concatenate([lengths, plain, mixed.ravel()]).astype(np.int64), kind="stable")

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> RowSpec:  # type: ignore[override]  # no slices
        row = int(self._order[index])
        if row < len(self._windows):
            window = self._windows[row]
            return self._row(window.id, window)
        row -= len(self._windows)
        if row < len(self._training) * self._copies:
            first, copy = divmod(row, self._copies)
            window = self._windows[int(self._training[first])]
            number = _draw(self._seed, window.id, f"copy{copy}")[0]
            return self._row(f"{window.id}+copy{copy}", self._perturbed(window, number))
        first, copy = divmod(row - len(self._training) * self._copies, self._mix_copies)
        window = self._windows[int(self._training[first])]
        partner = self._windows[int(self._partners[first, copy])]
        _, mix_seed, *numbers = _draw(self._seed, window.id, f"{copy}")
        window, partner = (self._perturbed(*each) for each in zip((window, partner), numbers, strict=True))
        return self._row(f"{window.id}+mix{copy}", window, partner, mix_seed)

    def files_digest(self, numbers: range) -> str:
        """Return a digest of the size and time of the files behind some rows: another if one of them has changed."""
        rows = self._order[numbers.start : numbers.stop]
        copies = rows - len(self._windows)
        mixes = copies - len(self._training) * self._copies
        is_mix = mixes >= 0
        is_copy = (copies >= 0) & ~is_mix
        windows = [
            rows[copies < 0],
            self._training[copies[is_copy] // max(1, self._copies)],
            self._training[mixes[is_mix] // max(1, self._mix_copies)],
            self._partners.ravel()[mixes[is_mix]],
        ]
        clips = self._windows.clip_of[np.concatenate(windows)]
        return hashlib.sha256(self._files[clips].tobytes()).hexdigest()

    def _row(self, row_id: str, window: Window, partner: Window | None = None, mix_seed: int = 0) -> RowSpec:
        fill = _draw(self._seed, row_id, "fill")[0] < self._augment.fill * 2.0**63
        return RowSpec(row_id, window, partner, mix_seed, fill)

    def _perturbed(self, window: Window, number: int) -> Window:
        """Change the window's speed as its number of 63 random bits says."""
        if not self._augment.vary:
            return window
        speed = 1 + self._augment.vary * (2 * (number >> 32) / (1 << 31) - 1)
        return speed_perturbed(window, speed, number, self._max_samples)

    def _choose_partners(self, numbers: np.ndarray) -> np.ndarray:
        """Turn random numbers [training windows, copies] into partners, uniform among windows of other training clips.

        Not by `draw_partner`: for all rows at once, and of each row's own number, so that no other row changes it.
        """
        clips = self._windows.clip_of[self._training]
        begin, end = np.searchsorted(clips, clips, "left"), np.searchsorted(clips, clips, "right")
        others = len(clips) - (end - begin)
        if self._mix_copies and not others.any():
            raise InputError(
                "--mix needs at least two training clips: there is nothing to mix with; --mix 0 makes no mixes"
            )
        choice = (numbers % np.maximum(others, 1).astype(np.uint64)[:, None]).astype(np.int64)
        choice += np.where(choice >= begin[:, None], (end - begin)[:, None], 0)  # windows of a clip are neighbors
        return self._training[choice]


def _draw(seed: int, window_id: str, copy: str) -> tuple[int, int, int, int]:
    """Draw four numbers of 63 bits for a window's copy; no other row changes them."""
    digest = hashlib.sha256(f"{seed}/{window_id}/{copy}".encode()).digest()
    first, second, third, fourth = (int.from_bytes(digest[at : at + 8], "big") >> 1 for at in range(0, 32, 8))
    return first, second, third, fourth


def _file_number(path: Path) -> int:
    """Turn a file's size and time into 64 bits; 0 if it cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return 0
    key = f"{status.st_size} {status.st_mtime_ns}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
