"""JSON files as publishers write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from audiogen_cli.errors import InputError


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises InputError if it is none."""
    try:
        return json.loads(path.read_text("utf-8-sig", "replace"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON: {error}") from None
