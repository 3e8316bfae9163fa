"""Work done ahead: an iterator that runs in a thread, so that the training finds its next batch ready."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def prefetch(items: Iterator[Item], depth: int = 2) -> Generator[Item, None, None]:
    """The same items, up to `depth` of them computed ahead in a thread; its error is raised where its item was due.

    Closing (or dropping) the iterator ends the thread after the item it is at.
    """
    ready: queue.Queue[tuple[bool, Item | BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def put(entry: tuple[bool, Item | BaseException | None]) -> bool:
        while not stop.is_set():
            try:
                ready.put(entry, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def run() -> None:
        try:
            for item in items:
                if not put((True, item)):
                    return
            put((False, None))
        except BaseException as error:
            put((False, error))

    thread = threading.Thread(target=run, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            more, item = ready.get()
            if isinstance(item, BaseException):
                raise item
            if not more:
                return
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
