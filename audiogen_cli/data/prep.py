"""`audiogen prep`: from raw dataset folders to manifests (paper sec. 4.1).

Every published item ends in the manifest or, with a reason, in the list of dropped items beside it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audiogen_cli.data.audio import probe
from audiogen_cli.data.caption_file import CaptionFile, read_caption_file
from audiogen_cli.data.captions import mentions_speech, process_caption, process_tags
from audiogen_cli.data.datasets.base import Item, Source
from audiogen_cli.data.datasets.folder import Folder
from audiogen_cli.data.datasets.registry import SOURCES, find_source
from audiogen_cli.data.manifest import SPLITS, Clip, Dropped, dropped_file, write_dropped, write_manifest
from audiogen_cli.errors import AudiogenError, InputError

CHUNK = 64  # items per task: enough to hide what passing them to a process costs, few enough for a moving bar
MISSING_SHOWN = 3

Progress = Callable[[int, int], None]  # (items done, items in all)


@dataclass(frozen=True)
class Report:
    """What became of one dataset. items: published; clips, hours: by split; dropped: by reason."""

    dataset: str
    manifest: Path
    items: int
    clips: dict[str, int]
    hours: dict[str, float]
    dropped: dict[str, int]
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Job:
    """One dataset to prepare; options: what its manifest depends on."""

    source: Source
    root: Path
    options: dict[str, Any]


def prepare(
    datasets: Sequence[str],
    raw: Path,
    out: Path,
    folder: Path | None = None,
    name: str | None = None,
    captions: Path | None = None,
    keep_speech: bool = False,
    workers: int | None = None,
    progress: Progress = lambda done, total: None,
) -> list[Report]:
    """Write one manifest per dataset (each read from `<raw>/<key>`) and one for `folder`, called `name`.

    captions: a captions file (`data/caption_file.py`) for whichever of them it names. workers: processes (all cores).
    keep_speech: keep training clips whose captions or tags mention speech, which the paper drops.
    Raises InputError before any work for an unknown key, an absent folder or a bad captions file, and AudiogenError
    if a dataset yields no clip at all (its list of dropped items says why).
    """
    options = {"keep_speech": keep_speech, "captions": str(captions.resolve()) if captions else None}
    jobs = [_Job(source := find_source(key), source.find_root(raw / key).resolve(), options) for key in datasets]
    if folder is not None:
        source = Folder(_valid_name(name or folder.resolve().name))
        jobs.append(_Job(source, source.find_root(folder).resolve(), options))
    if not jobs:
        raise InputError(f"nothing to prepare: give --datasets (of {', '.join(SOURCES)}) or --folder")
    caption_file = read_caption_file(captions) if captions else None
    listed = [(job, _items(job, caption_file)) for job in jobs]
    if caption_file and not caption_file.used:
        keys = ", ".join(caption_file.unused[:MISSING_SHOWN])
        raise InputError(f"{captions}: names no clip of {', '.join(job.source.key for job in jobs)} ({keys}, ...)")

    total = sum(len(items) for _, items in listed)
    done = 0
    reports = []
    for job, items in listed:
        results: list[Clip | Dropped] = []
        for examined in _examine_all(items, job, workers or os.cpu_count() or 1):
            results += examined
            progress(done + len(results), total)
        done += len(items)
        reports.append(_write(job, results, out))
    if caption_file and caption_file.unused:
        reports[-1].warnings.append(_unused(caption_file))
    return reports


def _items(job: _Job, captions: CaptionFile | None) -> list[Item | Dropped]:
    items = list(job.source.items(job.root))
    if captions:
        # A folder's own captions are only guessed from file names, so given ones take their place.
        items = captions.attach(items, replacing=isinstance(job.source, Folder))
    return items


def _examine_all(items: Sequence[Item | Dropped], job: _Job, workers: int) -> Iterator[list[Clip | Dropped]]:
    """Examine all items on a process pool; chunks come back in order."""
    from joblib import Parallel, delayed

    chunks = [items[begin : begin + CHUNK] for begin in range(0, len(items), CHUNK)]
    pool = Parallel(n_jobs=min(workers, len(chunks)) or 1, return_as="generator")
    keep_speech = job.options["keep_speech"]
    yield from pool(delayed(examine)(chunk, job.source.key, job.root, keep_speech) for chunk in chunks)


def examine(
    items: Iterable[Item | Dropped], dataset: str, root: Path, keep_speech: bool = False
) -> list[Clip | Dropped]:
    """Turn published items into clips, or say why not; one result per item, in order."""
    return [
        _examine(item, dataset, root, keep_speech) if isinstance(item, Item) else item  # dropped by the source
        for item in items
    ]


def _examine(item: Item, dataset: str, root: Path, keep_speech: bool) -> Clip | Dropped:
    """
    # ours, where the paper says `sample`: the clip is dropped as a whole if any of its captions or tags mentions speech
    (the rule is about what one hears), and only in training: test sets are scored whole.
    """

    def dropped(reason: str, detail: str) -> Dropped:
        return Dropped(f"{dataset}/{item.name}", item.split, item.path, reason, detail)

    if item.missing:
        return dropped("missing", "the metadata names it, the folder does not hold it")
    spoken = next((text for text in (*item.captions, *item.tags) if mentions_speech(text)), None)
    if spoken is not None and item.split == "train" and not keep_speech:
        return dropped("speech", spoken)
    texts = _texts(item)
    if not texts:
        return dropped("no text", "neither a tag nor a caption with a word in it")
    try:
        info = probe(root / item.path)
    except InputError as error:
        return dropped("unreadable", str(error))
    duration = info.duration - item.start
    if duration <= 0:
        return dropped("too short", f"lasts {info.duration:g} s, but should begin at {item.start:g} s")
    return Clip(
        id=f"{dataset}/{item.name}",
        dataset=dataset,
        split=item.split,
        path=item.path,
        start=item.start,
        duration=duration if item.duration is None else min(duration, item.duration),
        sample_rate=info.sample_rate,
        channels=info.channels,
        captions=item.captions,
        tags=item.tags,
        texts=texts,
        license=item.license,
    )


def _texts(item: Item) -> tuple[str, ...]:
    """What the model reads: the joined tags, then each processed caption; no text twice, none without a word."""
    texts = [process_tags(item.tags), *(process_caption(caption) for caption in item.captions)]
    return tuple(dict.fromkeys(text for text in texts if any(map(str.isalnum, text))))


def _write(job: _Job, results: Sequence[Clip | Dropped], out: Path) -> Report:
    """Write a dataset's manifest and its list of dropped items."""
    clips, dropped = _without_double_ids(results)
    path = out / f"{job.source.key}.parquet"
    reasons = Counter(item.reason for item in dropped)
    report = Report(
        dataset=job.source.key,
        manifest=path,
        items=len(results),
        clips={split: sum(clip.split == split for clip in clips) for split in SPLITS},
        hours={split: sum(clip.duration for clip in clips if clip.split == split) / 3600 for split in SPLITS},
        dropped=dict(sorted(reasons.items())),
    )
    write_dropped(dropped_file(path), dropped)
    if not clips:
        why = ", ".join(f"{count} {reason}" for reason, count in report.dropped.items()) or "no items"
        raise AudiogenError(f"{job.source.key}: no clip is usable ({why}); see {dropped_file(path)}")
    metadata = {"dataset": job.source.key, "root": job.root, "options": job.options}
    write_manifest(path, clips, metadata)
    return report


def _without_double_ids(results: Sequence[Clip | Dropped]) -> tuple[list[Clip], list[Dropped]]:
    clips: dict[str, Clip] = {}
    dropped = []
    for result in results:
        if isinstance(result, Dropped):
            dropped.append(result)
        elif result.id in clips:
            detail = f"the id is already taken by {clips[result.id].path}"
            dropped.append(Dropped(result.id, result.split, result.path, "duplicate", detail))
        else:
            clips[result.id] = result
    return list(clips.values()), dropped


def _valid_name(name: str) -> str:
    if name in SOURCES:
        raise InputError(f"--name {name}: that is the key of a known dataset; choose another")
    if not name or any(character in name for character in '/\\,"') or name.startswith("."):
        raise InputError(f"--name '{name}': it names a file and ids, so no / \\ , or \" and no dot in front")
    return name


def _unused(captions: CaptionFile) -> str:
    names = ", ".join(captions.unused[:MISSING_SHOWN]) + (", ..." if len(captions.unused) > MISSING_SHOWN else "")
    return f"{captions.path}: {len(captions.unused)} entries name no clip, or more than one: {names}"
