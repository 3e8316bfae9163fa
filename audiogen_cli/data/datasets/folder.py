"""A user's own sounds: any folder of audio files (`audiogen prep --folder DIR --name NAME`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

from audiogen_cli.data.datasets.base import Item, list_audio
from audiogen_cli.data.manifest import SPLITS, Split
from audiogen_cli.errors import InputError

_BOUNDARY = re.compile(r"[^\w]|_|(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True)
class Folder:
    """Every audio file below a folder is a clip.

    Its split is `train`, unless its topmost folder is called train, val or test. Its tag is the name of the folder it
    lies in, its caption those words and the file name's: `rain/heavy_on_roof-02.wav` has the tag `rain` and the
    caption `rain heavy on roof`. Where that says nothing, a captions file must (`data/caption_file.py`).
    """

    key: str

    def find_root(self, folder: Path) -> Path:
        """The folder itself. Raises InputError if it is absent or holds no audio."""
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; --folder takes a folder of audio files")
        if not list_audio(folder):
            raise InputError(f"{folder}: no audio files in this folder or below it")
        return folder

    def items(self, root: Path) -> Iterator[Item]:
        """One item per audio file, by path; its name is the path."""
        for path in list_audio(root):
            *folders, name = PurePosixPath(path).parts
            split = folders.pop(0) if folders and folders[0] in SPLITS else "train"
            parent = name_words(folders[-1]) if folders else ""
            caption = _without_repeats(f"{parent} {name_words(PurePosixPath(name).stem)}")
            yield Item(
                name=path,
                split=cast(Split, split),
                path=path,
                captions=(caption,) if caption else (),
                tags=(parent,) if parent else (),
            )


def name_words(name: str) -> str:
    """The words of a file's or folder's name; parts that hold a digit are counters or ids and go.

    `DogBark_01` → `Dog Bark`, `1-100032-A-0` → `` (a single letter is no word).
    """
    parts = (part for part in _BOUNDARY.split(name) if not any(character.isdigit() for character in part))
    return " ".join(part for part in parts if len(part) > 1)


def _without_repeats(text: str) -> str:
    """Lower-case words, each once: `Dog dog barking` (folder `Dog`, file `dog barking`) → `dog barking`."""
    return " ".join(dict.fromkeys(text.casefold().split()))
