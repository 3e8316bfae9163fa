"""`audiogen tokenize`: manifests and a codec → token shards (paper sec. 3.2: the LM sees codes only).

Rows (`codec/plan.py`) are read on threads, mixed in batches, encoded each as if alone, and written shard by shard: a
run that was stopped goes on where it was and ends with the same shards. A few batches and one shard wait in memory.
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
import torch
from torch import Tensor

from audiogen_cli.codec.batch_encoder import RowEncoder
from audiogen_cli.codec.plan import Plan, Plans, Window
from audiogen_cli.data import loop_fill as filling
from audiogen_cli.data.audio import read_audio
from audiogen_cli.data.manifest import Clip
from audiogen_cli.data.mixing import draw_mix, mix, mix_texts
from audiogen_cli.data.shards import ShardMeta, ShardWriter, TokenRow
from audiogen_cli.errors import InputError

if TYPE_CHECKING:
    from accelerate import PartialState

    from audiogen_cli.codec.model import AudioCodec

SHARD_ROWS = 512
BATCHES_AHEAD = 2
READERS = 4  # threads; decoding and resampling release the GIL

Progress = Callable[[int, int], None]  # (rows done, rows in all)
Sounds = tuple[Tensor, Tensor | None]  # of a row: its window's audio [N], and that of the one mixed into it


@dataclass(frozen=True)
class Tokenized:
    """What `tokenize` did. written, kept: shards made now and found made. failed: id and reason of each missing row."""

    meta: ShardMeta
    written: int
    kept: int
    failed: list[dict[str, str]]


def tokenize(
    clips: Sequence[Clip],
    codec: AudioCodec,
    out: Path,
    mix_copies: int = 0,
    batch_size: int = 16,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
    state: PartialState | None = None,
    fill: float = 0.0,
    copies: int = 0,
    vary: float = 0.0,
) -> Tokenized:
    """Write the codes of `clips` to `out`, longest rows first; shards that are already there are kept.

    mix_copies: mixed copies per training row, each with a partner drawn from the other training clips' rows.
    batch_size: rows read and mixed at once; the codes do not depend on it.
    state: accelerate's, where several processes share the work; each makes its own shards, the main one writes
    meta.json when all are there.
    copies, vary: unmixed copies per training row, and the most by which they and mixed sounds are slower or faster.
    fill: share of the rows whose sounds fill them before they are mixed, see `data/filling.py`.
    Rows whose audio cannot be read are left out, remembered in their shard and reported.
    Raises InputError if `out` holds shards of something else.
    """
    plans = Plans(clips, codec.sample_rate, mix_copies, seed, fill, copies, vary)
    n_shards = -(-len(plans) // SHARD_ROWS)
    keys = [f"{plans.digest} {codec.fingerprint} {SHARD_ROWS} {number}" for number in range(n_shards)]
    writer = ShardWriter(out, describe(codec), keys)
    mine = range(n_shards)[state.process_index :: state.num_processes] if state else range(n_shards)
    to_do = [number for number in mine if not writer.is_finished(number)]
    sizes = {number: min(SHARD_ROWS, len(plans) - number * SHARD_ROWS) for number in to_do}
    with closing(RowEncoder(codec)) as encoder:
        shards = ((number, [plans[number * SHARD_ROWS + row] for row in range(sizes[number])]) for number in to_do)
        rows: list[TokenRow] = []
        failed: list[dict[str, str]] = []
        done, total = 0, sum(sizes.values())
        for number, encoded, unreadable in encode_rows(shards, encoder, codec.sample_rate, batch_size):
            rows += encoded
            failed += unreadable
            done += len(encoded) + len(unreadable)
            progress(done, total)
            if len(rows) + len(failed) == sizes[number]:
                writer.write(number, rows, failed)
                rows, failed = [], []
    if state:
        state.wait_for_everyone()
    if state and not state.is_main_process:
        return Tokenized(writer.meta, len(to_do), len(mine) - len(to_do), [])
    return Tokenized(writer.finish(), len(to_do), len(mine) - len(to_do), writer.notes())


def describe(codec: AudioCodec) -> ShardMeta:
    """What shards of this codec say about it; the counts come when they are written."""
    return ShardMeta(codec.fingerprint, codec.n_q, codec.codebook_size, codec.frame_rate, codec.sample_rate, {})


def encode_rows(
    shards: Iterable[tuple[int, list[Plan]]], encoder: RowEncoder, sample_rate: int, batch_size: int
) -> Iterator[tuple[int, list[TokenRow], list[dict[str, str]]]]:
    """Encode the rows of shards in order, reading ahead.

    Each batch, of one shard, yields the shard's number, its rows and what could not be read.
    """
    size = max(batch_size, encoder.rows_at_once)
    batches = (
        (number, plans[begin : begin + size]) for number, plans in shards for begin in range(0, len(plans), size)
    )
    for number, batch, sounds in _read_ahead(batches, sample_rate):
        read = list(zip(batch, sounds, strict=True))
        failed = [{"id": plan.id, "reason": str(sound)} for plan, sound in read if isinstance(sound, InputError)]
        good = [(plan, sound) for plan, sound in read if not isinstance(sound, InputError)]
        codes = encoder.encode(assemble(good, encoder.device))
        yield number, [_row(plan, code) for (plan, _), code in zip(good, codes, strict=True)], failed


def read_sounds(plan: Plan, sample_rate: int) -> Sounds:
    """The audio [N] float32 of a row's window and of its partner. Raises InputError if a file cannot be read."""
    partner = read_window(plan.partner, sample_rate, plan.fill) if plan.partner else None
    return read_window(plan.window, sample_rate, plan.fill), partner


