"""Results on stdout."""

from __future__ import annotations

import json
import sys
from typing import Any


def to_json(value: Any, indent: int | None = None) -> str:
    """Return JSON that stdout can hold: letters as they are, escaped where its encoding lacks one of them."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text
