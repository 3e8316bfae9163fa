"""Start a command, kill it at a random moment, and compare what the next run ends with to an undisturbed one's."""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from helpers.processes import run_audiogen, start
from kills.stages import environment

TIDY = 60.0  # seconds until a command that was told to stop must have ended; a machine may be busy with others
GONE = 10.0  # seconds of a core after its end until nothing that it started may be left
LONGEST = 240.0  # seconds of a whole run
IMPORTS = 5.0  # seconds of computing, about, that a new interpreter needs to begin
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TIMES = {"step_seconds", "tokens_per_s", "data_wait", "memory_gb", "mfu"}  # of metrics.jsonl
LEFT = re.compile(r".*(\.tmp|\.incomplete|-journal)|\.audiogen\.lock")


@dataclass
class Chain:
    """What happened from the first start of a command to its undisturbed end. kills, faults: in words. sent: signals
    that met a process."""

    sent: int = 0
    processes: list[int] = field(default_factory=list)
    kills: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def run_in_session(*arguments: object) -> None:
    """Run `audiogen ARGUMENTS` in a session of its own, with the signals of a terminal."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    multiprocessing.set_start_method("fork", force=True)  # the usual one, not that of this process itself
    import audiogen_cli.app  # noqa: F401 - not killed at what `fresh` interpreters do

    code: object = 0
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        run_audiogen(*arguments)
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:  # sent while signals were blocked
        code = 130
    # The end of an interpreter, parts of which a process that was forked leaves out or does in another order.
    with suppress(KeyboardInterrupt):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    os._exit(code if isinstance(code, int) else 1)


class Command:
    """A command at work. fresh: as a new interpreter; else forked from one that has imported torch."""

    def __init__(self, arguments: list[str], folder: Path, output: Path, fresh: bool) -> None:
        self.errors = output.with_suffix(".err")
        self.fresh = fresh
        if fresh:
            with self.errors.open("w") as errors:
                self.popen = subprocess.Popen(
                    [sys.executable, "-m", "audiogen_cli", *arguments],
                    cwd=folder,
                    env={**os.environ, **environment(folder)},
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    preexec_fn=_like_a_shell,
                )
            self.pid = self.popen.pid
        else:
            os.chdir(folder)
            self.process = start(run_in_session, *arguments, environment=environment(folder), output=output)
            assert self.process.pid
            self.pid = self.process.pid
            while self.process.is_alive() and os.getsid(self.pid) != self.pid:  # it has yet to begin
                time.sleep(0.002)

    def wait(self, seconds: float) -> int | None:
        """Return the exit code, negative for a signal; None if it goes on."""
        if self.fresh:
            try:
                return self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                return None
        self.process.join(seconds)
        return self.process.exitcode

    def wait_for(self, work: float) -> int | None:
        """Wait until it has computed for some seconds; return its exit code if it ends before, else None."""
        while (code := self.wait(0.005)) is None and self.work() < work:
            pass
        return code

    def work(self) -> float:
        """Return for how many seconds it has computed: its own work, whatever else the machine has to do."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def send(self, number: signal.Signals, group: bool) -> None:
        """Send a signal to the process, or to all in its group."""
        with suppress(ProcessLookupError):  # it has ended
            (os.killpg if group else os.kill)(self.pid, number)

    def said(self) -> str:
        """Return what it wrote to stderr."""
        return self.errors.read_text(errors="replace") if self.errors.exists() else ""

    def left(self) -> list[int]:
        """List the processes of its session that go on."""
        return [process for process, session, state in _processes() if session == self.pid and state not in "ZX"]

    def end(self) -> None:
        """Kill whatever is left of it."""
        for process in self.left():
            os.kill(process, signal.SIGKILL)


def run_calmly(arguments: list[str], folder: Path) -> tuple[dict[str, bytes], float]:
    """Run a command undisturbed; return its files, and for how many seconds it computes."""
    command = Command(arguments, folder, folder.parent / "calm", fresh=False)
    work = 0.0
    while (code := command.wait(0.02)) is None:
        work = max(work, command.work())
    assert code == 0, command.said()
    assert not list(leftovers(folder))
    return results(folder / "out"), work


