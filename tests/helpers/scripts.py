"""The shell scripts of recipes/, with stand-ins for `audiogen` that only note how they are called."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

# For `audiogen`, and for the python that looks for a GPU and finds none.
STAND_IN = """#!/usr/bin/env bash
[ "$(basename "$0")" = python ] && exit 1
printf '%s\\037' "$@" >>"$CALLS"
echo >>"$CALLS"
"""


def list_calls(folder: Path, script: Path, *arguments: object, **environment: str) -> list[list[str]]:
    """Run a script and return the arguments of every `audiogen` it calls. folder: for the stand-ins."""
    tools, calls = folder / "tools", folder / "calls"
    tools.mkdir()
    for name in ("audiogen", "python"):
        (tools / name).write_text(STAND_IN)
        (tools / name).chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    known = {**os.environ, "PATH": path, "CALLS": str(calls), **environment}
    done = subprocess.run(["bash", script, *map(str, arguments)], env=known, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [line.split("\037")[:-1] for line in calls.read_text().splitlines()]
