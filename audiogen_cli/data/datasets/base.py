"""What a dataset's file under data/datasets/ provides, and what those files share."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from audiogen_cli.data.manifest import Dropped, Split
from audiogen_cli.errors import InputError

# What libsndfile reads, and after it what ffmpeg must.
_SOUNDFILE_SUFFIXES = "wav flac ogg oga opus mp3 aif aiff aifc w64 rf64 au caf"
_FFMPEG_SUFFIXES = "m4a aac mp4 mkv mka webm wma"
AUDIO_SUFFIXES = frozenset(f".{name}" for name in f"{_SOUNDFILE_SUFFIXES} {_FFMPEG_SUFFIXES}".split(" "))


@dataclass(frozen=True, slots=True)
class Item:
    """One published clip, before anything is known of its audio.

    name: the clip's id within its dataset. path: relative to the root, with `/`; where it should be, if missing.
    captions, tags: as published, tags with `_` already a space. start, duration: the window in seconds; None reaches
    to the end of the file.
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


class Source(Protocol):
    """One dataset as its publisher lays it out."""

    @property
    def key(self) -> str:
        """The name in `--datasets`, in ids and of the manifest."""

    def find_root(self, folder: Path) -> Path:
        """The dataset's own root in `folder` (`<raw>/<key>`). Raises InputError saying what was expected there."""

    def items(self, root: Path) -> Iterator[Item | Dropped]:
        """Every published clip in a fixed order, or the reason why it cannot become one."""


def find_root(folder: Path, is_root: Callable[[Path], bool], expected: str) -> Path:
    """The first of `folder`, its children and grandchildren that bears a dataset's signature.

    Archives unpack to folders of many names (`ESC-50-master/`), so what lies inside decides, not a name.
    Raises InputError: `expected` says what was looked for and where to get it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected {expected}")
    for pattern in ("", "*/", "*/*/"):
        for candidate in sorted(folder.glob(pattern)) if pattern else [folder]:
            if is_root(candidate):
                return candidate
    raise InputError(f"{folder}: expected {expected}")


def list_audio(root: Path) -> list[str]:
    """All audio files below `root`, relative with `/`, sorted; hidden files and folders do not count."""
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        relative = Path(folder).relative_to(root)
        found += [(relative / name).as_posix() for name in names if is_audio_name(name)]
    return sorted(found)


def is_audio_name(name: str) -> bool:
    """Whether a file's name ends like audio; macOS's `._` companions do not count."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES  # noqa: PTH122 (2M names)


def read_csv(path: Path, required: Collection[str]) -> Iterator[dict[str, str]]:
    """Rows of a CSV file as dicts, cells stripped; its header must hold the `required` columns.

    UTF-8 (with or without BOM) or else Latin-1, any line ending, `,` or Excel's `;`. Rows without any text are
    skipped. Raises InputError if it is absent, lacks a column or is no CSV.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = text.splitlines(keepends=True)
    delimiter = ";" if lines and ";" in lines[0] and "," not in lines[0] else ","
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        if missing := [column for column in required if column not in header]:
            found = ",".join(header)[:80] or "nothing"
            raise InputError(f"{path}: its header lacks the column '{missing[0]}' (found: {found})")
        for cells in reader:
            row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
            if any(row.values()):
                yield {**dict.fromkeys(header, ""), **row}
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}") from None
