"""Processes for tests, forked from a server that has imported torch and the package once: each starts at once."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

LIMIT = 800  # seconds, below pytest's own, so that a process which hangs is ended and what it said is shown
server = multiprocessing.get_context("forkserver")
PACKAGE = ("audiogen_cli.lm.training.train", "audiogen_cli.codec.train", "audiogen_cli.lm.generation.generator")
LATE = ("accelerate", "datasets.io.parquet", "tokenizers", "torch._dynamo", "torch._inductor")  # imported on first use
server.set_forkserver_preload([*PACKAGE, *LATE])
sys.path.append(str(Path(__file__).parents[2]))  # last: functions of test files are found, the package as installed


def start(
    function: Callable[..., object], *arguments: object, environment: dict[str, str], output: Path
) -> BaseProcess:
    """Start a process that calls an importable function on one thread; it prints into `output`.out and `output`.err."""
    process = server.Process(target=_call, args=(function, arguments, environment, str(output), Path.cwd()))
    process.start()
    return process


def run_ranks(function: Callable[..., object], *arguments: object, n: int = 2, **more: str) -> list[str]:
    """Call a function in each of n processes, as a launcher starts them; return what each printed to stdout.

    more: variables of their environment.
    """
    with socket.socket() as kept, tempfile.TemporaryDirectory() as folder:
        # Bound until the end, so that the system gives it to nobody else; torch's store may listen on it all the same.
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        # The environment that `accelerate launch` and torchrun give; they themselves would take seconds.
        launch = {
            "WORLD_SIZE": str(n),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(kept.getsockname()[1]),
            "ACCELERATE_USE_CPU": "true",
        } | more
        outputs = [Path(folder, str(rank)) for rank in range(n)]
        processes = [
            start(function, *arguments, environment={**launch, "RANK": path.name, "LOCAL_RANK": path.name}, output=path)
            for path in outputs
        ]
        end = time.monotonic() + LIMIT
        try:
            for process in processes:
                process.join(max(0.0, end - time.monotonic()))
        finally:
            for process in processes:
                process.kill()
        errors = "\n".join(path.with_suffix(".err").read_text() for path in outputs)
        assert [process.exitcode for process in processes] == [0] * n, errors
        return [path.with_suffix(".out").read_text() for path in outputs]


def run_audiogen(*arguments: object) -> None:
    """Run `audiogen ARGUMENTS` and exit with its code: a function for `start` and `run_ranks`."""
    from audiogen_cli.app import main

    sys.argv = ["audiogen", *map(str, arguments)]
    main()


def _call(
    function: Callable[..., object],
    arguments: tuple[object, ...],
    environment: dict[str, str],
    output: str,
    folder: Path,
) -> None:
    import torch

    for stream, suffix in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(output + suffix, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.environ.update(environment)
    os.chdir(folder)
    torch.set_num_threads(1)
    function(*arguments)
