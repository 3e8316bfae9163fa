"""Progress on stderr: a bar on a terminal, elsewhere (logs, pipes) a plain line from time to time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from audiogen_cli.devices import is_main_process
from audiogen_cli.errors import format_seconds

Advance = Callable[[int, int | None], None]
FIRST_LINE, LONGEST_WAIT = 10.0, 300.0  # seconds: no line for a short run, no thousands for a long one
WAIT_SHARE = 0.25  # of the time passed, until the next line


@contextmanager
def progress_bar(description: str) -> Iterator[Advance]:
    """Yield a function to call with (done, total, or None before that is known); libraries take it as `progress`.

    A new total begins a new count. Of several processes only the main one prints.
    """
    if not is_main_process():
        yield lambda done, total: None
    elif sys.stderr.isatty():
        yield from _bar(description)
    else:
        yield PlainProgress(description)


class PlainProgress:
    """Prints lines such as `preparing: 12,800 of 51,197, 840/s, 46 s left`, less and less often."""

    def __init__(
        self,
        description: str,
        clock: Callable[[], float] = time.monotonic,
        write: Callable[[str], object] = lambda line: print(line, file=sys.stderr, flush=True),
    ) -> None:
        self.description, self._clock, self._write = description, clock, write
        self._began = clock()
        self._next = self._began + FIRST_LINE
        self._counting = self._began
        self._first = 0  # what was done when counting began
        self._total: int | None = None

    def __call__(self, done: int, total: int | None) -> None:
        now = self._clock()
        if total != self._total or done < self._first:
            self._first, self._total, self._counting = done, total, now
        if now < self._next:
            return
        self._next = now + min(max(FIRST_LINE, WAIT_SHARE * (now - self._began)), LONGEST_WAIT)
        self._write(f"{self.description}: {', '.join(self._facts(done, total, now - self._counting))}")

    def _facts(self, done: int, total: int | None, seconds: float) -> Iterator[str]:
        yield f"{done:,} of {total:,}" if total is not None else f"{done:,}"
        if done > self._first and seconds > 0:
            rate = (done - self._first) / seconds
            yield f"{rate:,.3g}/s"
            if total is not None:
                yield f"{format_seconds((total - done) / rate)} left"


def _bar(description: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Items per second."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.3g}/s" if task.speed else "")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    # Rich would redirect stdout to its console, stderr: right on a terminal, wrong for results in a pipe.
    console, redirect = Console(stderr=True), sys.stdout.isatty()
    with Progress(*columns, console=console, redirect_stdout=redirect) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
