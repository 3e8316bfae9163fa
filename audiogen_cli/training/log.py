"""Output of a training run: a bar on stderr and one JSON line per logged step in `metrics.jsonl`."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from audiogen_cli.errors import InputError, printable
from audiogen_cli.files import note, parse_json, read_json, read_text, write_text
from audiogen_cli.training.recipe import validate

if TYPE_CHECKING:
    from audiogen_cli.training.throughput import Trial

Track = Callable[[Mapping[str, float], int], None] | None
RUN_FILE = "run.json"
METRICS_FILE = "metrics.jsonl"
# Settings without influence on what is learned, micro_batch but for its random numbers, by present and former names:
# they may differ in a resumed run.
FREE_SETTINGS = frozenset({
    "base_model", "checkpoint_activations", "clips", "compile", "distributed", "keep_checkpoints", "licence", "license",
    "log_every", "max_steps", "micro_batch", "previews", "probe_samples", "samples", "sampling",
    "save_every", "text_cache", "trackers", "validate_clips", "validate_every", "validate_samples",
    "validation_clips", "weights_dtype", "workers",
})  # fmt: skip
LONGEST_SILENCE = 60.0  # seconds between two logged steps, unless one step takes longer
NEW_INPUTS = frozenset({"training_data", "datasets"})


class RunLog:
    """Progress and metrics of one run; silent in every process but the main one.

    run: the run folder. start_step: lines of later steps (from a run that died after its last checkpoint)
    are cut, so that the file reads as one undisturbed run. every: steps between two of its lines. track: takes all
    numbers that are shown, and their step, too.
    """

    def __init__(
        self, run: Path, start_step: int, max_steps: int, every: int = 1, enabled: bool = True, track: Track = None
    ) -> None:
        self.path = run / METRICS_FILE
        self.every, self.enabled, self.track = every, enabled, track
        self.left_out: set[str] = set()
        self.start_step, self._logged = start_step, time.monotonic()
        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not (enabled and sys.stderr.isatty()),
        )
        self.task = self.progress.add_task("training", total=max_steps, completed=start_step, note="")
        if enabled:
            _keep_lines_before(run, start_step)
        if start_step > max_steps:
            self.say(f"warning: step {start_step} is done already: max_steps {max_steps} takes nothing back")
        elif start_step < max_steps and (run / "config.json").is_file():
            self.say(f"{run} stays the model of the training's former end until step {max_steps} is done")

    def __enter__(self) -> RunLog:
        self.progress.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.progress.stop()

    def advance(self, step: int) -> None:
        """Move the bar to `step` finished steps."""
        self.progress.update(self.task, completed=step)

    def due(self, step: int) -> bool:
        """Return whether to show step `step`: the first of this start, one a minute if they are slow, and each kept."""
        late = time.monotonic() - self._logged >= LONGEST_SILENCE
        return step == self.start_step + 1 or late or self._is_kept(step)

    def write(self, step: int, metrics: Mapping[str, float | None], kind: str = "train") -> None:
        """Show numbers; None is what cannot be known here. Those of each `every`-th step go into `metrics.jsonl`."""
        self._logged = time.monotonic()
        if not self.enabled:
            return
        if kind != "train" or self._is_kept(step):
            with self.path.open("a", encoding="utf-8") as file:
                finite = {name: value if isfinite(value or 0) else None for name, value in metrics.items()}
                file.write(json.dumps({"step": step, "kind": kind, **finite}) + "\n")
        numbers = {name: value for name, value in metrics.items() if value is not None}
        if self.track:
            self.track({f"{kind}/{name}": value for name, value in numbers.items()}, step)
        shown = " ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        if self.progress.disable or kind != "train":
            self.say(f"{kind} step {step}: {shown}")
        else:
            self.progress.update(self.task, note=shown)

    def _is_kept(self, step: int) -> bool:
        """Return whether this step's line goes into metrics.jsonl; depends on the step number only."""
        return step == 1 or step % self.every == 0

    def say(self, message: str, everywhere: bool = False) -> None:
        """Print one line for the person watching; everywhere: in every process, not the main one alone."""
        if self.enabled or everywhere:
            self.console.print(printable(message), highlight=False, markup=False, soft_wrap=True)

    def say_trial(self, trial: Trial) -> None:
        """Say what the training will take, and what became of its micro-batch."""
        self.say(trial.describe(int(self.progress.tasks[self.task].remaining or 0)))
        if warning := trial.warn():
            self.say(f"warning: {warning}")

    def leave_out(self, unreadable: Mapping[str, str]) -> None:
        """Name recordings that could not be read, id → reason: each once; in every process, as each reads its own."""
        for id in unreadable.keys() - self.left_out:
            self.left_out.add(id)
            self.say(f"warning: left out: {unreadable[id]} ({len(self.left_out)} so far)", everywhere=True)


