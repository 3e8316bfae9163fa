"""The published items of a dataset, listed to disk before any recording is opened; their missing parts and splits."""

from __future__ import annotations

import hashlib
import os
import pickle
import shlex
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

from audiogen_cli.data.datasets.dataset_folder import (
    DatasetFolder,
    DatasetNotFound,
    Source,
    SourceItem,
    not_found,
    scan_folder,
)
from audiogen_cli.data.datasets.leakage import held_out_recordings, hold_out
from audiogen_cli.data.manifest import Dropped
from audiogen_cli.data.preparation.caption_file import CaptionFile
from audiogen_cli.files import no_room, temporary_file

Item = SourceItem | Dropped
T = TypeVar("T")
CHUNK = 64


class ItemSpool:
    """Items on disk, in order. count: of all; published, missing: of those with a text, and without a file."""

    def __init__(self, items: Iterable[Item]) -> None:
        self.file = temporary_file()
        self.count = self.published = self.missing = 0
        for chunk in chunks(items, CHUNK):
            self._write(chunk)
            self.count += len(chunk)
            self.published += sum(isinstance(item, SourceItem) for item in chunk)
            self.missing += sum(isinstance(item, SourceItem) and item.missing for item in chunk)

    def _write(self, chunk: list[Item]) -> None:
        try:
            pickle.dump(chunk, self.file, pickle.HIGHEST_PROTOCOL)
            self.file.flush()
        except OSError as error:
            raise no_room(error) from None

    def __iter__(self) -> Iterator[Item]:
        self.file.seek(0)
        read = 0
        while read < self.count:
            chunk = pickle.load(self.file)
            read += len(chunk)
            yield from chunk


@dataclass(frozen=True)
class ItemList:
    """The items of one dataset. root: of their paths. not_held_out: datasets whose evaluation clips may be in it."""

    source: Source
    root: Path
    items: ItemSpool
    not_held_out: list[str]
    warnings: list[str]


def list_items(source: Source, folder: Path, raw: Path, captions: CaptionFile | None, val_share: float) -> ItemList:
    """List a dataset's items to disk.

    raw: where the lists of other datasets' evaluation clips are. val_share: of training files that become `val`.
    Raises DatasetNotFound, with what to type to get it, if the folder does not hold the dataset or none of its
    recordings; InputError if the folder cannot be read.
    """
    try:
        if not folder.is_dir() and source.download:
            next(source.items(DatasetFolder(folder, [], [], [])))  # an empty one: the source says what it looks for
        tree = scan_folder(folder)
        recordings, leaks = held_out_recordings(source.key, tree, raw)
        items: Iterable[Item] = hold_out(source.key, source.items(tree), recordings)
        if captions:
            items = captions.attach(items, source.guessed)
        if val_share:
            items = split_off_validation(items, val_share)
        spool = ItemSpool(_with_unnameable(source.key, items, tree))
        if spool.missing and spool.missing == spool.published:
            raise not_found(tree, f"the recordings: {spool.missing} clips are listed, and none of them is there")
    except DatasetNotFound as error:
        command = source.download.replace("FOLDER", shlex.quote(str(folder)))
        raise DatasetNotFound(f"{error}; to get it: {command}") from None
    warnings = list(leaks.values())
    if spool.missing and tree.archives:
        warnings.append(f"{source.key}: {spool.missing} clips are missing; is {tree.archives[0]} unpacked?")
    return ItemList(source, tree.root, spool, list(leaks), warnings)


def split_off_validation(items: Iterable[Item], share: float) -> list[Item]:
    """Move a share of the training files to `val`; at least one file, and never the last; assigned ones stay.

    # ours: files in the order of a hash of their names, so every machine and every run chooses the same ones, and new
    files hardly change the choice. Files of one name (`bark.wav`, `bark.flac`) are one source and stay together.
    """
    items = list(items)
    free = [isinstance(item, SourceItem) and item.split == "train" and not item.assigned for item in items]
    sources = {_source_hash(item.path) for item, is_free in zip(items, free, strict=True) if is_free}
    count = min(max(1, round(share * len(sources))), len(sources) - 1)
    chosen = set(sorted(sources)[: max(0, count)])
    return [
        replace(item, split="val")
        if is_free and isinstance(item, SourceItem) and _source_hash(item.path) in chosen
        else item
        for item, is_free in zip(items, free, strict=True)
    ]


def _source_hash(path: str) -> bytes:
    name = unicodedata.normalize("NFC", os.path.splitext(path)[0])  # noqa: PTH122
    return hashlib.sha256(name.encode()).digest()


def _with_unnameable(dataset: str, items: Iterable[Item], tree: DatasetFolder) -> Iterator[Item]:
    yield from items
    for path in tree.non_utf8:
        yield Dropped(f"{dataset}/{path}", "", path, "bad name", "its name is not UTF-8: rename it")


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut an iterable into lists of `size`."""
    waiting = iter(items)
    while chunk := list(islice(waiting, size)):
        yield chunk
