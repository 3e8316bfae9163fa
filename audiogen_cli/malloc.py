"""Memory of CPU tensors, by glibc's malloc; with another C library nothing is done here."""

from __future__ import annotations

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def reuse_memory() -> None:
    """Keep freed memory for the next tensors instead of returning it to the system.

    A training step on a CPU frees and asks for the same hundreds of megabytes again and again; with glibc's defaults
    the kernel clears each of those pages anew, which took more than half of a small model's step. The process's peak
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
