"""Reading ahead, in worker processes and in a thread, so that the training finds its next batch ready."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar

import torch
from joblib import cpu_count
from torch.utils.data import DataLoader, Dataset

from audiogen_cli.errors import AudiogenError
from audiogen_cli.processes import block_signals
from audiogen_cli.training.launch import ignore_signals
from audiogen_cli.training.sampler import RankBatchSampler

Item = TypeVar("Item")


class _Batches(Dataset[Any]):
    """Batches by the numbers of their examples, or the error: one that leaves a worker gets a traceback as message."""

    def __init__(self, dataset: Dataset[Any], collate: Callable[[Sequence[Any]], Any]) -> None:
        self.dataset, self.collate = dataset, collate

    def __getitem__(self, numbers: Sequence[int]) -> Any:
        try:
            return self.collate([self.dataset[i] for i in numbers])
        except AudiogenError as error:
            return error


def load_batches(
    dataset: Dataset[Any], sampler: RankBatchSampler, workers: int, collate: Callable[[Sequence[Any]], Any]
) -> Iterator[Any]:
    """Read the sampler's batches in `workers` processes, which start at once, one a core at most; 0: in this one."""
    loader: DataLoader[Any] = DataLoader(
        _Batches(dataset, collate),
        sampler=sampler,
        batch_size=None,
        num_workers=min(workers, cpu_count()),
        collate_fn=_unchanged,
        worker_init_fn=ignore_signals if workers else None,
        generator=torch.Generator(),  # else it would draw from the generator that dropout uses
    )
    if workers:
        atexit.register(_kill_readers)  # before multiprocessing waits for them
    with block_signals():  # which reach a worker, too, before it can ignore them
        return map(_unwrap, iter(loader))


def _kill_readers() -> None:
    """End readers that are still at work, which ignore milder signals: a file may take them long."""
    readers = [each for each in multiprocessing.active_children() if each.daemon]
    if readers and os.name == "posix":
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler takes it for an accident
    for each in readers:
        each.kill()


def _unwrap(read: Any) -> Any:
    if isinstance(read, AudiogenError):
        raise read
    return read


def _unchanged(read: Any) -> Any:
    return read


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
