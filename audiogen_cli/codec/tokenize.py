"""`audiogen tokenize`: manifests and a codec → token shards (paper sec. 3.2: the LM sees codes only).

Rows (`codec/row_index.py`) are read on threads, mixed in batches, encoded each as if alone, and written shard by shard:
a run that was stopped continues where it was and ends with the same shards. A few batches and one shard are in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audiogen_cli.codec.batch_encoder import RowEncoder, shard_meta
from audiogen_cli.codec.row_index import RowIndex
from audiogen_cli.data.augment import NO_AUGMENTATION, AugmentConfig, RowAudio, RowSpec, read_row
from audiogen_cli.data.captions import published_texts
from audiogen_cli.data.manifest import Clip
from audiogen_cli.data.mixing import mix_rows, mix_texts
from audiogen_cli.data.shards import ShardMeta, ShardWriter, TokenRow
from audiogen_cli.errors import InputError

if TYPE_CHECKING:
    from accelerate import PartialState

    from audiogen_cli.codec.model import AudioCodec

SHARD_ROWS = 512
BATCHES_AHEAD = 2
READERS = 4  # threads; decoding and resampling release the GIL

Progress = Callable[[int, int], None]  # (rows done, rows in all)


@dataclass(frozen=True)
class Tokenized:
    """The result of `tokenize`. written, kept: numbers of shards made now and found. failed: id and reason of each
    row that is missing. outdated: shards found and made again, for their recordings have changed."""

    meta: ShardMeta
    written: int
    kept: int
    failed: list[dict[str, str]]
    outdated: int = 0


def tokenize(
    clips: Sequence[Clip],
    codec: AudioCodec,
    out: Path,
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
    copies: unmixed ones. batch_size: rows read and mixed at once; the codes do not depend on it. state: accelerate's,
    if several processes share the work; each makes its own shards, the main one writes meta.json when all are there.
    Rows whose audio cannot be read are left out, remembered in their shard and reported.
    Raises InputError if `out` holds shards of something else.
    """
    rows = RowIndex(clips, codec.sample_rate, augment, copies, mix_copies, seed)
    n_shards = -(-len(rows) // SHARD_ROWS)
    keys = [f"{rows.digest} {codec.fingerprint} {SHARD_ROWS} {number}" for number in range(n_shards)]
    numbers = [range(n * SHARD_ROWS, min((n + 1) * SHARD_ROWS, len(rows))) for n in range(n_shards)]
    writer = ShardWriter(out, shard_meta(codec), keys, [rows.files_digest(each) for each in numbers])
    mine = range(n_shards)[state.process_index :: state.num_processes] if state else range(n_shards)
    to_do = [number for number in mine if not writer.is_finished(number)]
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
    if state:
        state.wait_for_everyone()
    if state and not state.is_main_process:
        return Tokenized(writer.meta, len(to_do), len(mine) - len(to_do), [])
    return Tokenized(writer.finish(), len(to_do), len(mine) - len(to_do), writer.notes(), outdated)


def encode_rows(
    shards: Iterable[tuple[int, list[RowSpec]]], encoder: RowEncoder, sample_rate: int, batch_size: int
) -> Iterator[tuple[int, list[TokenRow], list[dict[str, str]]]]:
    """Encode the rows of shards in order, reading ahead.

    Each batch, of one shard, yields the shard's number, its encoded rows, and id and reason of those that failed.
    """
    size = max(batch_size, encoder.rows_at_once)
    batches = ((number, rows[begin : begin + size]) for number, rows in shards for begin in range(0, len(rows), size))
    for number, batch, audio in _read_ahead(batches, sample_rate):
        read = list(zip(batch, audio, strict=True))
        failed = [{"id": row.id, "reason": str(each)} for row, each in read if isinstance(each, InputError)]
        good = [(row, each) for row, each in read if not isinstance(each, InputError)]
        codes = encoder.encode(mix_rows(good, encoder.device))
        yield number, [_token_row(row, each) for (row, _), each in zip(good, codes, strict=True)], failed


def _read_ahead(
    batches: Iterator[tuple[int, list[RowSpec]]], sample_rate: int
) -> Iterator[tuple[int, list[RowSpec], list[RowAudio | InputError]]]:
    """Read batches on threads while earlier ones are encoded; a file that cannot be read gives its error."""

    def read(row: RowSpec) -> RowAudio | InputError:
        try:
            return read_row(row, sample_rate)
        except InputError as error:
            return error

    waiting: deque[tuple[int, list[RowSpec], list[Future[RowAudio | InputError]]]] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        for number, batch in batches:
            waiting.append((number, batch, [pool.submit(read, row) for row in batch]))
            if len(waiting) > BATCHES_AHEAD:
                yield _finished(waiting.popleft())
        while waiting:
            yield _finished(waiting.popleft())


def _finished(
    batch: tuple[int, list[RowSpec], list[Future[RowAudio | InputError]]],
) -> tuple[int, list[RowSpec], list[RowAudio | InputError]]:
    number, rows, futures = batch
    return number, rows, [future.result() for future in futures]


def _token_row(row: RowSpec, codes: np.ndarray) -> TokenRow:
    clip = row.window.clip
    if row.partner is None:
        return TokenRow(row.id, clip.dataset, clip.split, clip.texts, codes, captions=published_texts(clip))
    partner = row.partner.clip
    texts = mix_texts(clip.texts, partner.texts)
    captions = mix_texts(published_texts(clip), published_texts(partner))
    return TokenRow(row.id, clip.dataset, clip.split, texts, codes, (row.window.id, row.partner.id), captions)
