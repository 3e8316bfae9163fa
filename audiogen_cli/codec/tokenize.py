"""`audiogen tokenize`: manifests and a codec → token shards (paper sec. 3.2: the LM sees codes only).

Rows are read on threads, mixed in batches, encoded each as if alone, and written shard by shard:
a run that was stopped continues where it was and ends with the same shards. A few batches and one shard are in memory.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from joblib import cpu_count

from audiogen_cli.codec.batch_encoder import RowEncoder, shard_meta
from audiogen_cli.data.augment import NO_AUGMENTATION, AugmentConfig, RowAudio, RowSpec, read_row, speed_perturbed
from audiogen_cli.data.captions import only_tags, published_texts
from audiogen_cli.data.manifest import SPLITS, Clip
from audiogen_cli.data.mixing import mix_rows, mix_texts
from audiogen_cli.data.shards import UNSEEN, ShardMeta, ShardWriter, TokenRow, read_notes
from audiogen_cli.data.windows import SHORTEST_REST, WINDOW_SECONDS, Window, clip_key, cut_windows
from audiogen_cli.devices import count_local_processes, gather_values
from audiogen_cli.errors import InputError

if TYPE_CHECKING:
    from accelerate import PartialState

    from audiogen_cli.codec.model import AudioCodec

SHARD_ROWS = 512
BATCHES_AHEAD = 2
READERS = 4  # threads; decoding and resampling release the GIL. For a GPU as many as each process has cores

Progress = Callable[[int, int], None]  # (rows done, rows in all)


@dataclass(frozen=True)
class Tokenized:
    """The result of `tokenize`. kept: number of shards found. failed: id and reason of each row that is missing.
    outdated: shards found and made again, for their recordings have changed or can be read now."""

    meta: ShardMeta
    kept: int
    failed: list[dict[str, str]]
    outdated: int


def tokenize(
    clips: Sequence[Clip],
    codec: AudioCodec,
    out: str | Path,
    mix_copies: int = 0,
    batch_size: int = 16,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
    state: PartialState | None = None,
    augment: AugmentConfig = NO_AUGMENTATION,
    copies: int = 0,
) -> Tokenized:
    """Write the codes of `clips` to `out`, longest rows first; keep the shards that are there already, unless one of
    their recordings has another size or time than it had then.

    mix_copies: mixed copies per training window, each with a partner drawn from the other training clips' windows.
    copies: unmixed ones. batch_size: rows read and mixed at once, at least; the codes do not depend on it. state:
    accelerate's, if processes share the work; each makes its own shards, the main one writes meta.json at the end.
    Rows whose audio cannot be read are left out, remembered in their shard and reported.
    Raises InputError if `out` holds shards of something else.
    """
    rows = RowIndex(clips, codec.sample_rate, augment, copies, mix_copies, seed)
    n_shards = -(-len(rows) // SHARD_ROWS)
    keys = [f"{rows.digest} {codec.fingerprint} {SHARD_ROWS} {number}" for number in range(n_shards)]
    numbers = [range(n * SHARD_ROWS, min((n + 1) * SHARD_ROWS, len(rows))) for n in range(n_shards)]
    writer = ShardWriter(Path(out), shard_meta(codec), keys, [rows.files_digest(each) for each in numbers])
    mine = range(n_shards)[state.process_index :: state.num_processes] if state else range(n_shards)
    to_do = [n for n in mine if not writer.is_finished(n) or _can_be_mended(writer.path(n), rows, numbers[n])]
    outdated = sum(writer.path(number).exists() for number in to_do)
    with closing(RowEncoder(codec)) as encoder:
        shards = ((shard, [rows[number] for number in numbers[shard]]) for shard in to_do)
        encoded: list[TokenRow] = []
        failed: list[dict[str, str]] = []
        done, total = 0, sum(len(numbers[shard]) for shard in to_do)
        for shard, batch, unreadable in encode_rows(shards, encoder, codec.sample_rate, batch_size):
            encoded += batch
            failed += unreadable
            done += len(batch) + len(unreadable)
            progress(done, total)
            if len(encoded) + len(failed) == len(numbers[shard]):
                writer.write(shard, encoded, failed)
                encoded, failed = [], []
    counts = len(mine) - len(to_do), outdated
    kept, outdated = (sum(each) for each in zip(*(gather_values(counts) if state else [counts]), strict=True))
    if state and not state.is_main_process:
        return Tokenized(writer.meta, kept, [], outdated)
    return Tokenized(writer.finish(), kept, writer.notes(), outdated)


def _can_be_mended(shard: Path, rows: RowIndex, numbers: range) -> bool:
    """Return whether a row that a shard leaves out can be read now: a disk, or ffmpeg's absence, was to blame."""
    left_out = {note["id"] for note in read_notes(shard)}
    again = (row for n in numbers if left_out and (row := rows[n]).id in left_out)
    return any(isinstance(_try_read(row, rows.sample_rate), tuple) for row in again)


