"""Telling that memory ran out from other failures."""

from __future__ import annotations


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: the GPU's, or the machine's, which torch tells by a plain RuntimeError."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # torch's, whose import this does not need
        or "can't allocate memory" in str(error)
    )
