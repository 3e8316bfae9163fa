"""`audiogen tokenize`: manifests and a codec → token shards (paper sec. 3.2: the LM sees codes only).

Clips become rows of at most 10 s; with `mix`, training clips also become mixed copies (sec. 4.1). Every row is a pure
function of (clips, codec, seed): a run that was stopped goes on where it was and ends with the same shards.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from audiogen_cli.data.audio import read_audio
from audiogen_cli.data.manifest import Clip
from audiogen_cli.data.mixing import MixDraw, draw_mix, mix, mix_texts
from audiogen_cli.data.shards import ShardMeta, ShardWriter, TokenRow
from audiogen_cli.errors import InputError

if TYPE_CHECKING:
    from accelerate import PartialState

    from audiogen_cli.codec.model import AudioCodec

WINDOW = 10.0  # seconds, paper.md: crops of up to 10 s
SHORTEST_REST = 1.0  # seconds: ours, a shorter rest of a long clip is no example of its caption
SHARD_ROWS = 512
BATCHES_AHEAD = 2
READERS = 4  # threads; decoding and resampling release the GIL

Progress = Callable[[int, int], None]  # (rows done, rows in all)
Sounds = tuple[np.ndarray, np.ndarray | None]  # of a row: its window, and the one mixed into it


@dataclass(frozen=True)
class Window:
    """A part of a clip that becomes a row: n_samples at the codec's rate from `start` seconds into the file."""

    clip: Clip
    id: str
    start: float
    n_samples: int


@dataclass(frozen=True)
class Plan:
    """One row to make: a window, or a mix of two. seed: of the mix's offset and SNR, 0 where there is none."""

    id: str
    window: Window
    partner: Window | None = None
    seed: int = 0

    @property
    def n_samples(self) -> int:
        """How long the row's audio is; a mix is as long as the longer of its two."""
        return max(self.window.n_samples, self.partner.n_samples if self.partner else 0)


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
) -> Tokenized:
    """Write the codes of `clips` to `out`; shards that are already there are kept.

    mix_copies: mixed copies per training row, each with a partner drawn from the other training rows.
    batch_size: rows encoded at once, all of one length: none is padded for another's sake.
    state: accelerate's, where several processes share the work; each makes its own shards, the main one writes
    meta.json when all are there.
    Rows whose audio cannot be read are left out, remembered in their shard and reported.
    Raises InputError if `out` holds shards of something else.
    """
    plans = plan_rows(clips, codec.sample_rate, mix_copies, seed)
    shards = [plans[begin : begin + SHARD_ROWS] for begin in range(0, len(plans), SHARD_ROWS)]
    writer = ShardWriter(out, describe(codec), [_key(shard, codec.fingerprint) for shard in shards])
    mine = range(len(shards))[state.process_index :: state.num_processes] if state else range(len(shards))
    to_do = [number for number in mine if not writer.is_finished(number)]
    total, done = sum(len(shards[number]) for number in to_do), 0
    for number in to_do:
        rows: list[TokenRow] = []
        failed: list[dict[str, str]] = []
        for encoded, unreadable in encode_rows(shards[number], codec, batch_size):
            rows += encoded
            failed += unreadable
            progress(done + len(rows) + len(failed), total)
        done += len(shards[number])
        order = {plan.id: position for position, plan in enumerate(shards[number])}
        writer.write(number, sorted(rows, key=lambda row: order[row.id]), failed)
    if state:
        state.wait_for_everyone()
    if state and not state.is_main_process:
        return Tokenized(writer.meta, len(to_do), len(mine) - len(to_do), [])
    return Tokenized(writer.finish(), len(to_do), len(mine) - len(to_do), writer.notes())


def describe(codec: AudioCodec) -> ShardMeta:
    """What shards of this codec say about it; the counts come when they are written."""
    return ShardMeta(codec.fingerprint, codec.n_q, codec.codebook_size, codec.frame_rate, codec.sample_rate, {})


def plan_rows(clips: Sequence[Clip], sample_rate: int, mix_copies: int, seed: int) -> list[Plan]:
    """All rows to make, in order: each clip's windows, each training window followed by its mixed copies."""
    windows = [window for clip in clips for window in split_clip(clip, sample_rate)]
    training = [window for window in windows if window.clip.split == "train"]
    if mix_copies and len({window.clip.id for window in training}) < 2:
        raise InputError("--mix needs at least two training clips: there is nothing to mix with")
    plans = []
    for window in windows:
        plans.append(Plan(window.id, window))
        copies = mix_copies if window.clip.split == "train" else 0
        plans += [_plan_mix(window, training, copy, seed) for copy in range(copies)]
    return plans


def split_clip(clip: Clip, sample_rate: int) -> list[Window]:
    """Cut a clip into rows: itself if it lasts up to 10 s, else consecutive windows of 10 s called `<id>#0`, `#1`, ...

    The rest after the last whole window becomes a row, too, unless it is shorter than 1 s.
    """
    n_samples, n_window = max(1, round(clip.duration * sample_rate)), round(WINDOW * sample_rate)
    if n_samples <= n_window:
        return [Window(clip, clip.id, clip.start, n_samples)]
    starts = range(0, n_samples, n_window)
    return [
        Window(clip, f"{clip.id}#{number}", clip.start + start / sample_rate, min(n_window, n_samples - start))
        for number, start in enumerate(starts)
        if n_samples - start >= SHORTEST_REST * sample_rate
    ]


