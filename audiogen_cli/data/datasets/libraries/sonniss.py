"""Sonniss #GameAudioGDC: yearly bundles of excerpts from many vendors' libraries, one folder per library."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from audiogen_cli.data.datasets.libraries.sound_library import SoundLibrary

# Libraries' names hold ` - ` themselves: the first one separates. The bundles' own folders are no suppliers.
_LIBRARY = re.compile(r"(?!Sonniss\.com)[^/]*?\s[-–]\s+(.+)", re.DOTALL)


class Sonniss(SoundLibrary):
    """Every sound below the folder, which holds `<Supplier> - <Library>/` folders: library and name are tags."""

    key = "sonniss"
    license = "Sonniss #GameAudioGDC: no AI training"
    terms = (
        "the present #GameAudioGDC licence FORBIDS training AI on these sounds without Sonniss' written permission"
        " (the terms of early bundles may differ): obtain it, or leave them out."
    )
    download = "download the zip files from sonniss.com/gameaudiogdc, then type: unzip '*.zip' -d FOLDER"
    expected = "unpacked #GameAudioGDC bundles: '<Supplier> - <Library>' folders with sound files"

    def folders(self, path: str) -> list[str]:
        """Return the name of the library that a file belongs to, if a folder has it."""
        matches = (_LIBRARY.fullmatch(part) for part in PurePosixPath(path).parts[:-1])
        return [match.group(1).strip() for match in matches if match][:1]

    def is_sign(self, path: str) -> bool:
        return bool(self.folders(path))