def stopped_after(step: int) -> str:
    """Say that a run was stopped, and how it goes on."""
    return f"stopped after step {step}; run the same command again to continue"


@dataclass(frozen=True)
class RunRecord:
    """The content of `run.json`."""

    recipe: dict[str, Any]
    inputs: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)


def read_run(run: Path) -> RunRecord:
    """Read `run.json`. Raises InputError if it is something else."""
    return validate(RunRecord, read_json(run / RUN_FILE), str(run / RUN_FILE))


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Read the lines of `metrics.jsonl`; one that is none, such as a killed process leaves, counts for nothing."""
    path = run / METRICS_FILE
    found = []
    for line in read_text(path, "replace").splitlines() if path.is_file() else ():
        with suppress(InputError):
            metrics = parse_json(line, str(path))
            if isinstance(metrics, dict) and type(metrics.get("step")) is int and isinstance(metrics.get("kind"), str):
                found.append(metrics)
    return found


def record_run(run: Path, recipe: Any, inputs: Mapping[str, Any]) -> None:
    """Write `run.json` (resolved recipe, inputs, versions, command), or check that a resumed run agrees with it.

    recipe: the run's config dataclass. inputs: what the run depends on besides (fingerprints, counts).
    What may change is said where it does. Raises InputError naming the first setting that differs from the one the run
    was started with and may not.
    """
    document = json.loads(json.dumps({"recipe": asdict(recipe), "inputs": dict(inputs)}))
    path = run / RUN_FILE
    # Recordings, unlike shards, come and go: one that turned out to be damaged may be removed. So do a codec's clips.
    free = FREE_SETTINGS | ({"rows"} if inputs.get("source") == "manifests" else set())
    if path.is_file():
        before = read_run(run)
        # Read as a recipe: what an older version did not know then has its default, as it had when the run began.
        recipe_before = validate(type(recipe), _without_free(before.recipe), str(path))
        # Of the data, older versions recorded less.
        new = {name: value for name, value in inputs.items() if name in NEW_INPUTS}
        known = {"recipe": asdict(recipe_before), "inputs": {**new, **before.inputs}}
        for key, old, new in _differences(json.loads(json.dumps(known)), document):
            if not free & set(key.split(".")):
                raise InputError(
                    f"{run} was started with {key} = {old}, now it is {new}: put it back, or train into another --out"
                )
        for key, old, new in _differences({"recipe": before.recipe, "inputs": before.inputs}, document):
            if free & set(key.split(".")) and None not in (old, new):  # None: settings of another version
                settings = document["recipe"]
                schedule = settings.get("schedule", settings.get("optim", {}).get("schedule"))
                moved = key == "recipe.max_steps" and schedule == "cosine"
                note(f"{key} was {old!r:.60}, now it is {new!r:.60}{', where the cosine schedule ends' * moved}")
    run.mkdir(parents=True, exist_ok=True)
    environment = {"python": platform.python_version(), **versions("torch", "audiogen-cli", "accelerate")}
    write_text(path, json.dumps({**document, "versions": environment, "command": sys.argv}, indent=2) + "\n")


def versions(*packages: str) -> dict[str, str]:
    """Return the installed versions of packages; those that are not installed are left out."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _without_free(settings: Any) -> Any:
    if not isinstance(settings, dict):
        return settings
    return {name: _without_free(value) for name, value in settings.items() if name not in FREE_SETTINGS}


def _differences(old: Any, new: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            difference
            for key in sorted({*old, *new})
            for difference in _differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
        ]
    return [] if old == new else [(prefix, old, new)]


def _keep_lines_before(run: Path, step: int) -> None:
    if os.path.lexists(run / METRICS_FILE):  # a link becomes a file: what it leads to is not ours
        kept = [metrics for metrics in read_metrics(run) if metrics["step"] <= step]
        write_text(run / METRICS_FILE, "".join(json.dumps(metrics) + "\n" for metrics in kept))
