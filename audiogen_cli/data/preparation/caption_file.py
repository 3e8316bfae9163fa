"""Captions that a user adds to a dataset: a CSV file whose header decides what it attaches to.

`file,caption[,split]`: a caption of one file (several rows give several captions); `split` moves the file there.
`tag,caption`: a caption for every clip with that tag.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from audiogen_cli.data.datasets.dataset_folder import SourceItem, nfc
from audiogen_cli.data.manifest import SPLITS, Dropped, Split
from audiogen_cli.data.tables import read_table
from audiogen_cli.errors import InputError

Lookup = dict[str, list[str]]
_SWALLOWED = re.compile(r"[\r\n].*[,;\t]")  # the next row, in a cell whose quotation mark is never closed


@dataclass
class CaptionFile:
    """A captions file, read and checked. by_file or by_tag is empty, as the header says.

    by_file: path as written → captions. splits: path as written → split. by_tag: tag, case-folded → captions.
    used: the keys that `attach` has found a clip for. unnamed: paths whose texts stay guesses, as no key means them.
    """

    path: Path
    by_file: Lookup = field(default_factory=lambda: defaultdict(list))
    splits: dict[str, Split] = field(default_factory=dict)
    by_tag: Lookup = field(default_factory=lambda: defaultdict(list))
    used: set[str] = field(default_factory=set)
    unnamed: list[str] = field(default_factory=list)

    @property
    def unused(self) -> list[str]:
        """List files or tags that no clip has."""
        return [key for key in (*self.by_file, *self.by_tag) if key not in self.used]

    def attach(self, items: Iterable[SourceItem | Dropped], guessed: Sequence[str]) -> list[SourceItem | Dropped]:
        """Add the captions to the items they name.

        guessed: captions of a file take the place of these texts of an item, which were only guessed from names.
        A file is named by its path below the root, or by its bare name (with or without suffix) if only one has it.
        """
        items = list(items)
        paths = _Paths(item.path for item in items if isinstance(item, SourceItem))
        captions: Lookup = defaultdict(list)
        splits: dict[str, Split] = {}
        for key in self.by_file:
            if path := paths.find(key):
                self.used.add(key)
                captions[path] += self.by_file[key]
                if key in self.splits:
                    splits[path] = self.splits[key]
        if guessed and self.by_file:
            self.unnamed += [path for path in paths.exact.values() if path not in captions]
        return [
            self._extend(item, captions, splits, guessed) if isinstance(item, SourceItem) else item for item in items
        ]

    def _extend(
        self, item: SourceItem, captions: Lookup, splits: dict[str, Split], guessed: Sequence[str]
    ) -> SourceItem:
        added = captions.get(item.path, [])
        for tag in map(_tag_key, item.tags):
            if tag in self.by_tag:
                self.used.add(tag)
                added = added + self.by_tag[tag]
        drop = guessed if item.path in captions else ()
        return replace(
            item,
            captions=(*(() if "captions" in drop else item.captions), *added),
            tags=() if "tags" in drop else item.tags,
            split=splits.get(item.path, item.split),
            assigned=item.assigned or item.path in splits,
            embedded=item.embedded and not added,  # what a user says counts more
        )


class _Paths:
    """Finds the one path that a key of a captions file means."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.exact = {nfc(path): path for path in paths}
        self.by_name: Lookup = defaultdict(list)
        for composed, path in self.exact.items():
            name = PurePosixPath(composed)
            for key in {name.name, name.stem}:
                self.by_name[key].append(path)

    def find(self, key: str) -> str | None:
        key = nfc(key)
        if key in self.exact:
            return self.exact[key]
        candidates = self.by_name.get(key, [])
        return candidates[0] if len(candidates) == 1 else None


def read_caption_file(path: Path) -> CaptionFile:
    """Read and check a captions file. Raises InputError with file and line if something is wrong with it."""
    table = read_table(path, ("caption",), ("file", "tag", "split"))
    if ("file" in table) == ("tag" in table):
        raise InputError(f"{path}: the header must be file,caption[,split] or tag,caption, not {','.join(table)}")
    result = CaptionFile(path)
    for line, row in table.iterrows():
        where = f"{path}, line {line}"
        key, caption = row.get("file", row.get("tag")), row["caption"]
        if not key or not caption:
            raise InputError(f"{where}: both cells must be filled, found '{key}' and '{caption}'")
        if _SWALLOWED.search(caption):
            raise InputError(
                f"{where}: its caption goes on in the next line: write it in one, or close the quotation mark"
            )
        if "tag" in table:
            result.by_tag[_tag_key(key)].append(caption)
            continue
        key = PurePosixPath(key.replace("\\", "/")).as_posix()
        result.by_file[key].append(caption)
        if (split := row.get("split")) and split not in SPLITS:
            raise InputError(f"{where}: split '{split}' is none of {', '.join(SPLITS)}")
        if split and result.splits.setdefault(key, split) != split:
            raise InputError(f"{where}: '{key}' is in split {result.splits[key]} and in {split}")
    if table.empty:
        raise InputError(f"{path}: holds no captions")
    return result


def _tag_key(tag: str) -> str:
    return " ".join(nfc(tag).replace("_", " ").casefold().split())
