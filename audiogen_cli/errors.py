"""The errors and warnings a user can meet; `app.main` turns each into one line on stderr, errors into an exit code.

Also how names and durations are worded in such lines.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

Value = TypeVar("Value")
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def printable(text: str) -> str:
    """Escape what is no letter: names and licenses may hold codes that a terminal obeys."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def format_seconds(seconds: float) -> str:
    """Format a duration roughly: 0.8 s, 46 s, 4.5 min, 8.3 h, 5 days."""
    units = ((86_400, "days"), (3600, "h"), (60, "min"))
    size, unit = next(((size, unit) for size, unit in units if seconds >= 2 * size), (1, "s"))
    return f"{seconds / size:.2g} {unit}" if seconds < 10 * size else f"{seconds / size:,.0f} {unit}"


def read_seconds(text: object) -> float:
    """Read a duration: `30`, `30s`, `500ms`, `2m`, `1m30s`, `1h`, `1:30`. Raises ValueError if it is none."""
    written = str(text).strip().lower()
    if clock := re.fullmatch(r"(?:(\d+):)?(\d+):(\d+(?:\.\d*)?)", written):
        hours, minutes, seconds = clock.groups(default="0")
        return 3600.0 * int(hours) + 60 * int(minutes) + float(seconds)
    parts = re.findall(r"(\d+(?:\.\d*)?|\.\d+) ?(ms|seconds?|sec|s|minutes?|min|m|hours?|h)", written)
    if parts and re.sub(r"\s", "", "".join(map("".join, parts))) == re.sub(r"\s", "", written):
        return sum(float(number) * _UNITS["ms" if unit == "ms" else unit[0]] for number, unit in parts)
    try:
        return float(written)
    except ValueError:
        raise ValueError(f"'{text}' is no duration: give seconds, as 30 or 0.5, or 30s, 2m, 1m30s") from None


class AudiogenWarning(UserWarning):
    """Something is odd, and the work goes on."""


class AudiogenError(Exception):
    """The command ran and something failed (exit code 1)."""

    exit_code = 1


class InputError(AudiogenError):
    """Usage, configuration or input is wrong (exit code 2). The message says what, where and how to mend it."""

    exit_code = 2


class Interrupted(AudiogenError):
    """A signal ended a long run after it had saved its work (exit code 130)."""

    exit_code = 130


class Problems:
    """Collects the input errors of several steps, so that one message names all that is missing."""

    def __init__(self) -> None:
        self.found: list[InputError] = []

    def attempt(self, step: Callable[[], Value], instead: Value) -> Value:
        """Return what the step returns; note its InputError and return `instead`."""
        try:
            return step()
        except InputError as error:
            self.found.append(error)
            return instead

    def check(self) -> None:
        """Raise InputError if there were any."""
        if self.found:
            raise InputError("; also: ".join(map(str, self.found)))


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its kind if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into an AudiogenError that says that the file `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise AudiogenError(f"{path}: cannot be written: {error.strerror or error}") from None