def run_chain(arguments: list[str], folder: Path, calm: dict[str, bytes], work: float, random: Random) -> Chain:
    """Kill a command one to three times, then let it end; `work` is what it takes undisturbed, `calm` its files."""
    chain = Chain()
    for _ in range(random.randint(1, 3)):
        _kill_once(arguments, folder, work, random, chain)
    command = Command(arguments, folder, folder.parent / "last", fresh=False)
    code = command.wait(LONGEST)
    if code != 0:
        last = (command.said().strip().splitlines() or [""])[-1]
        chain.faults.append(f"the last run ends with {code}: {last}")
    _check_gone(command, chain)
    chain.faults += [f"leaves {path}" for path in leftovers(folder)]
    shared = (path for process in chain.processes for path in Path("/dev/shm").glob(f"*[_-]{process}[_-]*"))
    chain.faults += [f"leaves {path}" for path in shared]
    found = results(folder / "out")
    for name in sorted(calm.keys() | found.keys()):
        if calm.get(name) != found.get(name):
            how = "is missing" if name not in found else "is not in a calm run" if name not in calm else "differs"
            chain.faults.append(f"{name} {how}")
    return chain


def _kill_once(arguments: list[str], folder: Path, work: float, random: Random, chain: Chain) -> None:
    fresh = random.random() < 0.1
    number, group = random.choice(SIGNALS), random.random() < 0.5
    moment = random.uniform(0, work + IMPORTS * fresh)
    command = Command(arguments, folder, folder.parent / "killed", fresh)
    chain.processes.append(command.pid)
    code = command.wait_for(moment)
    time.sleep(random.uniform(0, 0.01))  # the clock of its work ticks that slowly
    early = code is not None
    command.send(number, group)
    if not early:
        code = command.wait(TIDY)
    words = f"{'fresh ' if fresh else ''}{number.name} {'group' if group else 'parent'} at {moment:.2f} s"
    chain.kills.append(f"{words} → {code}{' (had ended)' if early else ''}")
    chain.sent += not early
    if code is None:
        chain.faults.append(f"{words}: has not ended after {TIDY:.0f} s")
    elif number == signal.SIGKILL and code not in (0, -signal.SIGKILL):
        chain.faults.append(f"{words}: exit code {code}")
    # Python ends by SIGINT where a KeyboardInterrupt, though handled, has passed through an `exec` of text.
    elif number != signal.SIGKILL and code not in (0, 130, -number, 128 + number, -signal.SIGINT):
        chain.faults.append(f"{words}: exit code {code}: {command.said()[-300:]}")
    if not fresh and "Traceback" in command.said():  # an interpreter that has not yet begun cannot help it
        chain.faults.append(f"{words}: {command.said()[-600:]}")
    _check_gone(command, chain)


def _check_gone(command: Command, chain: Chain) -> None:
    end = time.monotonic() + GONE * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    while command.left() and time.monotonic() < end:
        time.sleep(0.05)
    if left := command.left():
        names = [Path(f"/proc/{process}/cmdline").read_bytes()[:100] for process in left]
        chain.faults.append(f"{len(left)} processes are left after {GONE:.0f} s: {names[0]!r}")
        command.end()


def leftovers(folder: Path) -> Iterator[Path]:
    """Yield what only a run at work may have in its folder, and whatever there is in that for temporary files."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if LEFT.fullmatch(path.name) or (name.parts[0] == "tmp" and len(name.parts) == 2):
            yield name


def results(out: Path) -> dict[str, bytes]:
    """Return the files of an output folder without caches, and without what a clock has written into them."""
    found = {str(path.relative_to(out)): path for path in out.rglob("*") if path.is_file()}
    return {name: _timeless(path) for name, path in found.items() if "/." not in f"/{name}"}


def _timeless(path: Path) -> bytes:
    if path.name == "metrics.jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        kept = [{name: value for name, value in line.items() if name not in TIMES} for line in lines]
        return json.dumps(kept).encode()
    if path.name == "results.json":
        document = json.loads(path.read_text())
        return json.dumps({name: value for name, value in document.items() if name != "run"}).encode()
    if path.suffix == ".pt":
        import torch

        return repr(_plain(torch.load(path, weights_only=True))).encode()
    return path.read_bytes()


def _plain(value: Any) -> Any:
    """Take the bytes of tensors out of a training's state, of which two equal ones may be files that differ."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return (value.dtype, value.shape, value.numpy().tobytes()) if hasattr(value, "numpy") else value


def renew(world: Path, folder: Path) -> None:
    """Put a copy of the world in the place of a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(world, folder, copy_function=os.link)


def _like_a_shell() -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _processes() -> Iterator[tuple[int, int, str]]:
    """Yield number, session and state of every process."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        yield int(folder.name), int(fields[3]), fields[0]
