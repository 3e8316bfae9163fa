"""Paramount Motion's Odeon Cinematic Sound Effects: trailer effects, one folder per category."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from audiogen_cli.data.datasets.libraries.sound_library import SoundLibrary

TOP = "odeon sound effects"
_COLLECTION = re.compile(r"collection \d+", re.IGNORECASE)


class Paramount(SoundLibrary):
    """Sounds below `ODEON Sound Effects/<Category>/`, at any depth: category, further folders and name are tags."""

    key = "paramount"
    license = "Paramount Motion: commercial"
    terms = "a bought, commercial licence; read in it whether you may train on these sounds."
    download = "buy the pack at paramountmotion.com/odeon-sound-effects, then type: unzip '*.zip' -d FOLDER"
    expected = "a folder 'ODEON Sound Effects' with a folder per category (Absorb, Braaaam, …)"
    unlisted = "not below 'ODEON Sound Effects'"

    def folders(self, path: str) -> list[str] | None:
        """Return the folders between the top one and the file, without mere numbers; None if there is no top one."""
        parts = PurePosixPath(path).parts[:-1]
        top = next((level for level, part in enumerate(parts) if part.casefold() == TOP), None)
        return None if top is None else [part for part in parts[top + 1 :] if not _COLLECTION.fullmatch(part.strip())]

    def is_sign(self, path: str) -> bool:
        return self.folders(path) is not None
