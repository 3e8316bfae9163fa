"""Facts that prep opens a sound file for: its length and rate, the text embedded in it, its copy at 16 kHz.

`FileIndex` remembers them from run to run: a second run opens only new and changed files, and one that was killed goes
on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiogen_cli.data.audio import SAMPLE_RATE, is_whole, probe, read_audio, write_blocks
from audiogen_cli.data.preparation.file_metadata import read_file_metadata
from audiogen_cli.errors import AudiogenError, AudiogenWarning, InputError

if TYPE_CHECKING:
    import numpy as np

# 1: lengths of MP3 files without a Xing frame were guesses; 2: text not read was stored as none; 3: files that were cut
# short passed for whole
FORMAT_VERSION = 4
COMMIT_EVERY = 1.0  # seconds of work that a kill may cost
WAIT = 10.0  # seconds, for another run that uses the cache
_NUMBERS = ("size", "mtime", "sample_rate", "channels", "n_samples", "missing")
_COLUMNS = ", ".join(("path", *_NUMBERS, "description", "keywords"))
_REFUSALS = ("locked", "readonly", "full", "unable to open", "I/O")  # words of errors that are not the file's
LONGEST_READ = 300.0  # seconds decoded at once, so that half an hour of 96 kHz surround needs no gigabytes


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """Facts of a file, and the size (bytes) and mtime (ns) it had when they were read.

    missing: of its samples, those that were cut off.
    """

    size: int
    mtime: int
    sample_rate: int
    channels: int
    n_samples: int
    description: str | None = None  # None: not read yet
    keywords: tuple[str, ...] = ()
    missing: int = 0

    @property
    def duration(self) -> float:
        """Return the duration in seconds."""
        return self.n_samples / self.sample_rate


def index_file(path: Path, known: IndexedFile | None, embedded: bool, copy: Path | None) -> IndexedFile:
    """Return the facts of a file: the known ones if it has not changed since, else read from it.

    embedded: whether its text is wanted. copy: where a FLAC copy with 16 kHz in mono must be, whose rate and length are
    then those of the facts; it is made if it is not there, or cut.
    Raises InputError, one line, if the file cannot be read.
    """
    try:
        status = path.stat()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise InputError(f"{path}: {reason}") from None
    unchanged = known is not None and (known.size, known.mtime) == (status.st_size, status.st_mtime_ns)
    if known and unchanged and (copy is None or is_whole(copy, known.duration)):
        found = known
    else:
        info = probe(path)
        numbers = info.sample_rate, info.channels, info.n_samples
        found = IndexedFile(status.st_size, status.st_mtime_ns, *numbers, missing=info.missing)
        if copy:
            found = replace(found, sample_rate=SAMPLE_RATE, channels=1, n_samples=convert(path, copy, info.duration))
    return replace(found, **vars(read_file_metadata(path))) if embedded and found.description is None else found


def convert(path: Path, copy: Path, duration: float) -> int:
    """Write `path` (lasting `duration` seconds) as mono FLAC at 16 kHz, whole or not at all; returns its samples."""

    def parts() -> Iterator[np.ndarray]:
        start = 0.0
        while start == 0 or start < duration - 1 / SAMPLE_RATE:
            yield read_audio(path, SAMPLE_RATE, start, None if duration <= LONGEST_READ else LONGEST_READ)
            start += LONGEST_READ

    return write_blocks(copy, parts())


class FileIndex:
    """The facts of one dataset's files, by path below its root; a database that survives a kill.

    Its name in `folder` depends on the dataset and its root. With `copies` the facts are those of FLAC copies, and of
    the root that these were last made from.
    Raises AudiogenError if another run is writing to it, or the disk refuses.
    """

    def __init__(self, folder: Path, dataset: str, root: Path, copies: bool) -> None:
        digest = hashlib.sha256(f"{FORMAT_VERSION}/{'copies' if copies else root}".encode()).hexdigest()[:12]
        self.path = folder / f"{dataset}-{digest}.sqlite"
        with self._errors():
            folder.mkdir(parents=True, exist_ok=True)
            try:
                self._database = _connect(self.path)
            except (sqlite3.DatabaseError, ValueError) as error:  # damaged by a crash of the machine
                self._rebuild(error)
        self._committed = time.monotonic()

    def get(self, paths: Collection[str]) -> dict[str, IndexedFile]:
        """Return the known facts of `paths`."""
        marks = ",".join("?" * len(paths))
        try:
            rows = self._database.execute(f"SELECT {_COLUMNS} FROM facts WHERE path IN ({marks})", list(paths))
            return {path: _indexed(*values) for path, *values in rows}
        except (sqlite3.DatabaseError, ValueError) as error:
            with self._errors():
                self._rebuild(error)
            return {}

    def put(self, facts: Mapping[str, IndexedFile]) -> None:
        """Store facts; after at most a second (or on closing) they survive a kill."""
        rows = [
            (path, *(getattr(f, name) for name in _NUMBERS), f.description, json.dumps(f.keywords))
            for path, f in facts.items()
        ]
        with self._errors():
            self._database.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        if time.monotonic() > self._committed + COMMIT_EVERY:
            self._database.commit()
            self._committed = time.monotonic()

    def close(self) -> None:
        """Commit and close."""
        with self._errors():
            self._database.commit()
            self._database.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise AudiogenError(
                f"{self.path}: cannot be used ({reason}); make room, end what uses it, or delete it: it is a cache"
            ) from None

    def _rebuild(self, error: Exception) -> None:
        """Begin anew if the database is damaged. Raises the error if the disk is to blame, or who uses it."""
        if isinstance(error, sqlite3.Error) and any(word in str(error) for word in _REFUSALS):
            raise error
        with suppress(AttributeError):
            self._database.close()
        for path in (self.path, self.path.with_name(f"{self.path.name}-journal")):
            path.unlink(missing_ok=True)
        self._database = _connect(self.path)
        warnings.warn(f"{self.path}: damaged ({error}); made anew", AudiogenWarning, stacklevel=2)


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=WAIT)
    database.execute("PRAGMA synchronous = OFF")  # safe against kills; against power cuts a cache need not be
    database.execute(
        "CREATE TABLE IF NOT EXISTS facts (path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER, sample_rate INTEGER,"
        " channels INTEGER, n_samples INTEGER, missing INTEGER, description TEXT, keywords TEXT) WITHOUT ROWID"
    )
    database.execute(f"SELECT {_COLUMNS} FROM facts LIMIT 1").fetchall()
    if (found := database.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise ValueError(found)
    return database


def _indexed(*values: Any) -> IndexedFile:
    """Build what a row holds. Raises ValueError if that is not what `put` has written."""
    numbers, (description, keywords) = dict(zip(_NUMBERS, values, strict=False)), values[-2:]
    words = json.loads(keywords) if isinstance(keywords, str) else None
    plain = all(isinstance(number, int) for number in numbers.values()) and isinstance(description, (str, type(None)))
    if not plain or min(values[2:5]) < 1 or not isinstance(words, list):
        raise ValueError("a row is not what was written")
    return IndexedFile(**numbers, description=description, keywords=tuple(map(str, words)))
