"""`audiogen prep`: from raw dataset folders to manifests (paper sec. 4.1).

Every published item ends in the manifest or, with a reason, in the list of dropped items beside it. Items pass through
in chunks and are never all in memory: AudioSet has two million.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audiogen_cli.data.datasets.dataset_folder import COPIES, DatasetNotFound, Source, SourceItem
from audiogen_cli.data.datasets.folder import Folder
from audiogen_cli.data.datasets.registry import SOURCES, find_source
from audiogen_cli.data.manifest import (
    SPLITS,
    Clip,
    Dropped,
    ManifestWriter,
    dropped_file,
    new_dropped,
    new_manifest,
    stream_manifest,
)
from audiogen_cli.data.mapped_parquet import CACHE, forget_mapped
from audiogen_cli.data.preparation.build_clip import ClipRules, build_clips
from audiogen_cli.data.preparation.caption_file import CaptionFile, read_caption_file
from audiogen_cli.data.preparation.file_index import FileIndex
from audiogen_cli.data.preparation.item_list import CHUNK, ItemList, chunks, list_items
from audiogen_cli.data.preparation.licenses import license_key, read_licenses
from audiogen_cli.data.preparation.worker_pool import Engine, Workers, start_workers
from audiogen_cli.errors import InputError

CHUNK_COPIES = 4  # items per task where each is decoded, resampled and written
MISSING_SHOWN = 3
MAX_NAME = 200  # bytes, of a dataset: file names begin with it

Progress = Callable[[int, int | None], None]  # (items done, items in all or None while they are being listed)


@dataclass
class PrepReport:
    """The result for one dataset. items: published; clips, hours: by split; dropped: by reason; probed: files opened.

    If no clip is usable, manifest is not written and `failure` says why. terms: of the license, one sentence.
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


def prepare(
    datasets: Sequence[str | Source],
    raw: str | Path,
    out: str | Path,
    folder: str | Path | None = None,
    name: str | None = None,
    captions: Path | None = None,
    keep_speech: bool = False,
    licenses: Collection[str] = (),
    val_share: float = 0.0,
    copies: bool = False,
    workers: int | None = None,
    engine: Engine = "processes",
    progress: Progress = lambda done, total: None,
    begin: Callable[[int], object] = lambda total: None,
) -> list[PrepReport]:
    """Write one manifest per dataset (each read from `<raw>/<key>`) and one for `folder`, called `name`.

    datasets: keys of `registry.SOURCES`, or readers of your own.
    captions: a captions file (`caption_file.py`) for whichever of them it names.
    keep_speech: keep training clips whose captions or tags mention speech, which the paper drops.
    licenses: keep clips under these only (`licenses.py`); none: all. val_share: share of the folder's files for `val`.
    copies: write each clip's file as mono FLAC at 16 kHz to `<out>/<key>.audio/` and point the manifest there.
    workers: processes on this machine (all cores), or tasks at a time on a Ray cluster.
    begin: called with the number of items once nothing more can be refused, before the work.
    `<out>/.cache` remembers facts about files: the next run opens only new and changed ones.
    Raises InputError before any work for an unknown key or license, absent datasets (all of them in one message), or
    a bad captions file.
    """
    raw, out, folder = Path(raw), Path(out), None if folder is None else Path(folder)
    named = [find_source(each) if isinstance(each, str) else each for each in datasets]
    sources = [(source, raw / source.key) for source in named]
    options: dict[str, Any] = {
        "keep_speech": keep_speech,
        "captions": str(captions.resolve()) if captions else None,
        "convert": "flac" if copies else None,
    }
    if licenses:
        options["licenses"] = sorted(read_licenses(licenses))
    if folder is not None:
        sources.append((Folder(_valid_name(name or folder.resolve().name)), folder))
    if not sources:
        raise InputError(f"nothing to prepare: give --datasets (of {', '.join(SOURCES)}) or --folder")
    if val_share and folder is None:
        raise InputError("--val goes with --folder: published datasets have splits of their own")
    caption_file = read_caption_file(captions) if captions else None
    progress(0, None)
    with ExitStack() as stack:
        lists = _list_all(sources, raw, caption_file, val_share, stack)
        if caption_file and not caption_file.used:
            keys = ", ".join(caption_file.unused[:MISSING_SHOWN])
            raise InputError(f"{captions}: names no clip of {', '.join(s.key for s, _ in sources)} ({keys}, ...)")
        own_manifest = out / f"{sources[-1][0].key}.parquet"
        given = {"captions": captions, "val": val_share}
        warnings = _check_replaced(own_manifest, folder.resolve(), given) if folder is not None else []
        forget_mapped(out)
        total = sum(each.items.count for each in lists)
        begin(total)
        pool = stack.enter_context(start_workers(engine, 1 if total <= CHUNK else workers))
        reports: list[PrepReport] = []
        done = 0
        for each in lists:
            key = each.source.key
            own = {"folder": str(each.root), "val": val_share} if not each.source.download else {}
            report = PrepReport(key, out / f"{key}.parquet", each.source.terms, warnings=[*each.warnings])
            reports.append(report)
            for count in _prepare(each, {**options, **own, "not_held_out": each.not_held_out}, pool, report):
                progress(done + count, total)
            done += report.items
            own_terms = each.source.license
            if licenses and any(report.clips.values()) and own_terms and not license_key(own_terms):
                report.warnings.append(f"{key}: --license chose by the recordings' licenses; {own_terms}")
    reports[-1].warnings += warnings
    if caption_file:
        for paths, what in (
            (caption_file.unused, "entries name no clip, or more than one"),
            (caption_file.unnamed, "clips have no entry, and for text what their names say"),
        ):
            names = ", ".join(paths[:MISSING_SHOWN]) + (", ..." if len(paths) > MISSING_SHOWN else "")
            reports[-1].warnings += [f"{captions}: {len(paths)} {what}: {names}"] if paths else []
    return reports


