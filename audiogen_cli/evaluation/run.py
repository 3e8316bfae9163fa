"""One evaluation, from its options to `results.json`."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from typing import Any

from audiogen_cli.evaluation.config import EvalConfig
from audiogen_cli.evaluation.results import Begin, Findings, Progress
from audiogen_cli.evaluation.tasks.codec import evaluate_codec
from audiogen_cli.evaluation.tasks.continuation import evaluate_continuation
from audiogen_cli.evaluation.tasks.generation import evaluate_generation
from audiogen_cli.files import write_text
from audiogen_cli.training.log import versions

TASKS = {"generation": evaluate_generation, "continuation": evaluate_continuation, "codec": evaluate_codec}
PACKAGES = ("audiogen-cli", "numpy", "soxr", "soundfile", "torch", "onnxruntime", "transformers")


def evaluate(
    config: EvalConfig, progress: Progress = lambda done, total: None, begin: Begin = lambda n: None
) -> dict[str, Any] | None:
    """Run an evaluation, write `<out>/results.json` and return its content.

    begin: called with the number of clips before the work, once all inputs are there.
    In an accelerate launch the main process does so; the others help to generate and to score, and return None.

    Raises InputError if the inputs are unusable, AudiogenError if nothing could be scored.
    """
    findings = TASKS[config.task](config, progress, begin)
    if findings is None:
        return None
    results = _results(config, findings)
    config.out.mkdir(parents=True, exist_ok=True)
    write_text(config.out / "results.json", json.dumps(results, indent=2, allow_nan=False) + "\n")
    return results


def _results(config: EvalConfig, findings: Findings) -> dict[str, Any]:
    found = asdict(findings)
    inputs, run = found.pop("inputs"), found.pop("run")
    packages = PACKAGES + ("visqol-python",) * ("visqol" in findings.metrics)
    partial = findings.n < findings.n_available
    if partial:
        found["warnings"].insert(0, f"partial: {findings.n} of {findings.n_available} clips scored")
    return {
        "task": config.task,
        "split": config.split,
        "partial": partial,
        **found,
        "manifests": str(config.manifests) if config.split else None,
        "reference": str(config.reference) if config.reference else None,
        "model": str(config.model) if config.model else None,
        "limit": config.limit,
        **inputs,
        "versions": {"python": platform.python_version(), **versions(*packages)},
        "run": run,
    }
