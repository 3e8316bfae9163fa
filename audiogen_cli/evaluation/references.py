"""Which clips are compared: a manifest's split or a folder, paired with generated files by name, never by position."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from audiogen_cli.data.audio import SAMPLE_RATE, SOUND_SUFFIXES, probe, read_audio
from audiogen_cli.data.manifest import SPLITS, Clip, load_manifests
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.config import Skipped
from audiogen_cli.evaluation.metrics.class_hits import AUDIOSET_NAMES

# ours: longer clips are scored on their beginning; 10 s is AudioCaps' length and the longest that PaSST takes.
MAX_DURATION = 10.0
# ours: a missing file costs its clip, but a folder that lacks more than this share belongs to another set.
MAX_MISSING = 0.1


@dataclass(frozen=True)
class Recording:
    """A window of an audio file. start, duration: seconds; None: to the end."""

    path: Path
    start: float = 0.0
    duration: float | None = None

    def read(self, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
        """Mono float32 [N], at most MAX_DURATION long. Raises InputError if it cannot be read."""
        duration = MAX_DURATION if self.duration is None else min(self.duration, MAX_DURATION)
        return read_audio(self.path, sample_rate, self.start, duration)

    @property
    def length(self) -> float:
        """Seconds that `read` will give, MAX_DURATION at most. Raises InputError if the file cannot be read."""
        left = probe(self.path).duration - self.start
        return min(left, MAX_DURATION if self.duration is None else min(self.duration, MAX_DURATION))

    def first(self, seconds: float) -> Recording:
        """Its beginning, of so many seconds at most."""
        return replace(self, duration=seconds if self.duration is None else min(seconds, self.duration))

    def after(self, seconds: float) -> Recording:
        """What is left from so many seconds on."""
        left = None if self.duration is None else self.duration - seconds
        return replace(self, start=self.start + seconds, duration=left)


@dataclass(frozen=True)
class Reference:
    """A real clip.

    name: what its generated file is called. text: the first of its texts, as the model reads it; caption: the first
    as published. category: ESC-50's.
    """

    id: str
    name: str
    recording: Recording
    text: str | None = None
    caption: str | None = None
    category: str | None = None


def load_references(split: str | None, manifests: Path, folder: Path | None) -> tuple[list[Reference], list[Skipped]]:
    """The clips of a split, of a folder, or of a split with its audio taken from a folder; and those left out.

    Raises InputError for an unknown split, an empty folder, or a folder that does not fit the split.
    """
    if split is None:
        assert folder is not None
        files = find_audio(folder)
        return [Reference(name, name, Recording(path)) for name, path in files.items()], []
    dataset, _, part = split.rpartition("-")
    if not dataset or part not in SPLITS:
        raise InputError(f"unknown split '{split}': give <dataset>-<split>, such as audiocaps-test")
    references = [_from_clip(clip) for clip in load_manifests(manifests, [dataset], [part])]
    names = {reference.name for reference in references}
    if len(names) < len(references):  # `a/b` and `a_b`: a file could not say which of them it is
        raise InputError(f"{manifests}: {len(references) - len(names)} clips of {split} share their file name")
    if folder is None:
        return references, []
    pairs, skipped = pair(references, folder)
    return [replace(reference, recording=Recording(path)) for reference, path in pairs], skipped


def limit_clips(references: Sequence[Reference], limit: int | None) -> list[Reference]:
    """At most `limit` clips: the same ones in every run, and spread evenly over the texts.

    Texts take turns, so 200 clips of ESC-50 are four of each class; within a text the order is that of the ids'
    hashes, which is as good as random and depends on no seed.
    """
    if limit is None or limit >= len(references):
        return list(references)
    by_text: dict[str | None, list[Reference]] = defaultdict(list)
    for reference in sorted(references, key=lambda reference: hashlib.sha256(reference.id.encode()).digest()):
        by_text[reference.text].append(reference)
    # Folders have no texts: each clip is then its own.
    groups = by_text.values() if list(by_text) != [None] else [[reference] for reference in by_text[None]]
    turns = chain.from_iterable(zip_longest(*groups))
    chosen = {reference.id for reference in [turn for turn in turns if turn is not None][:limit]}
    return [reference for reference in references if reference.id in chosen]


def pair(references: Sequence[Reference], folder: Path) -> tuple[list[tuple[Reference, Path]], list[Skipped]]:
    """Each reference with the file of its name in `folder`, and the references without one.

    Raises InputError if the folder is empty, nothing fits, or more than a tenth of the references has no file.
    """
    files = find_audio(folder)
    pairs = [(reference, files[reference.name]) for reference in references if reference.name in files]
    missing = [reference for reference in references if reference.name not in files]
    if not pairs:
        example, found = references[0].name, next(iter(files.values())).name
        raise InputError(f"{folder}: no file is named like a clip, such as '{example}.wav'; it holds '{found}'")
    if len(missing) > MAX_MISSING * len(references):
        names = ", ".join(reference.name for reference in missing[:3])
        raise InputError(f"{folder}: {len(missing)} of {len(references)} clips have no file there ({names}, …)")
    return pairs, [Skipped(reference.id, f"no file named '{reference.name}' in {folder}") for reference in missing]


def unmatched(references: Sequence[Reference], folder: Path) -> list[str]:
    """Names of audio files in `folder` that belong to no reference, sorted."""
    return sorted(find_audio(folder).keys() - {reference.name for reference in references})


def find_audio(folder: Path) -> dict[str, Path]:
    """The audio files of a folder (not of folders in it) by name without suffix, sorted.

    folder: also a pattern such as `audio/1-*`, for the files of a folder that fit it.
    Raises InputError if there is no such folder, it holds no audio, or two files differ only in their suffix.
    """
    pattern = "*"
    if not folder.is_dir() and any(letter in folder.name for letter in "*?["):
        folder, pattern = folder.parent, folder.name
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    files: dict[str, Path] = {}
    for path in sorted(folder.glob(pattern)):
        if path.suffix.lower() not in SOUND_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in files:
            raise InputError(f"{folder}: {files[path.stem].name} and {path.name} are both '{path.stem}'; remove one")
        files[path.stem] = path
    if not files:
        raise InputError(f"{folder / pattern}: no audio files here ({', '.join(sorted(SOUND_SUFFIXES))})")
    return files


def sample_rates(paths: Iterable[Path]) -> list[int]:
    """The sample rates that occur, in Hz; unreadable files are left to the reader to report."""
    rates = set()
    for path in paths:
        try:
            rates.add(probe(path).sample_rate)
        except InputError:
            continue
    return sorted(rates)


def hash_references(references: Iterable[Reference]) -> str:
    """SHA-256 over ids, windows and files of a reference set: equal hashes mean numbers over the same recordings."""
    from audiogen_cli.evaluation.audio_sources import hash_file

    digest = hashlib.sha256()
    for reference in sorted(references, key=lambda reference: reference.id):
        recording = reference.recording
        window = f"{reference.id}\0{recording.start}\0{recording.duration}\0{hash_file(recording.path)}\n"
        digest.update(window.encode())
    return digest.hexdigest()


def _from_clip(clip: Clip) -> Reference:
    words = [word.replace(" ", "_") for word in clip.tags]
    return Reference(
        id=clip.id,
        name=clip.id.split("/", 1)[1].replace("/", "_"),
        recording=Recording(clip.audio_path, clip.start, clip.duration),
        text=clip.texts[0],
        caption=clip.captions[0] if clip.captions else clip.texts[0],
        category=next((word for word in words if word in AUDIOSET_NAMES), None) if clip.dataset == "esc50" else None,
    )
