"""Start and stop a training: accelerate's processes, and signals that end it with nothing lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterable
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING, Any

from audiogen_cli.devices import WAIT, count_processes, has_native_bfloat16, is_main_process
from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.files import note
from audiogen_cli.processes import STOP_SIGNALS, end_with_parent, handle_signals

if TYPE_CHECKING:
    from accelerate import Accelerator

STOPPED = frozenset({130, *(code for number in STOP_SIGNALS for code in (128 + number, -number))})  # exit codes
PATIENCE = 3600  # seconds


def relaunch(processes: int) -> None:
    """Run this very command line again in `processes` accelerate processes and wait for them.

    Raises AudiogenError if they fail (their own message has been printed by then), InputError if GPUs are too few,
    KeyboardInterrupt if a signal stopped them.
    """
    import torch
    from joblib import cpu_count

    if 0 < torch.cuda.device_count() < processes:
        raise InputError(f"--processes {processes}: this machine has {torch.cuda.device_count()} GPU(s), one a process")
    arguments = _without_option(sys.argv[1:], "--processes")
    # torchrun, which accelerate understands: on CPUs `accelerate launch --num_processes` starts one process only.
    torchrun = [sys.executable, "-m", "audiogen_cli.training.torchrun", "--standalone"]
    torchrun += ["--signals-to-handle", "SIGQUIT"]  # the module handles the others
    command = [*torchrun, "--nproc_per_node", str(processes)]
    threads = max(1, cpu_count() // processes)
    # torchrun kills processes that take longer to end their step and save; see `torchrun.stop` for a second Ctrl-C.
    patience = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(PATIENCE)}
    environment = {"OMP_NUM_THREADS": str(threads), **patience, **os.environ}
    if not torch.cuda.device_count():
        environment["ACCELERATE_USE_CPU"] = "true"
    child = subprocess.Popen([*command, "-m", "audiogen_cli", *arguments], env=environment)
    with handle_signals(lambda number, _: child.send_signal(number)):
        code = child.wait()
    if code in STOPPED:
        raise KeyboardInterrupt
    if code:
        raise AudiogenError(f"the work in {processes} processes ended with exit code {code}; see above")


def start_accelerator(precision: str, **settings: Any) -> Accelerator:
    """Join accelerate's processes. precision: no or bf16, for autocast; settings: accelerate's own.

    A GPU without bfloat16 (before Ampere) computes in float32 and says so, as does a CPU, where emulation took 15
    times as long for a step of lm-tiny (AMD EPYC of the Zen 3 generation).
    """
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

    on_gpu = torch.cuda.is_available()
    able = torch.cuda.get_device_capability() >= (8, 0) if on_gpu else has_native_bfloat16()
    if precision == "bf16" and not able:
        precision = "no"
        if is_main_process():
            note(f"this {'GPU' if on_gpu else 'CPU'} has no bfloat16: training in float32")
    # torch 2.14 wants another name for it, which accelerate does not pass on yet.
    warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
    ddp = DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False)
    handlers = [InitProcessGroupKwargs(timeout=WAIT), ddp]
    AcceleratorState._reset_state()  # else the process would be bound to the precision of its first training
    # Else accelerate would take Apple's GPU, which lacks float64.
    return Accelerator(mixed_precision=precision, kwargs_handlers=handlers, **{"cpu": not on_gpu, **settings})


def check_trackers(names: Iterable[str]) -> None:
    """Raise InputError if a tracker's package is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise InputError(f"trackers: {name} is not installed: pip install {name}, or leave it out")


class StopSignal:
    """Turns Ctrl-C, SIGTERM and SIGHUP into a flag, so that a loop can leave its step and save the last whole one.

    A second signal stops at once. In a launch only a second Ctrl-C does: torchrun passes the first on as SIGTERM.
    """

    def __init__(self) -> None:
        self.received: set[int] = set()
        self._handling = handle_signals(self._handle)

    def __enter__(self) -> StopSignal:
        self._handling.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._handling.__exit__(*raised)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received and (count_processes() == 1 or (number == signal.SIGINT and number in self.received)):
            raise KeyboardInterrupt
        if not self.received and is_main_process():
            os.write(2, b"stopping and saving; Ctrl-C again stops at once\n")  # print may be at work already
        self.received.add(number)

    def asked(self) -> bool:
        """Return whether this process has received a signal to stop."""
        return bool(self.received)

    def agreed(self, accelerator: Accelerator) -> bool:
        """Return whether any process has received a signal to stop; every process gets the same answer."""
        return in_any_process(self.asked(), accelerator)


def in_any_process(flag: bool, accelerator: Accelerator) -> bool:
    """Return whether the flag is set in any process. Every process must call it."""
    import torch

    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor([float(flag)], device=accelerator.device), "sum").item())


def ignore_signals(worker: int) -> None:
    """Ignore signals in a data worker: the main process acts on one sent to the whole group, after its step.

    Without the main process it ends at once, also while it writes to a pipe that nobody reads any more.
    """
    end_with_parent(by=getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows lacks it
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _without_option(arguments: list[str], option: str) -> list[str]:
    values = {place + 1 for place, argument in enumerate(arguments) if argument == option}
    others = (argument for place, argument in enumerate(arguments) if place not in values)
    return [argument for argument in others if argument.partition("=")[0] != option]
