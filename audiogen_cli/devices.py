"""Devices, their memory, and the processes of an accelerate launch. Nothing here imports torch before it needs to."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, TypeVar

from audiogen_cli.errors import InputError, first_line

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState
    from torch import Tensor

Value = TypeVar("Value")
WAIT = timedelta(days=1)  # of processes for each other: reading, validating, saving or a probe takes some of them long

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


# In messages of errors without a class of their own.
OUT_OF_MEMORY = (
    *("can't allocate memory", "out of memory", "Cannot allocate memory"),  # torch, CUDA and Apple's GPUs; the system
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"),  # the libraries that work on a GPU
    *("could not create a primitive", "could not create a memory object"),  # oneDNN, on a CPU
    *("Failed to allocate memory", "bad_alloc"),  # ONNX Runtime, whose errors are no RuntimeErrors
)

# Control groups, such as containers and batch jobs, of versions 2 and 1, by the name that their list gives them: where
# they lie, and their files of the limit and of what is used, whose part in `memory.stat` gives way.
CONTROL_GROUPS = {
    "": ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    "memory": ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}

LONGEST_REASON = 200  # letters of torch's own words about a device

_ON_GPU = threading.RLock()


def check_device(name: str) -> None:
    """Raise InputError unless `name` could be a device. Imports no torch, so the device may still be absent."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise InputError(f"unknown device '{name}': choose auto, cpu, cuda, cuda:N or mps")


def choose_device(name: str) -> torch.device:
    """Return the device of a name, and make a CUDA device the current one. Raises InputError if there is none of it.

    auto: CUDA, else the CPU. Never Apple's GPU, which lacks float64 and compiles again for every length.
    """
    import torch

    check_device(name := str(name))  # a torch.device, too
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if name == "cuda":  # each process of a launch has its own
            local = os.environ.get("LOCAL_RANK")
            own = int(local) % max(1, torch.cuda.device_count()) if local else torch.cuda.current_device()
            device = torch.device("cuda", own)
        torch.empty(1, device=device)
        if device.type == "cuda":
            torch.cuda.set_device(device)  # what is done on no device in particular takes no memory on another
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
        reason = reason if len(reason) <= LONGEST_REASON else "this torch or machine has none"  # all that it does have
        raise InputError(f"device '{name}' cannot be used here: {reason}") from None
    return device


def current(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return what makes a GPU the current one, where triton's kernels and recordings run; on a CPU it does nothing."""
    import torch

    on_gpu = device.type == "cuda" and torch.cuda.is_initialized()
    return torch.cuda.device(device) if on_gpu else contextlib.nullcontext()


def alone(device: torch.device | str) -> contextlib.AbstractContextManager[object]:
    """Return what lets one thread at a time compute on a GPU: PyTorch's settings of precision are the whole process's.

    On a CPU, where they change nothing, threads do not wait.
    """
    return contextlib.nullcontext() if str(device) == "cpu" else _ON_GPU


def has_native_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 in hardware."""
    import torch

    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


def count_processes() -> int:
    """Return the number of processes of an accelerate launch; 1 outside of one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def count_local_processes() -> int:
    """Return the number of processes of an accelerate launch on this machine; 1 outside of one."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def process_index() -> int:
    """Return this process's number in an accelerate launch; 0 outside of one."""
    return int(os.environ.get("RANK", "0"))


def is_main_process() -> bool:
    """Return whether this process is the one that prints."""
    return process_index() == 0


@contextlib.contextmanager
def first_of_machine() -> Iterator[None]:
    """Let the first process of every machine do this before its others, which find what it has fetched."""
    if count_processes() == 1:
        yield
        return
    with join_processes().local_main_process_first():
        yield


def join_processes() -> PartialState:
    """Connect the processes of an accelerate launch. On CPUs accelerate does so only when asked."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available(), timeout=WAIT)


def agree(value: Value) -> Value:
    """Return the main process's value in every process of an accelerate launch, once all have called this."""
    if count_processes() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    join_processes()
    shared = [value]
    broadcast_object_list(shared)
    return shared[0]


def gather_values(value: Value) -> list[Value]:
    """Return the values of all processes of an accelerate launch, in each, in their order."""
    if count_processes() == 1:
        return [value]
    from accelerate.utils import gather_object

    join_processes()
    found: list[Value] = gather_object([value])
    return found


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out, the GPU's or the machine's."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # torch's, without importing torch
        or any(sign in str(error) for sign in OUT_OF_MEMORY)
    )


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to a device; to a GPU through pinned memory, so that nobody waits for the copy."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def free_memory(device: torch.device) -> float | None:
    """Return the bytes that a GPU, or this machine or container, has left for each process; None of other devices."""
    if device.type == "cuda":
        import torch

        return float(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - used_memory(device))
    if device.type != "cpu":
        return None
    import psutil

    return min(psutil.virtual_memory().available, *_free_in_groups()) / count_local_processes()


def _free_in_groups() -> Iterator[float]:
    """Yield the bytes left in each control group with a limit: this process's own, and those around it."""
    yield math.inf
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kind, own = line.split(":", 2)
            for group in (PurePath(own), *PurePath(own).parents) if kind in CONTROL_GROUPS else ():
                root, limit, used, giving_way = CONTROL_GROUPS[kind]
                with contextlib.suppress(OSError, ValueError, KeyError):  # "max": none
                    most, now = (float(Path(f"{root}{group}/{name}").read_text()) for name in (limit, used))
                    yield most - now + float(read_fields(f"{root}{group}/memory.stat")[giving_way])


def used_memory(device: torch.device) -> int:
    """Return the bytes that this process has on its GPU, else in main memory (0 where not on Linux)."""
    if device.type == "cuda":
        import torch

        return torch.cuda.memory_allocated(device)
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def read_fields(path: str) -> dict[str, str]:
    """Read the first word of each line and the second, where there is one."""
    return {words[0]: words[1] for words in map(str.split, Path(path).read_text().splitlines()) if len(words) > 1}


def reuse_memory() -> None:
    """Keep freed memory for the next CPU tensors instead of returning it to the system; only glibc's malloc can.

    A training step on a CPU frees and asks for the same hundreds of megabytes again and again; with glibc's defaults
    the kernel clears each of those pages again, which took more than half of a small model's step. The process's peak
    memory is the same, but it is never returned.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)  # large blocks, too, come from the heap,
        mallopt(_M_TRIM_THRESHOLD, -1)  # whose end is never given back


def give_back_memory() -> None:
    """Return all freed memory to the system, also that between tensors in use.

    Small tensors that are kept while large ones come and go end up between what those leave, which then no longer fits
    the next large one: memory use grows a hundred times as much as what is kept.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


class _Alone:
    """Count the threads inside of `single_thread`; n_threads: what torch computes with outside of it, 0: not known."""

    lock, users, n_threads = threading.Lock(), 0, 0

    @classmethod
    def look(cls) -> int:
        """Return n_threads, with the lock held: a thread new to torch begins with the last number set, maybe 1."""
        import torch

        if not cls.n_threads or (not cls.users and threading.current_thread() is threading.main_thread()):
            cls.n_threads = torch.get_num_threads()
        return cls.n_threads


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Let torch compute with one thread on the CPU. Other threads may do so at the same time."""
    import torch

    with _Alone.lock:
        _Alone.look()
        _Alone.users += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _Alone.lock:
            _Alone.users -= 1
            torch.set_num_threads(_Alone.n_threads)


def count_threads() -> int:
    """Return the threads that torch computes with on the CPU outside of `single_thread`."""
    with _Alone.lock:
        return _Alone.look()
