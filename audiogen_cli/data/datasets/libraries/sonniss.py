"""Sonniss #GameAudioGDC: yearly bundles of excerpts from many vendors' libraries, one folder per library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from audiogen_cli.data.datasets.dataset_folder import DatasetFolder, SourceItem, not_found, stem
from audiogen_cli.data.datasets.libraries.sound_library import library_files, tagged
from audiogen_cli.data.manifest import Dropped

# Libraries' names hold ` - ` themselves: the first one separates. The bundles' own folders are no suppliers.
_LIBRARY = re.compile(r"(?!Sonniss\.com)[^/]*?\s[-–]\s+(.+)", re.DOTALL)


class Sonniss:
    """Every sound below the folder, which holds `<Supplier> - <Library>/` folders: library and name are tags."""

    key = "sonniss"
    captions_guessed = True
    license = "Sonniss #GameAudioGDC: no AI training"
    terms = (
        "the present #GameAudioGDC licence FORBIDS training AI on these sounds without Sonniss' written permission"
        " (the terms of early bundles may differ): obtain it, or leave them out."
    )
    download = "download the zip files from sonniss.com/gameaudiogdc, then type: unzip '*.zip' -d FOLDER"

    def items(self, tree: DatasetFolder) -> Iterator[SourceItem | Dropped]:
        """Yield one item per file. Raises InputError if no folder is called like a supplier's library."""
        if not any(_library(path) for path in tree.audio):
            raise not_found(tree, "unpacked #GameAudioGDC bundles: '<Supplier> - <Library>' folders with sound files")
        for path in library_files(self.key, tree):
            yield path if isinstance(path, Dropped) else tagged(path, stem(path), _library(path))


def _library(path: str) -> list[str]:
    """Return the name of the library that a file belongs to, if a folder has it."""
    matches = (_LIBRARY.fullmatch(part) for part in PurePosixPath(path).parts[:-1])
    return [match.group(1).strip() for match in matches if match][:1]
