"""`audiogen prep`: from raw dataset folders to manifests (paper sec. 4.1).

Every published item ends in the manifest or, with a reason, in the list of dropped items beside it. Items pass through
in chunks and are never all in memory: AudioSet has two million.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeVar

from audiogen_cli.data.datasets.dataset_folder import DatasetFolder, Source, SourceItem, scan_folder
from audiogen_cli.data.datasets.folder import Folder
from audiogen_cli.data.datasets.leakage import held_out_videos, hold_out
from audiogen_cli.data.datasets.registry import SOURCES, find_source
from audiogen_cli.data.manifest import SPLITS, Clip, Dropped, ManifestWriter, dropped_file, new_dropped, new_manifest
from audiogen_cli.data.preparation.build_clip import ClipRules, build_clips
from audiogen_cli.data.preparation.caption_file import CaptionFile, read_caption_file
from audiogen_cli.data.preparation.file_index import FileIndex
from audiogen_cli.data.preparation.worker_pool import Engine, Workers, start_workers
from audiogen_cli.errors import InputError

CHUNK = 64  # items per task: enough to hide what passing them to a process costs, few enough for a moving bar
CHUNK_COPIES = 4  # where each item is decoded, resampled and written
CACHE = ".cache"
MISSING_SHOWN = 3

Progress = Callable[[int, int | None], None]  # (items done, items in all or None while they are being listed)
T = TypeVar("T")


@dataclass
class PrepReport:
    """What became of one dataset. items: published; clips, hours: by split; dropped: by reason; probed: files opened.

    manifest is not written, and `failure` says why, if no clip is usable. terms: of the licence, one sentence.
    """

    dataset: str
    manifest: Path
    terms: str = ""
    items: int = 0
    clips: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    hours: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0.0))
    dropped: dict[str, int] = field(default_factory=dict)
    probed: int = 0
    warnings: list[str] = field(default_factory=list)
    failure: str = ""


@dataclass(frozen=True)
class _Job:
    """One dataset to prepare. root: of its items' paths; options: what its manifest depends on; items: on disk."""

    source: Source
    root: Path
    options: dict[str, Any]
    items: _Spool
    warnings: list[str]


def prepare(
    datasets: Sequence[str],
    raw: Path,
    out: Path,
    folder: Path | None = None,
    name: str | None = None,
    captions: Path | None = None,
    keep_speech: bool = False,
    copies: bool = False,
    workers: int | None = None,
    engine: Engine = "processes",
    progress: Progress = lambda done, total: None,
) -> list[PrepReport]:
    """Write one manifest per dataset (each read from `<raw>/<key>`) and one for `folder`, called `name`.

    captions: a captions file (`data/caption_file.py`) for whichever of them it names.
    keep_speech: keep training clips whose captions or tags mention speech, which the paper drops.
    copies: write each clip's file as mono FLAC at 16 kHz to `<out>/<key>.audio/` and point the manifest there.
    workers: processes on this machine (all cores), or tasks at a time on a Ray cluster.
    What was learnt of files is kept in `<out>/.cache`: the next run opens only new and changed ones.
    Raises InputError before any work for an unknown key, an absent folder or a bad captions file.
    """
    sources: list[tuple[Source, Path]] = [(find_source(key), raw / key) for key in datasets]
    if folder is not None:
        sources.append((Folder(_valid_name(name or folder.resolve().name)), folder))
    if not sources:
        raise InputError(f"nothing to prepare: give --datasets (of {', '.join(SOURCES)}) or --folder")
    caption_file = read_caption_file(captions) if captions else None
    options = {
        "keep_speech": keep_speech,
        "captions": str(captions.resolve()) if captions else None,
        "convert": "flac" if copies else None,
    }
    progress(0, None)
    with ExitStack() as stack:
        jobs = []
        for source, where in sources:
            job = _list_items(source, where, raw, caption_file, options)
            stack.enter_context(closing(job.items.file))
            jobs.append(job)
        if caption_file and not caption_file.used:
            keys = ", ".join(caption_file.unused[:MISSING_SHOWN])
            raise InputError(f"{captions}: names no clip of {', '.join(s.key for s, _ in sources)} ({keys}, ...)")
        total = sum(job.items.count for job in jobs)
        pool = stack.enter_context(start_workers(engine, 1 if total <= CHUNK else workers))
        reports: list[PrepReport] = []
        done = 0
        for job in jobs:
            report = _report(job, out)
            reports.append(report)
            for count in _prepare(job, out / CACHE, pool, report):
                progress(done + count, total)
            done += report.items
    if caption_file and caption_file.unused:
        reports[-1].warnings.append(_unused(caption_file))
    return reports


