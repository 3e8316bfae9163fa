"""The C library's heap, where a CPU's tensors lie: glibc's; with another library, nothing is done here."""

from __future__ import annotations

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def reuse_memory() -> None:
    """Have the C library keep freed memory for the next tensors instead of handing it back to the system.

    A training step on a CPU frees and asks for the same hundreds of megabytes again and again; with glibc's defaults
    the kernel clears each of those pages anew, which took more than half of a small model's step. The process' peak
    memory is the same, but it keeps it.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)  # large blocks, too, come from the heap,
        mallopt(_M_TRIM_THRESHOLD, -1)  # whose end is never given back


def give_back_memory() -> None:
    """Hand all freed memory back to the system, also that between tensors in use.

    Small tensors that are kept while large ones come and go end up amid what those leave, which then no longer fits
    the next large one: the heap grows with what is kept, a hundredfold.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
