"""Speed of turning sounds into manifests and 16 kHz copies, beside plain soundfile and soxr on the same files.

Every speed is in hours of audio per minute, the best of several rounds, each of which measures everything once. The
files are in the system's cache, so the disk plays no part.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from audiogen_cli.bench.timing import time_in_turn
from audiogen_cli.data.audio import SAMPLE_RATE, probe, read_audio
from audiogen_cli.data.datasets.dataset_folder import SourceItem, scan_folder
from audiogen_cli.data.manifest import Clip
from audiogen_cli.data.preparation.build_clip import ClipRules, build_clips
from audiogen_cli.data.preparation.file_index import index_file
from audiogen_cli.data.preparation.prep import CHUNK_COPIES
from audiogen_cli.data.preparation.worker_pool import Workers, start_workers
from audiogen_cli.errors import AudiogenError, InputError

MADE_FILES, MADE_SECONDS, MADE_RATE = 64, 10.0, 44_100
PASSES = 4  # over the files in converting, so that a second of it hides what starting and ending cost


@dataclass(frozen=True)
class SoundSet:
    """The files to measure with. duration: seconds of all together."""

    root: Path
    items: list[SourceItem]
    duration: float

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return [self.root / item.path for item in self.items]


def make_sounds(folder: Path) -> SoundSet:
    """Write 64 stereo files of 10 s at 44.1 kHz, WAV and FLAC in turn: noise that swells and fades."""
    import soundfile

    n_samples = round(MADE_SECONDS * MADE_RATE)
    swell = np.sin(np.linspace(0, 20, n_samples))[:, None]
    for number in range(MADE_FILES):
        noise = np.random.default_rng(number).normal(0, 0.1, (n_samples, 2))
        soundfile.write(folder / f"noise {number}.{('wav', 'flac')[number % 2]}", swell * noise, MADE_RATE)
    return find_sounds(folder)


def find_sounds(folder: Path) -> SoundSet:
    """Find all readable sounds of a folder. Raises InputError if there is none."""
    tree = scan_folder(folder)
    durations = {}
    for path in tree.audio:
        try:
            durations[path] = probe(tree.root / path).duration
        except InputError:
            continue
    if not durations:
        raise InputError(f"{folder}: no readable sounds to measure with")
    return SoundSet(
        tree.root, [SourceItem(path, "train", path, tags=("sound",)) for path in durations], sum(durations.values())
    )


def measure_data(
    sounds: SoundSet, tokenize: Callable[[list[Clip], Path], Any] | None, workers: int = 2, repeats: int = 3
) -> dict[str, Any]:
    """Measure speeds in hours of audio per minute, and compare them.

    headers, decode, resample: soundfile.info, soundfile.read, and soxr alone on what was read; probe: what prep does
    instead of headers; prep: all that it does for a clip, text included; read: decoding, down-mixing and resampling
    as prep and tokenize do; convert: prep --convert flac on one process, convert_workers: on `workers`, both four times
    over; tokenize: a function that turns clips into shards in a folder.
    probe_peer_ratio: probe over headers; resample_cost: time of read beyond decode, over the resampler's alone;
    workers_ratio: convert_workers over convert.
    """
    with tempfile.TemporaryDirectory(prefix="audiogen-bench-") as scratch, start_workers(count=workers) as pool:
        steps = _steps(sounds, tokenize, pool)
        fresh = lambda: Path(tempfile.mkdtemp(dir=scratch))  # noqa: E731
        steps["convert_workers"](fresh())  # starting processes takes a second, of a run of hours
        runs = {name: lambda step=step: step(fresh()) for name, step in steps.items()}
        seconds = time_in_turn(runs, repeats).seconds
    passes = {"convert": PASSES, "convert_workers": PASSES}
    best = {name: min(times) / passes.get(name, 1) for name, times in seconds.items()}
    hours = sounds.duration / 3600
    return {
        "files": len(sounds.items),
        "hours": hours,
        **{name: hours / (time_taken / 60) for name, time_taken in best.items()},
        "probe_peer_ratio": best["headers"] / best["probe"],
        "resample_cost": (best["read"] - best["decode"]) / best["resample"],
        "workers_ratio": best["convert"] / best["convert_workers"],
        "workers": workers,
        "repeats": repeats,
    }


def _steps(
    sounds: SoundSet, tokenize: Callable[[list[Clip], Path], Any] | None, pool: Workers
) -> dict[str, Callable[[Path], Any]]:
    """Return the functions to time by name; each takes an empty folder to write to."""
    import soundfile
    import soxr

    decoded = [soundfile.read(path, dtype="float32", always_2d=True) for path in sounds.paths]
    mono = [(samples.mean(axis=1), rate) for samples, rate in decoded]
    del decoded
    steps: dict[str, Callable[[Path], Any]] = {
        "headers": lambda _: [soundfile.info(path) for path in sounds.paths],
        "probe": lambda _: [index_file(path, None, embedded=False, copy=None) for path in sounds.paths],
        "prep": lambda _: _clips(sounds, None),
        "decode": lambda _: [soundfile.read(path, dtype="float32") for path in sounds.paths],
        "resample": lambda _: [soxr.resample(wav, rate, SAMPLE_RATE, quality="HQ") for wav, rate in mono],
        "read": lambda _: [read_audio(path) for path in sounds.paths],
        "convert": lambda folder: [_clips(sounds, folder / str(number)) for number in range(PASSES)],
        "convert_workers": lambda folder: _convert_on(sounds, folder, pool),
    }
    if tokenize:
        clips = _clips(sounds, None)
        steps["tokenize"] = lambda folder: tokenize(clips, folder)
    return steps


def _clips(sounds: SoundSet, copies: Path | None) -> list[Clip]:
    return _checked(build_clips(sounds.items, ClipRules("bench", sounds.root, copies=copies), {})[0], sounds.root)


def _convert_on(sounds: SoundSet, folder: Path, pool: Workers) -> list[Clip]:
    tasks: Iterator[tuple[Any, ...]] = (
        (sounds.items[begin : begin + CHUNK_COPIES], ClipRules("bench", sounds.root, copies=folder / str(number)), {})
        for number in range(PASSES)
        for begin in range(0, len(sounds.items), CHUNK_COPIES)
    )
    return _checked([clip for clips, _ in pool.map(build_clips, tasks) for clip in clips], sounds.root)


def _checked(results: Sequence[Any], root: Path) -> list[Clip]:
    """Return the clips with their root. Raises AudiogenError if one could be read a moment ago and no longer is."""
    clips = [replace(clip, root=root) for clip in results if isinstance(clip, Clip)]
    if len(clips) < len(results):
        raise AudiogenError(f"{root}: some sounds can no longer be read")
    return clips
