"""Run one damaged case through `app.main()` in this process, with limits, and judge how it ended."""

from __future__ import annotations

import contextlib
import io
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

SECONDS = 5.0  # of computing; a machine may be busy with others
HANG = 20.0  # seconds of computing until a case is ended, and ten times as many of waiting
MEMORY = 1 << 30  # bytes that a case may take beyond what the process has
LONGEST_LINE = 1000


class TookTooLongError(BaseException):
    """The case ran into its limit; no Exception, so that nothing swallows it."""


@dataclass(frozen=True)
class Ended:
    """How a run ended. code: None if it hung or raised past `main`. memory: bytes that it took at most."""

    code: int | None
    stdout: str
    stderr: str
    seconds: float
    memory: int


def run(arguments: list[str], stdin: bytes = b"", encoding: str = "utf-8") -> Ended:
    """Run `audiogen ARGUMENTS` here and now."""
    from audiogen_cli.app import main

    # stderr escapes what it cannot write, as the interpreter's own does
    errors = ("strict", "backslashreplace")
    streams = [io.TextIOWrapper(io.BytesIO(), encoding, each, write_through=True) for each in errors]
    before, begun, code = sys.argv, time.process_time(), None
    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    sys.argv, before_stdin, sys.stdin = ["audiogen", *arguments], sys.stdin, io.TextIOWrapper(io.BytesIO(stdin))
    memory = [0]
    try:
        with _limits(memory), contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else None
    except TookTooLongError:
        streams[1].write("HANGS\n")
    except Exception as error:
        streams[1].write(f"{type(error).__name__}: {error} (unexpected, past main)\n")
    finally:
        sys.argv, sys.stdin = before, before_stdin
        for number, handler in handlers.items():
            signal.signal(number, handler)
    _forget_accelerator()
    out, err = (stream.buffer.getvalue().decode(encoding, "replace") for stream in streams)  # type: ignore[attr-defined]
    return Ended(code, out, err, time.process_time() - begun, memory[0])


def faults(ended: Ended, folder: Path, before: set[Path]) -> list[str]:
    """List what is wrong with how a run ended. before: the files of `folder` at its start."""
    found = []
    lines = [line for line in re.split("\r|\n", ended.stderr) if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    if ended.code not in (0, 1, 2):
        found.append(f"exit code {ended.code}")
    if "Traceback" in ended.stderr or "(unexpected" in ended.stderr:
        found.append("an unexpected error")
    if ended.code == 2 and (len(errors) != 1 or lines[-1] != errors[0]):
        found.append(f"{len(errors)} error lines, or more after them")
    if any(len(line) > LONGEST_LINE for line in errors):
        found.append("a line without end")
    if any(not letter.isprintable() for line in errors for letter in line):
        found.append("control characters")
    if ended.memory > MEMORY:
        found.append(f"{ended.memory >> 20} MB")
    if ended.seconds > SECONDS:
        found.append(f"{ended.seconds:.0f} s")
    new = files_of(folder) - before
    if left := [path.name for path in new if path.name.endswith(".tmp")]:
        found.append(f"leaves {left[0]}")
    if ended.code == 2 and (left := [path for path in new if not _may_stay(path.relative_to(folder))]):
        found.append(f"refused, but wrote {left[0].relative_to(folder)}")
    return found


def files_of(folder: Path) -> set[Path]:
    """Return every file in a folder."""
    return {path for path in folder.rglob("*") if path.is_file()}


def _may_stay(path: Path) -> bool:
    return any(part in {".cache", "cache", "texts"} for part in path.parts)


@contextlib.contextmanager
def _limits(taken: list[int]) -> Iterator[None]:
    """Bound time and memory; write the memory taken into a list at the end."""
    begun = _resident()
    Path("/proc/self/clear_refs").write_text("5")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + 3 * MEMORY, hard))
    timer = signal.setitimer(signal.ITIMER_REAL, 0)
    handlers = {each: signal.signal(each, _stop) for each in (signal.SIGALRM, signal.SIGPROF)}
    signal.setitimer(signal.ITIMER_REAL, 10 * HANG, 1.0)
    signal.setitimer(signal.ITIMER_PROF, HANG, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        taken[0] = _status("VmHWM") - begun


def _stop(number: int, frame: FrameType | None) -> None:
    raise TookTooLongError


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _status(name: str) -> int:
    match = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return int(match[1]) << 10


def _forget_accelerator() -> None:
    if "accelerate.state" in sys.modules:
        from accelerate.state import AcceleratorState, PartialState

        AcceleratorState._reset_state()
        PartialState._reset_state()
