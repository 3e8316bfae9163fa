"""Turn a published item into a clip, or into the reason to drop it; runs in the worker processes of prep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from audiogen_cli.data.audio import SAMPLE_RATE, warn_about
from audiogen_cli.data.captions import mentions_speech, process_caption, process_tags
from audiogen_cli.data.datasets.dataset_folder import SourceItem
from audiogen_cli.data.manifest import Clip, Dropped
from audiogen_cli.data.preparation.file_index import IndexedFile, index_file
from audiogen_cli.data.preparation.licenses import license_key
from audiogen_cli.data.windows import WINDOW_SECONDS
from audiogen_cli.errors import InputError
from audiogen_cli.files import check_name


@dataclass(frozen=True)
class ClipRules:
    """Rules by which the items of a dataset become clips.

    root: of the items' paths. license: of items without their own. licenses: keep items under these only; none: all.
    copies: where FLAC copies with 16 kHz go, each under its file's path and `.flac`; None: clips are the files.
    """

    dataset: str
    root: Path
    license: str = ""
    licenses: frozenset[str] = frozenset()
    keep_speech: bool = False
    copies: Path | None = None


def build_clips(
    items: Iterable[SourceItem | Dropped], rules: ClipRules, known: Mapping[str, IndexedFile]
) -> tuple[list[Clip | Dropped], dict[str, IndexedFile]]:
    """Turn items into clips, or say why not: one result per item, in order, and the new facts of their files.

    known: path → facts of earlier runs.
    """
    learned: dict[str, IndexedFile] = {}
    results = [
        _build_clip(item, rules, known, learned) if isinstance(item, SourceItem) else item  # dropped by the source
        for item in items
    ]
    return results, learned


def _build_clip(
    item: SourceItem, rules: ClipRules, known: Mapping[str, IndexedFile], learned: dict[str, IndexedFile]
) -> Clip | Dropped:
    def dropped(reason: str, detail: str) -> Dropped:
        return Dropped(f"{rules.dataset}/{item.name}", item.split, item.path, reason, detail)

    if item.missing:
        return dropped("missing", "the metadata names it, the folder does not hold it")
    if rules.licenses and license_key(item.license or rules.license) not in rules.licenses:
        return dropped("license", item.license or rules.license or "nobody has said under which")
    if not item.embedded and (refusal := _refuse_text(item, rules)):
        return dropped(*refusal)  # before the file is opened
    copy = rules.copies / f"{item.path}.flac" if rules.copies else None
    facts = known.get(item.path)
    try:
        if copy:
            check_name(copy)
        found = index_file(rules.root / item.path, facts, item.embedded, copy)
    except InputError as error:
        return dropped("unreadable", str(error))
    if found is not facts:
        learned[item.path] = found
    if item.embedded:
        captions = (found.description,) if found.description else item.captions
        item = replace(item, captions=captions, tags=(*item.tags, *found.keywords))
        if refusal := _refuse_text(item, rules):
            return dropped(*refusal)
    duration = found.duration - item.start
    if duration <= 0:
        return dropped("too short", f"lasts {found.duration:g} s, but should begin at {item.start:g} s")
    if round(duration * SAMPLE_RATE) < 1:
        return dropped("too short", f"lasts {duration:g} s: not one sample at {SAMPLE_RATE:,} Hz")
    clip = Clip(
        id=f"{rules.dataset}/{item.name}",
        dataset=rules.dataset,
        split=item.split,
        path=f"{item.path}.flac" if copy else item.path,
        start=item.start,
        duration=duration if item.duration is None else min(duration, item.duration),
        sample_rate=found.sample_rate,
        channels=found.channels,
        captions=item.captions,
        tags=item.tags,
        texts=_texts(item),
        license=item.license or rules.license,
    )
    if clip.is_plausible:
        there = found.duration - found.missing / found.sample_rate - clip.start  # seconds
        if not found.missing or there >= clip.duration:
            return clip
        cut = f"damaged or cut short: {found.missing} samples are missing"
        if there < min(clip.duration, WINDOW_SECONDS):
            return dropped("unreadable", f"{rules.root / item.path}: {cut}")
        warn_about(rules.root / item.path, f"{cut}; what is left of it is used")
        return clip
    return dropped("unreadable", f"damaged: its header tells of {clip.duration:g} s at {clip.sample_rate:,} Hz")


def _refuse_text(item: SourceItem, rules: ClipRules) -> tuple[str, str] | None:
    """Return why an item is dropped for its text, and the text; None if it is kept.

    # ours, where the paper says `sample`: the clip is dropped as a whole if any of its captions or tags mentions speech
    (the rule is about the sound), and only in training: test sets are scored whole.
    """
    if item.split == "train" and not rules.keep_speech:
        spoken = next((text for text in (*item.captions, *item.tags) if mentions_speech(text)), None)
        if spoken is not None:
            return "speech", spoken
    return None if _texts(item) else ("no text", "neither a tag nor a caption with a word in it")


def _texts(item: SourceItem) -> tuple[str, ...]:
    """Return what the model reads: the joined tags, then each processed caption; no text twice, none without a word."""
    texts = [process_tags(item.tags), *(process_caption(caption) for caption in item.captions)]
    return tuple(dict.fromkeys(text for text in texts if any(map(str.isalnum, text))))
