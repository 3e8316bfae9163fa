"""Out-of-memory errors, whatever raised them."""

from __future__ import annotations


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out: the GPU's, or the machine's, for which torch raises a plain RuntimeError."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # torch's, without importing torch
        or "can't allocate memory" in str(error)
    )
