"""The datasets that `audiogen prep --datasets` knows, by key."""

from __future__ import annotations

from audiogen_cli.data.datasets.base import Source
from audiogen_cli.data.datasets.esc50 import Esc50
from audiogen_cli.errors import InputError

SOURCES: dict[str, Source] = {source.key: source for source in (Esc50(),)}


def find_source(key: str) -> Source:
    """The dataset called `key`. Raises InputError naming the known ones."""
    if key not in SOURCES:
        raise InputError(f"unknown dataset '{key}': choose from {', '.join(SOURCES)}; for your own sounds use --folder")
    return SOURCES[key]
