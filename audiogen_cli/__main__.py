"""`audiogen` and `python -m audiogen_cli`, and so `accelerate launch -m audiogen_cli`: the command line as a process.

torch brings a million objects that live to the process's end. Python looks through them again and again while they are
made, and takes them down one by one at the end: together a third of what `import torch` takes, which nobody needs.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from contextlib import suppress

from audiogen_cli.app import main

NEW_OBJECTS = 10_000  # before Python looks for unused ones; its own 700 make the import of torch a fifth longer


def run() -> None:
    """Run the command line of this process and end the process with its code.

    Under a profiler or the like, which has work of its own at the end, Python ends as it always does.
    """
    gc.set_threshold(NEW_OBJECTS)
    codes: list[int] = []
    if not getattr(atexit, "_ncallbacks", lambda: 1)():
        atexit.register(_leave, codes)  # the first to be registered is called last
    try:
        main()
    except SystemExit as ended:
        if isinstance(ended.code, int):
            codes.append(ended.code)
        raise


def _leave(codes: list[int]) -> None:
    """End the process before the interpreter takes itself down; threads have ended, and files must have been closed."""
    for code in codes:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # None if it was closed from the start
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    run()
