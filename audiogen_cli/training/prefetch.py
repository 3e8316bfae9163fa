"""Reading ahead, in worker processes and in a thread, so that the training finds its next batch ready."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from audiogen_cli.processes import block_signals
from audiogen_cli.training.launch import ignore_signals
from audiogen_cli.training.sampler import RankBatchSampler

Item = TypeVar("Item")


def load_batches(
    dataset: Dataset[Any],
    sampler: RankBatchSampler,
    workers: int,
    collate: Callable[[Sequence[Any]], Any] | None = None,
) -> Iterator[Any]:
    """Read the sampler's batches, in `workers` processes, or where the iterator is used. Workers start at once."""
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=sampler,  # type: ignore[arg-type]  # an Iterable of lists by its methods
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=ignore_signals if workers else None,
        generator=torch.Generator(),  # else it would draw from the generator that dropout uses
    )
    with block_signals():  # which reach a worker, too, before it can ignore them
        return iter(loader)


def prefetch(items: Iterator[Item], depth: int = 2) -> Generator[Item, None, None]:
    """Yield the same items, up to `depth` of them computed ahead in a thread; raise its error in place of its item.

    Closing (or dropping) the iterator ends the thread after its current item.
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
