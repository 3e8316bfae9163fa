"""Files: written so that a reader, or a run that was killed, finds the old one or the new one, never half of one."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from audiogen_cli.errors import InputError
from audiogen_cli.processes import is_running

PACKAGE = Path(__file__).parent
RESOURCES = PACKAGE / "resources"  # what the package ships: models, word vectors, templates
# The recipes: in the package where it is installed, beside it in a checkout.
RECIPES = next((each for each in (PACKAGE / "recipes", PACKAGE.parent / "recipes") if each.is_dir()), PACKAGE)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; rename it to `path` at the end, delete it on any error.

    The temporary name has a fixed length, so `path` may have the longest name that the file system allows, and cannot
    be guessed, so nobody can put a link there beforehand.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Delete those of the temporary files of `replacing` whose process was killed."""
    for path in paths:
        process = path.name.split(".")[-2]
        if not (process.isdecimal() and is_running(int(process))):
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small UTF-8 file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")


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
