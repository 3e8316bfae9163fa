"""Signals and child processes: a signal ends a command and its workers, with nothing half-written."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

# What stops a command: Ctrl-C, a scheduler or `kill`, a terminal that closes. Windows lacks the last.
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl.h
_WATCH_SECONDS = 1.0
_IMPORT_SECONDS = 0.05


@contextmanager
def handle_signals(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call `handle` for each of STOP_SIGNALS but ignored ones (nohup); do nothing outside of the main thread."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS} if main else {}
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, as Ctrl-C does; after SIGTERM or SIGHUP ignore others, so that cleaning up can end.

    Other threads and libraries have nothing to say from then on: what they complain of is the interruption.
    """
    if getattr(getattr(sys.modules.get("torch"), "__spec__", None), "_initializing", False):
        # An exception within `import torch` may pass through C++ and abort the process: try again soon.
        threading.Timer(_IMPORT_SECONDS, _repeat, [number]).start()
        return
    threading.excepthook = lambda _: None
    warnings.simplefilter("ignore")
    if number != signal.SIGINT:
        for other in STOP_SIGNALS[1:]:
            signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def block_signals(numbers: Sequence[signal.Signals] = STOP_SIGNALS) -> Iterator[None]:
    """Keep signals from this thread and from the processes it starts, which never get them; on Windows do nothing."""
    if os.name != "posix":
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # which unblocks two of them when it starts: not after us, then
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _repeat(number: int) -> None:
    """Send this process's main thread a signal again."""
    main = threading.main_thread().ident
    if os.name == "posix" and main:
        signal.pthread_kill(main, number)
    else:
        signal.raise_signal(number)


def end_with_parent(parent: int | None = None, by: int = signal.SIGTERM) -> None:
    """Send this process a signal when its parent ends in any way; on Windows do nothing.

    parent: its number, for a process whose parent may have ended before this call.
    """
    if os.name != "posix":
        return
    parent = parent or os.getppid()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_DEATH_SIGNAL, by)
        if os.getppid() != parent:  # it has ended in the meantime
            os.kill(os.getpid(), by)
    else:
        threading.Thread(target=_watch, args=(parent, by), daemon=True).start()


def _watch(parent: int, by: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os.kill(os.getpid(), by)


def is_running(process: int) -> bool:
    """Return whether a process of this number is at work on this machine; on Windows always False."""
    if os.name != "posix":
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    with suppress(OSError, IndexError):  # it has ended, and its parent has not asked yet: only Linux tells
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return True
