"""Paramount Motion's Odeon Cinematic Sound Effects: trailer effects, one folder per category."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from audiogen_cli.data.datasets.dataset_folder import DatasetFolder, SourceItem, not_found, stem
from audiogen_cli.data.datasets.libraries.sound_library import library_files, tagged
from audiogen_cli.data.manifest import Dropped

TOP = "odeon sound effects"
_COLLECTION = re.compile(r"collection \d+", re.IGNORECASE)


class Paramount:
    """Sounds below `ODEON Sound Effects/<Category>/`, at any depth: category, further folders and name are tags."""

    key = "paramount"
    captions_guessed = True
    license = "Paramount Motion: commercial"
    terms = "a bought, commercial licence; read in it whether you may train on these sounds."
    download = "buy the pack at paramountmotion.com/odeon-sound-effects, then type: unzip '*.zip' -d FOLDER"

    def items(self, tree: DatasetFolder) -> Iterator[SourceItem | Dropped]:
        """Yield one item per file. Raises InputError if the folder `ODEON Sound Effects` is not there."""
        if not any(_folders(path) is not None for path in tree.audio):
            raise not_found(tree, "a folder 'ODEON Sound Effects' with a folder per category (Absorb, Braaaam, …)")
        for path in library_files(self.key, tree):
            if isinstance(path, Dropped):
                yield path
            elif (folders := _folders(path)) is None:
                yield Dropped(f"{self.key}/{path}", "", path, "unlisted", "not below 'ODEON Sound Effects'")
            else:
                yield tagged(path, stem(path), folders)


def _folders(path: str) -> list[str] | None:
    """List the folders between the top one and the file, without mere numbers; None if there is no top one."""
    parts = PurePosixPath(path).parts[:-1]
    top = next((level for level, part in enumerate(parts) if part.casefold() == TOP), None)
    return None if top is None else [part for part in parts[top + 1 :] if not _COLLECTION.fullmatch(part.strip())]
