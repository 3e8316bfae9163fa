"""A user's own sounds: any folder of audio files (`audiogen prep --folder DIR --name NAME`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import cast

from audiogen_cli.data.datasets.dataset_folder import DatasetFolder, Source, SourceItem
from audiogen_cli.data.manifest import SPLITS, Split
from audiogen_cli.data.preparation.filename_words import name_words
from audiogen_cli.errors import InputError


@dataclass(frozen=True)
class Folder(Source):
    """Every audio file below a folder is a clip.

    Its split is `train`, unless its topmost folder is called train, val or test. Its tag is the name of the folder it
    is in, its caption those words and the file name's: `rain/heavy_on_roof-02.wav` has the tag `rain` and the
    caption `rain heavy on roof`. Without any word, it needs a captions file (`caption_file.py`).
    """

    key: str
    captions_guessed = True

    def items(self, tree: DatasetFolder) -> Iterator[SourceItem]:
        """Yield one item per audio file, by path; its name is the path. Raises InputError if there is none."""
        if not tree.audio:
            raise InputError(f"{tree.root}: no audio files in this folder or below it")
        for path in tree.audio:
            *folders, name = PurePosixPath(path).parts
            split = folders.pop(0) if folders and folders[0] in SPLITS else "train"
            parent = name_words(folders[-1]) if folders else ""
            caption = _without_repeats(f"{parent} {name_words(PurePosixPath(name).stem)}")
            yield SourceItem(
                name=path,
                split=cast(Split, split),
                path=path,
                captions=(caption,) if caption else (),
                tags=(parent,) if parent else (),
            )


def _without_repeats(text: str) -> str:
    """Keep each word once, in lower case: `Dog dog barking` (folder `Dog`, file `dog barking`) → `dog barking`."""
    return " ".join(dict.fromkeys(text.casefold().split()))
