"""We Sound Effects Bundle 2020: nothing is published of its layout, so names, folders and embedded text must do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from audiogen_cli.data.datasets.dataset_folder import DatasetFolder, SourceItem, not_found, stem
from audiogen_cli.data.datasets.libraries.sound_library import library_files, tagged
from audiogen_cli.data.manifest import Dropped


class WeSoundEffects:
    """Every sound below the folder; the folder it is in and its name are tags."""

    key = "wesoundeffects"
    captions_guessed = True
    license = "We Sound Effects: the seller's"
    terms = "the seller's licence, which came with the bundle; read in it whether you may train on these sounds."
    download = "get the bundle at wesoundeffects.com/we-sound-effects-bundle-2020, then type: unzip '*.zip' -d FOLDER"

    def items(self, tree: DatasetFolder) -> Iterator[SourceItem | Dropped]:
        """Yield one item per file. Raises InputError if there is no sound."""
        if not tree.audio:
            raise not_found(tree, "the unpacked We Sound Effects Bundle 2020, with sound files in it")
        for path in library_files(self.key, tree):
            yield path if isinstance(path, Dropped) else tagged(path, stem(path), PurePosixPath(path).parts[-2:-1])
