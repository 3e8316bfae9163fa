"""Free To Use Sounds' all-in-one bundle: field recordings, one folder per library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from audiogen_cli.data.datasets.dataset_folder import DatasetFolder, SourceItem, not_found, stem
from audiogen_cli.data.datasets.libraries.sound_library import captioned, library_files
from audiogen_cli.data.manifest import Dropped

# Bandcamp's `<artist> - <album> - <number> `
_PREFIX = re.compile(r"free\s?to\s?use\s?sounds - .* - \d+ ", re.IGNORECASE)


class FreeToUseSounds:
    """Every sound below the folder; the UCS category and the folder are tags, the rest of the name the caption."""

    key = "freetousesounds"
    captions_guessed = True
    license = "Free To Use Sounds: royalty-free, no redistribution"
    terms = (
        "the seller's royalty-free licence; read freetousesounds.com/license-agreement on training before you do it."
    )
    download = "buy the all-in-one bundle at freetousesounds.com, then type: unzip '*.zip' -d FOLDER"

    def items(self, tree: DatasetFolder) -> Iterator[SourceItem | Dropped]:
        """Yield one item per file. Raises InputError if there is no sound."""
        if not tree.audio:
            raise not_found(tree, "the unpacked folders of the Free To Use Sounds bundle, with sound files in them")
        for path in library_files(self.key, tree):
            if isinstance(path, Dropped):
                yield path
            else:
                yield captioned(path, _PREFIX.sub("", stem(path), count=1), PurePosixPath(path).parts[-2:-1])
