"""Items of sound libraries, bought or free: from a file's name, its folders and the text embedded in it.

Libraries publish no list: files without words need a captions file (`audiogen prep --captions`). The raw name stays in
the manifest as `path`, the embedded text as a caption.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from audiogen_cli.data.audio import SOUND_SUFFIXES
from audiogen_cli.data.datasets.dataset_folder import DatasetFolder, Source, SourceItem, not_found, stem
from audiogen_cli.data.manifest import Dropped
from audiogen_cli.data.preparation.filename_words import name_words, ucs_parts


class SoundLibrary(Source):
    """A library: every sound in its folder is an item; videos and other media that come with it are dropped."""

    guessed = ("captions",)
    expected: str  # what its folder should hold, for the message if it does not
    unlisted = ""  # why a file is dropped that `folders` says is not part of the library

    def folders(self, path: str) -> Sequence[str] | None:
        """Return the folders of a file whose names are tags: by default the one it is in; None to drop the file."""
        return PurePosixPath(path).parts[-2:-1]

    def is_sign(self, path: str) -> bool:
        """Return whether a file shows that this is the library."""
        return True

    def item(self, path: str, folders: Sequence[str]) -> SourceItem:
        """Return a file's item."""
        return tagged(path, stem(path), folders)

    def items(self, tree: DatasetFolder) -> Iterator[SourceItem | Dropped]:
        if not any(map(self.is_sign, tree.audio)):
            raise not_found(tree, self.expected)
        for path in tree.audio:
            folders, unlisted = self.folders(path), self.unlisted
            if os.path.splitext(path)[1].lower() not in SOUND_SUFFIXES:  # noqa: PTH122
                folders, unlisted = None, "no sound file: libraries come with films, too"
            if folders is None:
                yield Dropped(f"{self.key}/{path}", "", path, "unlisted", unlisted)
            else:
                yield self.item(path, folders)


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
