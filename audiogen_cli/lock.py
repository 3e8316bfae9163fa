"""Locks on output folders: one command at a time writes to a folder, and a second one is refused.

`.audiogen.lock` in the folder names its holder. It stays behind when that is killed, and is then recognized: on one
machine by the process and its start time, from another by the time of the file, which the holder keeps new.
"""

from __future__ import annotations

import atexit
import json
import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from audiogen_cli.devices import is_main_process
from audiogen_cli.errors import InputError
from audiogen_cli.files import remove_leftovers
from audiogen_cli.processes import is_running

LOCK_FILE = ".audiogen.lock"
BEAT = 20.0  # seconds between two signs of life
SILENCE = 120.0  # seconds without one from another machine, after which its command counts as ended
_LONGEST_COMMAND = 80


@dataclass(frozen=True)
class Holder:
    """A command that holds a folder. space: its namespace of processes, in which `process` means something."""

    process: int
    host: str
    space: int
    started: str
    since: str
    command: str

    @property
    def key(self) -> tuple[int, str, int, str]:
        """Return what tells it from others: in two containers the processes may have one number."""
        return self.process, self.host, self.space, self.started


_held: dict[Path, tuple[list[Path], bool]] = {}  # lock → folders made for it, and whether to sweep those within


def hold_folder(folder: Path, deep: bool = True) -> None:
    """Make a folder, try to write to it and keep it for this command; of several processes the main one does so.

    What killed commands left half-written in it is deleted, also in the folders within if it is one of our own (deep).
    Raises InputError if it cannot be written to, or another command holds it.
    """
    path = folder.absolute() / LOCK_FILE
    if path in _held or not is_main_process():
        return
    made = [each for each in path.parents if not each.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, folder)
    except OSError as error:
        _remove_empty(made)
        raise InputError(f"{folder}: cannot be written to ({error.strerror or error}); choose another folder") from None
    if not _held:
        threading.Thread(target=_show_life, daemon=True).start()
        atexit.register(release_folders)
    _held[path] = made, deep
    _sweep(path.parent, deep)


def release_folders(sweep: bool = False) -> None:
    """Give up all folders that this process holds; delete those it made and left empty.

    sweep: also delete what workers that were stopped left half-written.
    """
    while _held:
        path, (made, deep) = _held.popitem()
        if sweep:
            _sweep(path.parent, deep)
            _remove_semaphores(os.getpid())
        with suppress(OSError):
            path.unlink()
        _remove_empty(made)


def _write(path: Path, folder: Path) -> None:
    mine = _holder()
    with locked(path) as lock:
        text = os.read(lock, 1 << 16)
        other = _parse(text)
        if other and (other.host, other.space) == (mine.host, mine.space) and not is_running(other.process):
            _remove_semaphores(other.process)
        if other and other.key != mine.key and _is_alive(other, mine, os.fstat(lock).st_mtime):
            raise InputError(
                f"{folder}: another command is writing there: process {other.process} on {other.host}, since "
                f"{other.since} ({other.command}); wait for it, or choose another folder"
            )
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps(asdict(mine)).encode(), 0)


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Open a lock, alone among the processes that do; others wait."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        try:
            if os.name == "posix":
                import fcntl

                with suppress(OSError):  # a file system that cannot
                    fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists() and os.fstat(lock).st_ino == path.stat().st_ino:  # not released while we waited
                yield lock
                return
        finally:
            os.close(lock)


def _remove_semaphores(process: int) -> None:
    """Delete what joblib leaves in shared memory of a process that was stopped with all that it had started."""
    for path in Path("/dev/shm").glob(f"sem.loky-{process}-*"):
        with suppress(OSError):
            path.unlink()


def _is_alive(other: Holder, mine: Holder, last_sign: float) -> bool:
    if (other.host, other.space) == (mine.host, mine.space):
        return is_running(other.process) and _start_time(other.process) == other.started
    return abs(time.time() - last_sign) < SILENCE


def _holder() -> Holder:
    space = Path("/proc/self/ns/pid")
    return Holder(
        process=os.getpid(),
        host=socket.gethostname(),
        space=space.stat().st_ino if space.exists() else 0,
        started=_start_time(os.getpid()),
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
        command=shlex.join(["audiogen", *sys.argv[1:]])[:_LONGEST_COMMAND],
    )


def _start_time(process: int) -> str:
    """Return when a process began, in the kernel's ticks; "" where the system does not say."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _parse(text: bytes) -> Holder | None:
    try:
        holder = Holder(**json.loads(text))
        return holder if isinstance(holder.process, int) else None
    except (ValueError, TypeError):  # empty, or not ours
        return None


def _sweep(folder: Path, deep: bool) -> None:
    remove_leftovers(folder.rglob(".*.tmp") if deep else folder.glob(".*.tmp"))


def _show_life() -> None:
    while _held:
        for path in list(_held):
            with suppress(OSError):
                os.utime(path)
        time.sleep(BEAT)


def _remove_empty(folders: list[Path]) -> None:
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()