def encode_rows(
    shards: Iterable[tuple[int, list[RowSpec]]], encoder: RowEncoder, sample_rate: int, batch_size: int
) -> Iterator[tuple[int, list[TokenRow], list[dict[str, str]]]]:
    """Encode the rows of shards in order, reading ahead.

    Each batch, of one shard, yields the shard's number, its encoded rows, and id and reason of those that failed.
    """
    size = max(batch_size, encoder.rows_at_once)
    batches = ((number, rows[begin : begin + size]) for number, rows in shards for begin in range(0, len(rows), size))
    readers = READERS if encoder.device.type == "cpu" else max(READERS, cpu_count() // count_local_processes())
    for number, batch, futures in _read_ahead(batches, sample_rate, readers):
        read = [(row, future.result()) for row, future in zip(batch, futures, strict=True)]
        failed = [{"id": row.id, "reason": str(each)} for row, each in read if isinstance(each, InputError)]
        good = [(row, each) for row, each in read if not isinstance(each, InputError)]
        codes = encoder.encode(*mix_rows(good, encoder.device))
        yield number, [_token_row(row, each) for (row, _), each in zip(good, codes, strict=True)], failed


def _read_ahead(
    batches: Iterator[tuple[int, list[RowSpec]]], sample_rate: int, readers: int
) -> Iterator[tuple[int, list[RowSpec], list[Future[RowAudio | InputError]]]]:
    """Read batches on threads while earlier ones are encoded."""
    waiting: deque[tuple[int, list[RowSpec], list[Future[RowAudio | InputError]]]] = deque()
    pool = ThreadPoolExecutor(readers)
    try:
        for number, batch in batches:
            waiting.append((number, batch, [pool.submit(_try_read, row, sample_rate) for row in batch]))
            if len(waiting) > BATCHES_AHEAD:
                yield waiting.popleft()
        yield from waiting
    finally:
        pool.shutdown(cancel_futures=True)


def _try_read(row: RowSpec, sample_rate: int) -> RowAudio | InputError:
    """Read a row; a file that cannot be read gives its error."""
    try:
        return read_row(row, sample_rate)
    except InputError as error:
        return error


def _token_row(row: RowSpec, codes: np.ndarray) -> TokenRow:
    clip = row.window.clip
    if row.partner is None:
        captions, tags = published_texts(clip), only_tags(clip)
        return TokenRow(row.id, clip.dataset, clip.split, clip.texts, codes, captions=captions, tags=tags)
    partner = row.partner.clip
    tags = only_tags(clip) + only_tags(partner) if only_tags(clip) and only_tags(partner) else ()
    texts = mix_texts(clip.texts, partner.texts)
    captions = mix_texts(published_texts(clip), published_texts(partner))
    return TokenRow(row.id, clip.dataset, clip.split, texts, codes, (row.window.id, row.partner.id), captions, tags)


class RowIndex(Sequence[RowSpec]):
    """All rows to make: windows, copies of them at other speeds, mixed copies (sec. 4.1).

    The longest come first, so that rows encoded together are of about one length. Every row is a pure function of
    (clips, settings, seed). Of millions only numbers are kept: 13 bytes a window, 8 a clip and 8 a mixed copy.

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
        self.sample_rate = sample_rate
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
        """Return a digest of the size and time of the files behind some rows: another if one of them has changed.

        It ends with UNSEEN if one of them cannot be looked at.
        """
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
        numbers_of_files = self._files[clips]
        digest = hashlib.sha256(numbers_of_files.tobytes()).hexdigest()
        return digest if numbers_of_files.all() else digest + UNSEEN

    def _row(self, row_id: str, window: Window, partner: Window | None = None, mix_seed: int = 0) -> RowSpec:
        fill = _draw(self._seed, row_id, "fill")[0] < self._augment.fill * 2.0**63
        return RowSpec(row_id, window, partner, mix_seed, fill)

    def _perturbed(self, window: Window, number: int) -> Window:
        """Change the window's speed by its random number of 63 bits."""
        if not self._augment.vary:
            return window
        speed = 1 + self._augment.vary * (2 * (number >> 32) / (1 << 31) - 1)
        return speed_perturbed(window, speed, number, self._max_samples)

    def _choose_partners(self, numbers: np.ndarray) -> np.ndarray:
        """Turn random numbers [training windows, copies] into partners, uniform among windows of other training clips.

        `draw_partner` is not used: this serves all rows at once, and each row's choice depends on its own number only.
        """
        clips = self._windows.clip_of[self._training]
        begin, end = np.searchsorted(clips, clips, "left"), np.searchsorted(clips, clips, "right")
        others = len(clips) - (end - begin)
        if self._mix_copies and len(clips) and not others.any():
            raise InputError(
                "--mix needs at least two training clips: there is nothing to mix with; --mix 0 makes no mixes"
            )
        choice = (numbers % np.maximum(others, 1).astype(np.uint64)[:, None]).astype(np.int64)
        choice += np.where(choice >= begin[:, None], (end - begin)[:, None], 0)  # windows of a clip are neighbors
        return self._training[choice]


def _draw(seed: int, window_id: str, copy: str) -> tuple[int, int, int, int]:
    """Draw four numbers of 63 bits for a window's copy, whatever the other rows are."""
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