def _list_all(
    sources: Sequence[tuple[Source, Path]], raw: Path, captions: CaptionFile | None, val_share: float, stack: ExitStack
) -> list[ItemList]:
    """List the items of all datasets. Raises DatasetNotFound that names every dataset that is not there."""
    lists, missing = [], []
    for source, folder in sources:
        try:
            found = list_items(source, folder, raw, captions, 0.0 if source.download else val_share)
        except DatasetNotFound as error:
            missing.append(f"{source.key}: {error}")
            continue
        stack.enter_context(closing(found.items.file))
        lists.append(found)
    if missing:
        many = f"{len(missing)} of {len(sources)} datasets are not there\n" if len(missing) > 1 else ""
        raise DatasetNotFound(many + "\n".join(missing))
    return lists


def _check_replaced(manifest: Path, folder: Path, given: dict[str, Any]) -> list[str]:
    """Raise InputError if a manifest is that of another folder that still exists; warn if that one is gone.

    Also warn if it was made with a captions file or --val, and neither is given now.
    """
    try:
        metadata, *_ = stream_manifest(manifest)
    except InputError:  # none, or a damaged one
        return []
    options = metadata["options"]
    lost = " ".join(f"--{name} {options[name]}" for name in given if options.get(name) and not given[name])
    warnings = [f"{manifest}: was made with {lost} before, and is made without now"] if lost else []
    before = options.get("folder") or metadata["root"]
    if before == str(folder) or (options.get("convert") and "folder" not in options):
        return warnings
    if Path(before).is_dir():
        raise InputError(f"{manifest} is the manifest of {before}: choose another --name, or delete it")
    return [*warnings, f"{manifest}: replaces the manifest of {before}, which is gone"]


def _prepare(listed: ItemList, options: dict[str, Any], pool: Workers, report: PrepReport) -> Iterator[int]:
    """Write a dataset's manifest and its list of dropped items, filling in `report`; yield the items done so far."""
    key, path = listed.source.key, report.manifest
    copies = path.with_suffix(COPIES).resolve() if options["convert"] else None
    rules = ClipRules(
        dataset=key,
        root=listed.root,
        license=listed.source.license,
        licenses=frozenset(options.get("licenses", ())),
        keep_speech=options["keep_speech"],
        copies=copies,
    )
    metadata = {"dataset": key, "root": copies or listed.root, "options": options}
    with (
        closing(FileIndex(path.parent / CACHE, key, listed.root, copies is not None)) as facts,
        new_dropped(dropped_file(path)) as drop,
        new_manifest(path, metadata) as manifest,
    ):
        size = CHUNK_COPIES if copies else CHUNK
        tasks = ((chunk, rules, facts.get(_paths(chunk))) for chunk in chunks(listed.items, size))
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


def _valid_name(name: str) -> str:
    if name in SOURCES:
        raise InputError(f"--name {name}: that is the key of a known dataset; choose another")
    fine = name.isprintable() and len(name.encode()) <= MAX_NAME
    if not (name and fine) or any(character in name for character in '/\\,"') or name.startswith("."):
        raise InputError(
            f"--name '{name}': it names a file and ids, at most {MAX_NAME} bytes, no / \\ , or \" and no dot in front"
        )
    return name
