"""`python -m audiogen_cli.training.torchrun`: torchrun, but quiet where the processes have said what happened."""

from __future__ import annotations

import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

if __name__ == "__main__":
    try:
        main()
    except SignalException as error:  # passed on to the processes, which have saved their work
        sys.exit(128 + error.sigval)
    except ChildFailedError as error:
        sys.exit(abs(error.get_first_failure()[1].exitcode))
