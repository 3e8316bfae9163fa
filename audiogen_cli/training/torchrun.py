"""`python -m audiogen_cli.training.torchrun`: torchrun, but quiet where the processes have said what happened.

It stops once, however many signals come: Ctrl-C in a terminal reaches it twice, directly and through the command that
started it, and torchrun's own handler would treat the second as a failed shutdown.
"""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType

from audiogen_cli.processes import end_with_parent, handle_signals

if __name__ == "__main__":
    end_with_parent()  # before torch, which takes seconds to import

import psutil
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

SAME_SECONDS = 1.0  # in which two Ctrl-C are one
begun = 0.0


def stop(number: int, frame: FrameType | None) -> None:
    """End the processes with SIGTERM, which lets them save; with a second Ctrl-C while they do, at once."""
    global begun
    if not isinstance(sys.exc_info()[1], SignalException):
        begun = time.monotonic()
        raise SignalException(f"stopped by {signal.Signals(number).name}", sigval=signal.SIGTERM)
    if number == signal.SIGINT and time.monotonic() - begun > SAME_SECONDS:
        for child in psutil.Process().children():
            child.kill()


if __name__ == "__main__":
    try:
        with handle_signals(stop):
            main()
    except SignalException as error:  # passed on to the processes, which have saved their work
        sys.exit(128 + error.sigval)
    except ChildFailedError as error:
        sys.exit(abs(error.get_first_failure()[1].exitcode))
