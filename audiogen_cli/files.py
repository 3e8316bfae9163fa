"""Files: written so that a reader, or a run that was killed, finds the old one or the new one, never half of one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from audiogen_cli.errors import InputError, printable
from audiogen_cli.processes import is_running

PACKAGE = Path(__file__).parent
RESOURCES = PACKAGE / "resources"  # what the package ships: models, word vectors, templates
# The recipes: in the package where it is installed, beside it in a checkout.
RECIPES = next((each for each in (PACKAGE / "recipes", PACKAGE.parent / "recipes") if each.is_dir()), PACKAGE)

MAX_DOCUMENT = 256 << 20  # bytes; no JSON or YAML file between the stages is as large
MAX_DEPTH, MAX_VALUES = 40, 10_000_000  # levels of nesting, and values in one of them
DAY = 86_400  # seconds
_OWN = secrets.token_hex(4)  # after a restart of its container a process often has the number of the one before it
_TEMPORARY = re.compile(r"\.([0-9a-f]{8})?[0-9a-f]{16}\.(\d{1,10})\.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` for a file or a folder; rename it to `path` at the end, delete it on errors.

    Raises OSError, which names `path`, if the disk refuses, or there is a folder `path` with something in it.
    """
    temporary = temporary_name(path.parent)
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:  # of a full disk, which often names no file, or the source of a copy
        if error.errno and (error.filename is None or str(temporary) in (str(error.filename), str(error.filename2))):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        delete(temporary)


def temporary_name(folder: Path) -> Path:
    """Return a name in `folder` for what is swept once this process has ended, and the folder is used again.

    It is short, so that it fits where the longest name does, and cannot be guessed, so that nobody can put a link there
    beforehand.
    """
    return folder / f".{_OWN}{secrets.token_hex(8)}.{os.getpid()}.tmp"


def delete(path: Path) -> None:
    """Delete a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def is_there(path: Path) -> bool:
    """Return whether a file can be read, as far as its folders tell; another user's may not."""
    try:
        return path.is_file()
    except OSError:
        return False


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Delete what has a `temporary_name` of a process that is gone."""
    for path in list(paths):
        match = _TEMPORARY.fullmatch(path.name)
        if not match:
            continue
        own, process = match[1] == _OWN, int(match[2])
        if not (own if process == os.getpid() else is_running(process)):
            delete(path)


def sweep(folders: Iterable[Path]) -> None:
    """Delete what killed processes have left in folders, a day ago or longer: younger files may be at work elsewhere,
    in a container or on another machine whose processes have the same numbers."""
    for path in [path for folder in set(folders) for path in folder.glob(".*.tmp")]:
        with suppress(OSError):  # somebody else's
            if time.time() - path.stat().st_mtime > DAY:
                remove_leftovers([path])


def write_text(path: Path, text: str) -> None:
    """Write a small UTF-8 file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")


def read_text(path: Path, errors: str = "strict") -> str:
    """Read a UTF-8 file. Raises InputError if it is absent, too large to be one of ours, or no text."""
    try:
        if path.stat().st_size > MAX_DOCUMENT:
            raise InputError(f"{path}: {path.stat().st_size >> 20} MB; at most {MAX_DOCUMENT >> 20} MB are read")
        return path.read_text("utf-8-sig", errors)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None


def read_json(path: Path, errors: str = "strict") -> Any:
    """Read a JSON file. Raises InputError as `read_text` and `parse_json` do."""
    return parse_json(read_text(path, errors), str(path))


def parse_json(text: str, where: str) -> Any:
    """Read JSON. Raises InputError, which begins with `where`, for anything else, and for what could not be written."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise InputError(f"{where}: nested too deeply") from None
    except ValueError as error:
        raise InputError(f"{where}: not readable as JSON: {error}") from None
    check_depth(value, where)
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise InputError(f"{where}: holds half a character (\\ud800 to \\udfff alone)") from None
    return value


def check_depth(value: Any, where: str) -> None:
    """Raise InputError for plain values nested beyond MAX_DEPTH, within themselves, or beyond MAX_VALUES."""
    level = [value]
    for _ in range(MAX_DEPTH):
        parts = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level = list(islice(chain.from_iterable(parts), MAX_VALUES + 1))
        if not level:
            return
        if len(level) > MAX_VALUES:
            raise InputError(f"{where}: more than {MAX_VALUES} values")
    raise InputError(f"{where}: nested too deeply")


def show_line(line: str) -> None:
    """Show the user a line on stderr, what a terminal cannot show escaped."""
    print(printable(line), file=sys.stderr, flush=True)


def note(line: str) -> None:
    """Tell the user what needs no answer: a cache was made again."""
    show_line(f"note: {line}")


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def cache_folder() -> Path:
    """Return AUDIOGEN_CACHE, else audiogen/ in XDG_CACHE_HOME, else ~/.cache/audiogen; users may delete it."""
    if given := os.environ.get("AUDIOGEN_CACHE"):
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "audiogen"


def temporary_file() -> IO[bytes]:
    """Open a file without a name: it is gone with this process, however that ends. Raises InputError if it cannot."""
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise no_room(error) from None


def no_room(error: OSError) -> InputError:
    """Word an error of temporary files."""
    reason = error.strerror or str(error)
    return InputError(f"the folder for temporary files cannot be written to ({reason}): set TMPDIR to another one")


def check_name(path: Path) -> None:
    """Raise InputError if a file's name is longer than its file system takes."""
    folder = path.absolute().parent
    while not folder.is_dir():
        folder = folder.parent
    limit = os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    if (length := len(os.fsencode(path.name))) > limit:
        raise InputError(f"{path}: File name too long: {length} bytes, and the file system takes {limit}")


def check_folder(folder: Path) -> None:
    """Raise InputError if a folder cannot be written to, or cannot be created because the one above it cannot."""
    while not folder.exists():
        folder = folder.parent
    try:
        # Tried, not asked: os.access says yes to root even where nobody can write.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        raise InputError(f"cannot write below {folder}; choose another folder") from None
