"""Whole manifests written and read at once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiogen_cli.data.manifest import Clip, new_manifest, stream_manifest


@dataclass(frozen=True)
class Manifest:
    """A manifest as read. metadata: `format_version`, `dataset`, `root`, `options` (decoded)."""

    clips: list[Clip]
    root: Path
    metadata: dict[str, Any]


def write_manifest(path: Path, clips: Iterable[Clip], metadata: Mapping[str, Any]) -> None:
    """Write a manifest, whole or not at all; see `new_manifest`."""
    with new_manifest(path, metadata) as writer:
        for clip in clips:
            writer.add(clip)


def read_manifest(path: Path) -> Manifest:
    """Read and check one manifest. Raises InputError if it is absent, damaged or no manifest."""
    metadata, _, clips = stream_manifest(path)
    return Manifest(list(clips), Path(metadata["root"]), metadata)
