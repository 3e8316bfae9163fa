"""The interface of a dataset, and what the modules of datasets share."""

from __future__ import annotations

import os
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from audiogen_cli.data.audio import AUDIO_SUFFIXES, FFMPEG_SUFFIXES
from audiogen_cli.data.manifest import Dropped, Split
from audiogen_cli.data.mapped_parquet import CACHE
from audiogen_cli.errors import InputError

# Names of folders, case-folded → the split of what is in them.
SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
COPIES = ".audio"  # ends the name of the folder where `prep --convert` puts a dataset's copies
_ARCHIVES = (".zip", ".z01", ".7z", ".7z.001", ".tar", ".tar.gz", ".tgz", ".rar")


@dataclass(frozen=True, slots=True)
class SourceItem:
    """One published clip, before anything is known of its audio.

    name: the clip's id within its dataset. path: relative to the root, with `/`; where it should be, if missing.
    captions, tags: as published, tags with `_` already a space. license: of this clip; empty means its source's.
    start, duration: the window in seconds; None reaches to the end of the file. recording: its YouTube or Freesound id.
    embedded: the file's own description takes the captions' place and its keywords join the tags (`file_metadata.py`).
    assigned: the user says its split, which stays.
    """

    name: str
    split: Split
    path: str
    captions: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    license: str = ""
    start: float = 0.0
    duration: float | None = None
    missing: bool = False
    recording: str = ""
    embedded: bool = False
    assigned: bool = False


@dataclass(frozen=True)
class DatasetFolder:
    """A dataset's folder, walked once; all paths relative to `root` with `/`, sorted.

    audio: files whose names end like audio. other: all others. non_utf8: files whose names are not UTF-8, escaped:
    no manifest can hold them.
    """

    root: Path
    audio: list[str]
    other: list[str]
    non_utf8: list[str]

    def find_named(self, *patterns: str) -> list[str]:
        """List other files whose name fits a pattern, in any case; of several with one name the uppermost."""
        found: dict[str, str] = {}
        for path in sorted(self.other, key=lambda path: path.count("/")):
            name = path.rpartition("/")[2].casefold()
            if any(fnmatchcase(name, pattern) for pattern in patterns):
                found.setdefault(name, path)
        return sorted(found.values())

    @property
    def archives(self) -> list[str]:
        """List packed files, which a user may have forgotten to unpack."""
        return [path for path in self.other if path.casefold().endswith(_ARCHIVES)]


class Source(ABC):
    """One dataset as its publisher lays it out."""

    key: str  # its name in `--datasets`, in ids and of the manifest
    guessed: Sequence[str] = ()  # `captions`, `tags`: from names only, so that a user's captions replace them
    license = ""  # of clips that have none of their own; empty if unknown
    terms = ""  # one sentence on what the license allows in training; printed once
    download = ""  # shell commands that download it to FOLDER, or where to buy it; empty for a user's own sounds

    @abstractmethod
    def items(self, tree: DatasetFolder) -> Iterator[SourceItem | Dropped]:
        """Yield every published clip in a fixed order, or the reason why it cannot become one.

        Raises DatasetNotFound, saying what was expected where, if the folder does not look like the dataset.
        """


class DatasetNotFound(InputError):
    """A folder does not hold a dataset. The message says what was expected, and how to get it."""


def scan_folder(folder: Path) -> DatasetFolder:
    """List a dataset's folder; hidden files and folders do not count, links to folders are followed.

    Raises InputError if there is no such folder, or one in it may not be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    root = folder.resolve()
    audio: list[str] = []
    other: list[str] = []
    non_utf8: list[str] = []
    try:
        for path in _walk(root, "", (root,)):
            if (readable := path.encode("utf-8", "backslashreplace").decode()) != path:
                non_utf8.append(readable)
            else:
                (audio if is_audio_name(path.rpartition("/")[2]) else other).append(path)
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}") from None
    return DatasetFolder(root, sorted(audio), sorted(other), sorted(non_utf8))


def _walk(folder: Path, prefix: str, above: tuple[Path, ...]) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            if not _is_folder(entry):
                if entry.is_file(follow_symlinks=False) or is_audio_name(entry.name) or Path(entry.path).is_file():
                    yield prefix + entry.name
                continue
            if entry.name.endswith(COPIES) and Path(folder, CACHE).is_dir():  # of `prep --convert`, below --folder
                continue
            real = Path(entry.path).resolve() if entry.is_symlink() else Path(entry.path)
            if real not in above:  # a link to a folder that holds it would never end
                yield from _walk(real, f"{prefix}{entry.name}/", (*above, real))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def is_audio_name(name: str) -> bool:
    """Return whether a file's name ends like audio; macOS's `._` files do not count."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES  # noqa: PTH122 (2M names)


def not_found(tree: DatasetFolder, what: str) -> DatasetNotFound:
    """Return the error for a folder that does not hold a dataset. what: the files looked for, and where to get them."""
    packed = f" ({tree.archives[0]} is there: unpack it)" if tree.archives else ""
    absent = "" if tree.root.is_dir() else "no such folder; "
    return DatasetNotFound(f"{tree.root}: {absent}expected {what}{packed}")


def stem(path: str) -> str:
    """Return a file's name without folders and last suffix."""
    return PurePosixPath(path).stem


def nfc(name: str) -> str:
    """Compose a name's letters: archives made on macOS hold them taken apart, tables do not."""
    return unicodedata.normalize("NFC", name)


class AudioIndex:
    """The audio files of a folder by key; remembers which of them have been matched to a row of the metadata."""

    def __init__(self, dataset: str, paths: Iterable[str], key: Callable[[str], str | None] = stem) -> None:
        """key: what a path is looked up by; None: by nothing."""
        self.dataset = dataset
        self._paths = list(paths)
        self._by_key: dict[str | None, list[str]] = {}
        for path in self._paths:
            self._by_key.setdefault(key(nfc(path)), []).append(path)
        self._by_key.pop(None, None)
        self._claimed: dict[str, str] = {}  # path → the path its clip got, itself or the one it is a copy of

    def find(self, key: str) -> list[str]:
        """List all files with that key."""
        return self._by_key.get(nfc(key), [])

    def match(self, *keys: str) -> str | None:
        """Match a clip to its file, the first that needs no ffmpeg; other files with its keys count as copies."""
        found = [path for key in keys for path in self.find(key) if path not in self._claimed]
        if not found:
            return None
        best = min(found, key=lambda path: (os.path.splitext(path)[1].lower() in FFMPEG_SUFFIXES, path))  # noqa: PTH122
        self._claimed |= dict.fromkeys(found, best)
        return best

    def unmatched(self) -> Iterator[Dropped]:
        """Yield every file that no clip was matched to, with the reason."""
        for path in self._paths:
            best = self._claimed.get(path)
            if best is None:
                yield Dropped(f"{self.dataset}/{path}", "", path, "unlisted", "no row of the metadata names it")
            elif best != path:
                yield Dropped(f"{self.dataset}/{path}", "", path, "copy", f"the same clip as {best}")
