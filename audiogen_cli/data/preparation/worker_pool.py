"""Processes that share prep's work: on this machine, or on a Ray cluster through joblib's backend for it."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any, Literal, TypeVar

from audiogen_cli.errors import InputError
from audiogen_cli.processes import block_signals, end_with_parent

Engine = Literal["processes", "ray"]
Result = TypeVar("Result")

ROUND = 32  # tasks per process between two waits: at most so many results wait in memory


class Workers:
    """Runs one function over many tasks, `count` at a time."""

    def __init__(self, pool: Any, count: int) -> None:
        self._pool, self.count = pool, count

    def map(self, function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
        """Yield `function(*task)` of each task, in order, when ready; tasks are read in rounds, never all at once."""
        from joblib import delayed

        waiting = iter(tasks)
        while batch := list(islice(waiting, ROUND * self.count)):
            # Ctrl-C reaches the main process alone, which ends the others: they are started by the call.
            with block_signals([signal.SIGINT]):
                results = self._pool(delayed(function)(*task) for task in batch)
            yield from results


@contextmanager
def start_workers(engine: Engine = "processes", count: int | None = None) -> Iterator[Workers]:
    """Start the processes (count: all cores, or all CPUs of the cluster), and end them.

    ray: the cluster that RAY_ADDRESS names, or else one on this machine. Raises InputError if it is not installed.
    """
    from joblib import Parallel, cpu_count, parallel_config

    with ExitStack() as stack:
        if engine == "ray":
            cluster = _connect_to_ray()
            count = count or cluster
            stack.enter_context(parallel_config(backend="ray"))
        else:
            stack.enter_context(parallel_config(backend="loky", initializer=end_with_parent, initargs=(os.getpid(),)))
        count = count or cpu_count()
        # Ray's backend gives results only round by round.
        return_as = "list" if engine == "ray" else "generator"
        # Without the folder for large arrays in shared memory, of which there are none: it would outlive a kill.
        memory: dict[str, Any] = {"max_nbytes": None, "temp_folder": tempfile.gettempdir()}
        yield Workers(stack.enter_context(Parallel(n_jobs=count, return_as=return_as, **memory)), count)


def _connect_to_ray() -> int:
    """Make Ray joblib's backend; returns the cluster's CPUs."""
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        raise InputError("--engine ray: ray is not installed; pip install 'audiogen-cli[ray]'") from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False)  # takes RAY_ADDRESS
    register_ray()
    return int(ray.cluster_resources()["CPU"])
