"""What a first command promises on a machine that does something else, too (`pytest -m benchmark`)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs a process bound to a core (Linux)"),
]
SPIN = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"


@contextmanager
def busy_core() -> Iterator[None]:
    """A program of another session, as from another terminal, that keeps one core to itself."""
    core = max(os.sched_getaffinity(0))
    program = subprocess.Popen([sys.executable, "-c", SPIN, str(core)], start_new_session=True)
    try:
        time.sleep(0.5)
        yield
    finally:
        program.kill()
        program.wait()


def seconds(out: Path) -> float:
    """Of a first command, start included."""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    command = [sys.executable, "-m", "audiogen_cli", "generate", "a dog barks", "--seed", "0", "-o", str(out)]
    begun = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - begun


def test_a_busy_core_costs_no_more_than_its_share(tmp_path: Path) -> None:
    quiet = min(seconds(tmp_path / f"quiet{i}.wav") for i in range(2))
    with busy_core():
        busy = min(seconds(tmp_path / f"busy{i}.wav") for i in range(2))
    assert busy <= 3 * quiet, (busy, quiet)
    assert (tmp_path / "busy0.wav").read_bytes() == (tmp_path / "quiet0.wav").read_bytes()