def encode_rows(
    plans: Sequence[Plan], codec: AudioCodec, batch_size: int
) -> Iterator[tuple[list[TokenRow], list[dict[str, str]]]]:
    """Encode rows in batches of equal length, reading ahead. Each batch yields its rows and what could not be read.

    The order is that of the batches, not of `plans`.
    """
    device = next(codec.parameters()).device
    for batch, sounds in _read_ahead(_batches(plans, batch_size), codec.sample_rate):
        read = list(zip(batch, sounds, strict=True))
        failed = [{"id": plan.id, "reason": str(sound)} for plan, sound in read if isinstance(sound, InputError)]
        good = [(plan, sound) for plan, sound in read if not isinstance(sound, InputError)]
        rows = []
        if good:
            with torch.inference_mode():
                codes = codec.encode(assemble(good, device)).cpu().numpy()  # [B, K, T]
            rows = [_row(plan, code) for (plan, _), code in zip(good, codes, strict=True)]
        yield rows, failed


def read_sounds(plan: Plan, sample_rate: int) -> Sounds:
    """The audio [n_samples] float32 of a row's window and partner. Raises InputError if a file cannot be read."""
    partner = _read_window(plan.partner, sample_rate) if plan.partner else None
    return _read_window(plan.window, sample_rate), partner


def assemble(rows: Sequence[tuple[Plan, Sounds]], device: torch.device) -> Tensor:
    """The audio [B, 1, N] of rows of one length, mixes mixed on the device."""
    wav = _stack([sound for _, (sound, _) in rows], device)
    mixes = [(row, plan, partner) for row, (plan, (_, partner)) in enumerate(rows) if partner is not None]
    if not mixes:
        return wav
    numbers = torch.tensor([row for row, _, _ in mixes], device=device)
    draws = [_draw(plan, len(rows[row][1][0]), len(partner)) for row, plan, partner in mixes]
    mixed = mix(wav[numbers], _stack([partner for _, _, partner in mixes], device), draws).wav
    padded = F.pad(wav, (0, mixed.shape[-1] - wav.shape[-1]))
    return padded.index_copy(0, numbers, mixed)


def _draw(plan: Plan, n_a: int, n_b: int) -> MixDraw:
    return draw_mix(torch.Generator().manual_seed(plan.seed), n_a, n_b, plan.n_samples)


def _stack(sounds: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Sounds as [B, 1, N], each followed by zeros up to the longest."""
    longest = max(map(len, sounds))
    return torch.from_numpy(np.stack([np.pad(sound, (0, longest - len(sound))) for sound in sounds]))[:, None].to(
        device
    )


def _read_window(window: Window, sample_rate: int) -> np.ndarray:
    wav = read_audio(window.clip.audio_path, sample_rate, window.start, window.n_samples / sample_rate)
    return np.pad(wav, (0, window.n_samples - len(wav)))  # a window that ends with its file may round to one less


def _plan_mix(window: Window, training: Sequence[Window], copy: int, seed: int) -> Plan:
    """The copy-th mix of a window, drawn with a generator of its own: no other row's draws change it."""
    digest = hashlib.sha256(f"{seed}/{window.id}/{copy}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:16], "big"))
    partner = window
    while partner.clip.id == window.clip.id:
        partner = training[int(generator.integers(len(training)))]
    return Plan(f"{window.id}+mix{copy}", window, partner, int(generator.integers(2**63)))


def _batches(plans: Sequence[Plan], batch_size: int) -> Iterator[list[Plan]]:
    by_length: dict[int, list[Plan]] = {}
    for plan in plans:
        by_length.setdefault(plan.n_samples, []).append(plan)
    for group in by_length.values():
        yield from (group[begin : begin + batch_size] for begin in range(0, len(group), batch_size))


def _read_ahead(
    batches: Iterator[list[Plan]], sample_rate: int
) -> Iterator[tuple[list[Plan], list[Sounds | InputError]]]:
    """Read batches on threads while earlier ones are encoded; a file that cannot be read gives its error."""

    def read(plan: Plan) -> Sounds | InputError:
        try:
            return read_sounds(plan, sample_rate)
        except InputError as error:
            return error

    waiting: deque[tuple[list[Plan], list[Future[Sounds | InputError]]]] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        for batch in batches:
            waiting.append((batch, [pool.submit(read, plan) for plan in batch]))
            if len(waiting) > BATCHES_AHEAD:
                first, futures = waiting.popleft()
                yield first, [future.result() for future in futures]
        for first, futures in waiting:
            yield first, [future.result() for future in futures]


def _row(plan: Plan, codes: np.ndarray) -> TokenRow:
    clip = plan.window.clip
    if plan.partner is None:
        return TokenRow(plan.id, clip.dataset, clip.split, clip.texts, codes)
    texts = mix_texts(clip.texts, plan.partner.clip.texts)
    return TokenRow(plan.id, clip.dataset, clip.split, texts, codes, sources=(plan.window.id, plan.partner.id))


def _key(plans: Sequence[Plan], fingerprint: str) -> str:
    """Changes with anything that a shard's rows depend on."""
    parts = [
        (plan.id, plan.seed, *(_facts(window) for window in (plan.window, plan.partner) if window)) for plan in plans
    ]
    return hashlib.sha256(json.dumps([fingerprint, parts]).encode()).hexdigest()


def _facts(window: Window) -> tuple[object, ...]:
    clip = window.clip
    return window.id, window.start, window.n_samples, clip.path, clip.dataset, clip.split, clip.texts
