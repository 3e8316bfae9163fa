"""Totals of manifests and token shards: rows and hours, counted by column, without reading the rest."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from audiogen_cli.data.manifest import SPLITS, manifest_files, read_columns
from audiogen_cli.data.shards import read_meta, read_shard, shard_files


@dataclass
class Totals:
    """Counts of one stage's data. rows, hours: by split. licenses: rows of each license. mixed: rows that are mixes."""

    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    hours: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0.0))
    licenses: dict[str, int] = field(default_factory=dict)
    mixed: int = 0

    def add(self, split: str, rows: int, hours: float, license: str = "") -> None:
        """Count `rows` rows of a split, which last `hours` in all."""
        self.rows[split] += rows
        self.hours[split] += hours
        if license:
            self.licenses[license] = self.licenses.get(license, 0) + rows


def manifest_totals(source: Path, datasets: Collection[str] = (), splits: Collection[str] = ()) -> Totals:
    """Count the clips of manifests; no datasets or splits: all. Raises InputError as `manifest_files` does."""
    found = Totals()
    for path in manifest_files(source, datasets or None):
        table = read_columns(path, ["split", "license", "duration"])
        groups = table.group_by(["split", "license"]).aggregate([("duration", "sum"), ("duration", "count")])
        for group in groups.to_pylist():
            if not splits or group["split"] in splits:
                hours = group["duration_sum"] / 3600
                found.add(group["split"], group["duration_count"], hours, group["license"])
    return found


def shard_totals(folder: Path) -> Totals:
    """Count the rows of token shards. Raises InputError as `read_meta` does."""
    import pyarrow.compute as pc

    meta = read_meta(folder)
    frames_per_hour = meta.frame_rate * 3600
    found = Totals()
    for path in shard_files(folder):
        table = read_shard(path, meta, ["split", "n_frames", "sources"])
        found.mixed += pc.sum(pc.greater(pc.list_value_length(table["sources"]), 0)).as_py() or 0
        groups = table.group_by("split").aggregate([("n_frames", "sum"), ("n_frames", "count")])
        for group in groups.to_pylist():
            found.add(group["split"], group["n_frames_count"], group["n_frames_sum"] / frames_per_hour)
    return found
