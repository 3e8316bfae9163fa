"""Free To Use Sounds' all-in-one bundle: field recordings, one folder per library."""

from __future__ import annotations

import re
from collections.abc import Sequence

from audiogen_cli.data.datasets.dataset_folder import SourceItem, stem
from audiogen_cli.data.datasets.libraries.sound_library import SoundLibrary, captioned

# Bandcamp's `<artist> - <album> - <number> `
_PREFIX = re.compile(r"free\s?to\s?use\s?sounds - .* - \d+ ", re.IGNORECASE)


class FreeToUseSounds(SoundLibrary):
    """Every sound below the folder; the UCS category and the folder are tags, the rest of the name the caption."""

    key = "freetousesounds"
    license = "Free To Use Sounds: royalty-free, no redistribution"
    terms = (
        "the seller's royalty-free licence; read freetousesounds.com/license-agreement on training before you do it."
    )
    download = "buy the all-in-one bundle at freetousesounds.com, then type: unzip '*.zip' -d FOLDER"
    expected = "the unpacked folders of the Free To Use Sounds bundle, with sound files in them"

    def item(self, path: str, folders: Sequence[str]) -> SourceItem:
        return captioned(path, _PREFIX.sub("", stem(path), count=1), folders)