def _list_items(source: Source, folder: Path, raw: Path, captions: CaptionFile | None, options: dict[str, Any]) -> _Job:
    """List a dataset's items to disk. Raises InputError if its folder does not hold it."""
    if not folder.is_dir() and source.key in SOURCES:
        # an empty tree makes the source say what it looks for
        next(source.items(DatasetFolder(folder, [], [], [])))
    tree = scan_folder(folder)
    videos, leaks = held_out_videos(source.key, tree, raw)
    warnings = list(leaks.values())
    items: Iterable[SourceItem | Dropped] = hold_out(source.key, source.items(tree), videos)
    if captions:
        items = captions.attach(items, replacing=source.captions_guessed)
    spool = _Spool(_with_unnameable(source.key, items, tree))
    if spool.missing and tree.archives:
        warnings.append(f"{source.key}: {spool.missing} clips are missing; is {tree.archives[0]} unpacked?")
    return _Job(source, tree.root, {**options, "not_held_out": list(leaks)}, spool, warnings)


def _with_unnameable(
    dataset: str, items: Iterable[SourceItem | Dropped], tree: DatasetFolder
) -> Iterator[SourceItem | Dropped]:
    yield from items
    for path in tree.non_utf8:
        yield Dropped(f"{dataset}/{path}", "", path, "bad name", "its name is not UTF-8: rename it")


class _Spool:
    """Items on disk, in order. count: of all; missing: of those without a file."""

    def __init__(self, items: Iterable[SourceItem | Dropped]) -> None:
        self.file: IO[bytes] = tempfile.TemporaryFile(prefix="audiogen-")  # noqa: SIM115 - closed by its user
        self.count = self.missing = 0
        for chunk in _chunks(items, CHUNK):
            pickle.dump(chunk, self.file, pickle.HIGHEST_PROTOCOL)
            self.count += len(chunk)
            self.missing += sum(isinstance(item, SourceItem) and item.missing for item in chunk)

    def __iter__(self) -> Iterator[SourceItem | Dropped]:
        self.file.seek(0)
        read = 0
        while read < self.count:
            chunk = pickle.load(self.file)
            read += len(chunk)
            yield from chunk


def _report(job: _Job, out: Path) -> PrepReport:
    key = job.source.key
    return PrepReport(key, out / f"{key}.parquet", job.source.terms, warnings=list(job.warnings))


def _prepare(job: _Job, cache: Path, pool: Workers, report: PrepReport) -> Iterator[int]:
    """Write a dataset's manifest and its list of dropped items, filling in `report`; yields the items done so far."""
    key, path = job.source.key, report.manifest
    copies = path.with_suffix(".audio").resolve() if job.options["convert"] else None
    rules = ClipRules(key, job.root, job.source.license, job.options["keep_speech"], copies)
    leftovers = [*path.parent.glob(f".{key}.*.tmp"), *(copies.rglob(".*.tmp") if copies else ())]
    for unfinished in leftovers:  # of a run that was killed
        unfinished.unlink(missing_ok=True)
    metadata = {"dataset": key, "root": copies or job.root, "options": job.options}
    with (
        closing(FileIndex(cache, key, job.root, copies is not None)) as facts,
        new_dropped(dropped_file(path)) as drop,
        new_manifest(path, metadata) as manifest,
    ):
        chunks = _chunks(job.items, CHUNK_COPIES if copies else CHUNK)
        tasks = ((chunk, rules, facts.get(_paths(chunk))) for chunk in chunks)
        for results, learnt in pool.map(build_clips, tasks):
            facts.put(learnt)
            report.probed += len(learnt)
            for result in results:
                _enter(result, manifest, drop, report)
            yield report.items
        report.dropped = dict(sorted(report.dropped.items()))
        if not manifest.ids:
            why = ", ".join(f"{count} {reason}" for reason, count in report.dropped.items()) or "no items"
            report.failure = f"{key}: no clip is usable ({why}); see {dropped_file(path)}"


def _enter(
    result: Clip | Dropped, manifest: ManifestWriter, drop: Callable[[Dropped], None], report: PrepReport
) -> None:
    """Write a result down and count it."""
    if isinstance(result, Clip) and result.id in manifest.ids:
        result = Dropped(result.id, result.split, result.path, "duplicate", "another clip has this id")
    report.items += 1
    if isinstance(result, Clip):
        manifest.add(result)
        report.clips[result.split] += 1
        report.hours[result.split] += result.duration / 3600
    else:
        drop(result)
        report.dropped[result.reason] = report.dropped.get(result.reason, 0) + 1


def _paths(chunk: Sequence[SourceItem | Dropped]) -> list[str]:
    return [item.path for item in chunk if isinstance(item, SourceItem) and not item.missing]


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    waiting = iter(items)
    while chunk := list(islice(waiting, size)):
        yield chunk


def _valid_name(name: str) -> str:
    if name in SOURCES:
        raise InputError(f"--name {name}: that is the key of a known dataset; choose another")
    if not name or any(character in name for character in '/\\,"') or name.startswith("."):
        raise InputError(f"--name '{name}': it names a file and ids, so no / \\ , or \" and no dot in front")
    return name


def _unused(captions: CaptionFile) -> str:
    names = ", ".join(captions.unused[:MISSING_SHOWN]) + (", ..." if len(captions.unused) > MISSING_SHOWN else "")
    return f"{captions.path}: {len(captions.unused)} entries name no clip, or more than one: {names}"
