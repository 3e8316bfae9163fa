"""A user's own sounds: any folder of audio files (`audiogen prep --folder DIR --name NAME`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from audiogen_cli.data.datasets.dataset_folder import SPLIT_NAMES, DatasetFolder, Source, SourceItem
from audiogen_cli.data.preparation.filename_words import name_words
from audiogen_cli.errors import InputError


@dataclass(frozen=True)
class Folder(Source):
    """Every audio file below a folder is a clip.

    Its split is `train`, unless a folder is called after another one (`_split_level`). Its tag is the name of the
    folder it is in, its caption those words and the file name's: `rain/heavy_on_roof-02.wav` has the tag `rain` and
    the caption `rain heavy on roof`. Without any word, it needs a captions file (`caption_file.py`).
    """

    key: str
    guessed = ("captions", "tags")

    def items(self, tree: DatasetFolder) -> Iterator[SourceItem]:
        """Yield one item per audio file, by path; its name is the path. Raises InputError if there is none."""
        if not tree.audio:
            raise InputError(f"{tree.root}: no audio files in this folder or below it")
        siblings = defaultdict[tuple[str, ...], set[str]](set)  # folder → the names of those in it
        for path in tree.audio:
            *folders, _ = path.casefold().split("/")
            for depth, folder in enumerate(folders):
                siblings[tuple(folders[:depth])].add(folder)
        for path in tree.audio:
            *folders, name = path.split("/")
            level = _split_level(path.casefold().split("/")[:-1], siblings)
            split = "train" if level is None else SPLIT_NAMES[folders.pop(level).casefold()]
            parent = name_words(folders[-1]) if folders else ""
            caption = _without_repeats(f"{parent} {name_words(PurePosixPath(name).stem)}")
            yield SourceItem(
                name=path,
                split=split,
                path=path,
                captions=(caption,) if caption else (),
                tags=(parent,) if parent else (),
                assigned=level is not None,
            )


def _split_level(folders: Sequence[str], siblings: Mapping[tuple[str, ...], set[str]]) -> int | None:
    """Return the place of the folder that says the split, where `train` may be a sound, too; None if there is none.

    Beside one another `train` and `val` or `test` are splits; else only topmost folders are, and `train` only beside
    no folder of sounds.
    """
    for level, name in enumerate(folders):
        beside = {SPLIT_NAMES.get(each) for each in siblings[tuple(folders[:level])]}
        paired = "train" in beside and len(beside - {None}) > 1
        topmost = not level and (None not in beside or SPLIT_NAMES.get(name) != "train")
        if name in SPLIT_NAMES and (paired or topmost):
            return level
    return None


def _without_repeats(text: str) -> str:
    """Keep each word once, in lower case: `Dog dog barking` (folder `Dog`, file `dog barking`) → `dog barking`."""
    return " ".join(dict.fromkeys(text.casefold().split()))
