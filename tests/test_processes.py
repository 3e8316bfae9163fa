"""Signals end a command tidily, and a parent's end that of its workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from joblib import Parallel

from audiogen_cli.data.preparation.worker_pool import Workers
from audiogen_cli.processes import STOP_SIGNALS, handle_signals, interrupt, is_running

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
print(child.stdout.readline(), flush=True)
child.wait()
"""
CHILD = """
import os, sys, time
from audiogen_cli import processes
{platform}
processes._WATCH_SECONDS = 0.05
processes.end_with_parent()
print(os.getpid(), flush=True)
time.sleep(600)
"""


def wait_for(reached: Callable[[], bool]) -> bool:
    for _ in range(12_000):  # two minutes, in which nothing here ends by itself
        if reached():
            return True
        time.sleep(0.01)
    return False


def is_gone(process: int) -> bool:
    return not is_running(process)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_a_process_that_has_ended_does_not_run_though_nobody_has_waited_for_it() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert is_running(child.pid)
        assert child.stdin is not None
        child.stdin.close()
        assert wait_for(lambda: is_gone(child.pid)) and Path(f"/proc/{child.pid}").exists()


@pytest.mark.parametrize("platform", ["", "processes.sys.platform = 'darwin'"], ids=["linux", "elsewhere"])
def test_a_worker_ends_with_its_parent_however_that_ends(platform: str) -> None:
    command = [sys.executable, "-c", PARENT, CHILD.format(platform=platform)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_running(child)
        parent.kill()
    assert wait_for(lambda: is_gone(child))


POOL = """
import os, time
from audiogen_cli.data.preparation.worker_pool import start_workers
with start_workers(count=2) as workers:
    for number in workers.map(os.getpid, [()] * 4):
        print(number, flush=True)
    time.sleep(600)
"""


STARTING = """
import os, signal, time
from audiogen_cli.data.preparation import worker_pool
from audiogen_cli.processes import end_with_parent

def report(main):
    blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    os.write(1, f"{os.getpid()} {blocked}\\n".encode())  # at once: print may write in pieces, between another's
    time.sleep(0.5)  # the main process is killed in the meantime
    end_with_parent(main)

worker_pool.end_with_parent = report
with worker_pool.start_workers(count=2) as workers:
    list(workers.map(os.getpid, [()] * 4))
"""


def test_workers_that_are_only_starting_end_with_prep_and_are_deaf_to_ctrl_c() -> None:
    with subprocess.Popen([sys.executable, "-c", STARTING], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        lines = [parent.stdout.readline().split() for _ in range(2)]
        assert [blocked for _, blocked in lines] == ["True", "True"]
        parent.kill()
    assert wait_for(lambda: all(is_gone(int(worker)) for worker, _ in lines))


def test_workers_of_prep_end_with_it() -> None:
    with subprocess.Popen([sys.executable, "-c", POOL], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = {int(parent.stdout.readline()) for _ in range(4)}
        assert parent.pid not in workers
        parent.kill()
    assert wait_for(lambda: all(map(is_gone, workers)))


DEAF = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda number, _: pathlib.Path(sys.argv[1], "asked").touch())  # and goes on saving
pathlib.Path(sys.argv[1], "begun").touch()
while True:
    time.sleep(1)
"""


def test_a_second_ctrl_c_ends_a_launch_that_takes_long_to_save(tmp_path: Path) -> None:
    (tmp_path / "deaf.py").write_text(DEAF)
    command = [sys.executable, "-m", "audiogen_cli.training.torchrun", "--standalone", "--signals-to-handle", "SIGQUIT"]
    environment = {**os.environ, "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "3600"}
    with subprocess.Popen([*command, str(tmp_path / "deaf.py"), str(tmp_path)], env=environment) as launch:
        try:
            assert wait_for(lambda: (tmp_path / "begun").exists())
            for _ in range(2):  # a terminal's, and the command's that started it
                launch.send_signal(signal.SIGINT)
            assert wait_for(lambda: (tmp_path / "asked").exists())
            time.sleep(1.5)
            assert launch.poll() is None
            launch.send_signal(signal.SIGINT)
            assert launch.wait(60) == 143
        finally:
            launch.kill()


READERS = """
import os, sys, time
from torch.utils.data import Dataset
from audiogen_cli.training.prefetch import load_batches
from audiogen_cli.training.sampler import RankBatchSampler

class Slow(Dataset):
    def __getitem__(self, i):
        if i and sys.argv[1] == "sleeps":
            time.sleep(600)
        return bytes(10**6) if i else os.getpid()

if __name__ == "__main__":
    batches = load_batches(Slow(), RankBatchSampler(lambda step: [step], range(9), 0, 1), 1, list)
    print(*next(batches), flush=True)
    if sys.argv[1] == "sleeps":
        sys.exit("the disk is full")
    time.sleep(600)
"""


@pytest.mark.parametrize("reader", ["writes", "sleeps"])
def test_readers_of_a_training_end_with_it(reader: str, tmp_path: Path) -> None:
    """With one that is killed while they write to it, and with one that fails while they read."""
    (tmp_path / "train.py").write_text(READERS)
    command = [sys.executable, str(tmp_path / "train.py"), reader]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None and parent.stderr is not None
        worker = int(parent.stdout.readline())
        try:
            if reader == "writes":
                time.sleep(0.5)  # the pipe is full by then
            else:
                assert parent.wait(60) == 1
        finally:
            parent.kill()
        assert parent.stderr.read() == ("" if reader == "writes" else "the disk is full\n")
    assert wait_for(lambda: is_gone(worker))


def test_one_process_works_itself_and_outlives_its_parent() -> None:
    with Parallel(n_jobs=1, return_as="generator") as pool:
        assert list(Workers(pool, 1).map(os.getpid, [()])) == [os.getpid()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_is_ctrl_c_and_a_second_one_does_not_disturb_what_tidies_up(number: signal.Signals) -> None:
    # Tests that run in the background (nohup) ignore some.
    before = {each: signal.signal(each, signal.SIG_DFL) for each in STOP_SIGNALS}
    try:
        interrupts_and_tidies_up(number)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def interrupts_and_tidies_up(number: signal.Signals) -> None:
    tidied, threads = False, threading.excepthook
    with pytest.raises(KeyboardInterrupt), handle_signals(interrupt):
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), signal.SIGTERM if number != signal.SIGINT else signal.SIGCONT)
            tidied, threading.excepthook = True, threads
    assert tidied and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


IMPORTING = """
import os, signal, sys, time
from audiogen_cli.processes import handle_signals, interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background ignores it
with handle_signals(interrupt):
    try:
        import torch
        time.sleep(600)
    except KeyboardInterrupt:
        print("torch" in sys.modules and torch.whole)
"""
TORCH = """
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
time.sleep(0.3)
whole = True
"""


def test_a_signal_waits_until_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(TORCH)
    command, path = [sys.executable, "-c", IMPORTING], f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handle_signals(interrupt):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
