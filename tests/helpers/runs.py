"""Training runs as tests read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_metrics(run: Path, *kinds: str) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl of these kinds ("train", "val"); of all without a kind."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if not kinds or line["kind"] in kinds]


def read_losses(run: Path) -> list[float]:
    """Return the training loss of every logged step."""
    return [line["loss"] for line in read_metrics(run, "train")]
