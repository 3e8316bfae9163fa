"""Speed of starting: whole processes, beside the import of torch that none can do without."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from audiogen_cli.bench.timing import time_in_turn
from audiogen_cli.model_folder import find_model

PROMPT = "a dog barks"


def measure_start(model: str | None, repeats: int) -> dict[str, Any]:
    """Time the import of torch, the loading of a model and one whole `audiogen generate`, each in a new process.

    Ratios are medians over that of the import. Raises InputError if there is no such model, CalledProcessError if one
    of them fails.
    """
    find_model(model)
    load = f"from audiogen_cli.lm.generation.generator import Generator; Generator.load({model!r})"
    with tempfile.TemporaryDirectory(prefix="audiogen-bench-") as folder:
        generate = ["-m", "audiogen_cli", "generate", PROMPT, "-o", str(Path(folder) / "sound.wav"), "--seed", "0"]
        commands = {
            "torch": ["-c", "import torch"],
            "load": ["-c", load],
            "generate": generate + (["--model", model] if model else []),
        }
        runs: dict[str, Callable[[], Any]] = {name: partial(_run, command) for name, command in commands.items()}
        timings = time_in_turn(runs, repeats)
    seconds = {f"{name}_s": timings.median(name) for name in runs}
    ratios = {f"{name}_torch_ratio": timings.ratio(name, "torch") for name in runs if name != "torch"}
    return {**seconds, **ratios, "repeats": repeats}


def _run(arguments: list[str]) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
