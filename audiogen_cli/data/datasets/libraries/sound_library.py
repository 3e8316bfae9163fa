"""Items of sound libraries, bought or free: from a file's name, its folders and the text embedded in it.

Libraries publish no list: files without words need a captions file (`audiogen prep --captions`). The raw name stays in
the manifest as `path`, the embedded text as a caption.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from audiogen_cli.data.audio import SOUND_SUFFIXES
from audiogen_cli.data.datasets.dataset_folder import DatasetFolder, SourceItem
from audiogen_cli.data.manifest import Dropped
from audiogen_cli.data.preparation.filename_words import name_words, ucs_parts


def library_files(dataset: str, tree: DatasetFolder) -> Iterator[str | Dropped]:
    """Yield the sounds of a library by path; videos and other media that come with it are dropped."""
    for path in tree.audio:
        if os.path.splitext(path)[1].lower() in SOUND_SUFFIXES:  # noqa: PTH122
            yield path
        else:
            yield Dropped(f"{dataset}/{path}", "", path, "unlisted", "no sound file: libraries come with films, too")


def tagged(path: str, name: str, folders: Sequence[str]) -> SourceItem:
    """Return an item of a tag dataset: UCS category, folders and name are tags, embedded text becomes the caption."""
    category, words = ucs_parts(name) or ("", name_words(name))
    tags = unrepeated([category, *map(name_words, folders), words])
    return SourceItem(path, "train", path, tags=tags, embedded=True)


def captioned(path: str, name: str, folders: Sequence[str]) -> SourceItem:
    """Return an item of a caption dataset: UCS category and folders are tags, embedded text or the name the caption.

    A name of nothing but counters leaves the caption to the embedded text and the folders.
    """
    category, words = ucs_parts(name) or ("", name_words(name))
    tags = unrepeated([category, *map(name_words, folders)])
    return SourceItem(path, "train", path, captions=(words,) if words else (), tags=tags, embedded=True)


def unrepeated(tags: Sequence[str]) -> tuple[str, ...]:
    """Drop tags whose words are all in another tag: `Clock Sounds`, `Clock` → `Clock Sounds`."""
    words = [frozenset(tag.casefold().split()) for tag in tags]
    return tuple(
        tag
        for number, tag in enumerate(tags)
        if tag and not any(words[number] <= other for other in words[:number])
        if not any(words[number] < other for other in words[number + 1 :])
    )