def assemble(rows: Sequence[tuple[Plan, Sounds]], device: torch.device) -> list[Tensor]:
    """The audio [N] of rows on the device: windows as they are, mixes mixed together."""
    wavs = [sound.to(device) for _, (sound, _) in rows]
    mixes = [(row, plan, partner) for row, (plan, (_, partner)) in enumerate(rows) if partner is not None]
    if mixes:
        draws = [
            draw_mix(torch.Generator().manual_seed(plan.seed), len(wavs[row]), len(partner), plan.n_samples)
            for row, plan, partner in mixes
        ]
        a, b = _stack([wavs[row] for row, _, _ in mixes]), _stack([partner for _, _, partner in mixes]).to(device)
        for (row, _, _), draw, wav in zip(mixes, draws, mix(a, b, draws).wav, strict=True):
            wavs[row] = wav[0, : draw.n_samples]
    return wavs


def _stack(sounds: list[Tensor]) -> Tensor:
    """[B, 1, N], each sound followed by zeros up to the longest."""
    return torch.nn.utils.rnn.pad_sequence(sounds, batch_first=True)[:, None]


def read_window(window: Window, sample_rate: int, filled: bool) -> Tensor:
    """A window's audio [N] float32, filled if it is to be. Raises InputError if the file cannot be read."""
    rate = round(sample_rate / window.speed)  # what is read at another rate than it is taken for plays faster or slower
    wav = read_audio(window.clip.audio_path, rate, window.start, window.n_samples / rate)
    # a window that ends with its file may round to one less
    wav = np.pad(wav, (0, max(0, window.n_samples - len(wav))))
    if filled:
        wav = filling.fill(wav, sample_rate, np.random.default_rng(window.layout))
    return torch.from_numpy(wav)


def _read_ahead(
    batches: Iterator[tuple[int, list[Plan]]], sample_rate: int
) -> Iterator[tuple[int, list[Plan], list[Sounds | InputError]]]:
    """Read batches on threads while earlier ones are encoded; a file that cannot be read gives its error."""

    def read(plan: Plan) -> Sounds | InputError:
        try:
            return read_sounds(plan, sample_rate)
        except InputError as error:
            return error

    waiting: deque[tuple[int, list[Plan], list[Future[Sounds | InputError]]]] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        for number, batch in batches:
            waiting.append((number, batch, [pool.submit(read, plan) for plan in batch]))
            if len(waiting) > BATCHES_AHEAD:
                yield _finished(waiting.popleft())
        while waiting:
            yield _finished(waiting.popleft())


def _finished(
    batch: tuple[int, list[Plan], list[Future[Sounds | InputError]]],
) -> tuple[int, list[Plan], list[Sounds | InputError]]:
    number, plans, futures = batch
    return number, plans, [future.result() for future in futures]


def _row(plan: Plan, codes: np.ndarray) -> TokenRow:
    clip = plan.window.clip
    if plan.partner is None:
        return TokenRow(plan.id, clip.dataset, clip.split, clip.texts, codes)
    texts = mix_texts(clip.texts, plan.partner.clip.texts)
    return TokenRow(plan.id, clip.dataset, clip.split, texts, codes, sources=(plan.window.id, plan.partner.id))
