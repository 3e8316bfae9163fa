"""Parquet files mapped into memory by Hugging Face `datasets`: manifests and token shards are read through it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from audiogen_cli.files import cache_folder

if TYPE_CHECKING:
    import datasets

CACHE = ".cache"


def map_parquet(files: Sequence[Path], folder: Path, batch_rows: int) -> datasets.Dataset:
    """Map all rows of `files`, in order, `batch_rows` at a time: two million take disk, not memory.

    The Arrow files that `datasets` maps are in `<folder>/.cache`, or in the user's cache folder if `folder` is
    read-only. They are written again when a file changes.
    """
    import datasets

    datasets.disable_progress_bars()
    cache = folder / CACHE if os.access(folder, os.W_OK) else cache_folder() / "mapped"
    return datasets.Dataset.from_parquet(
        [str(path) for path in files],
        cache_dir=str(cache),
        batch_size=batch_rows,  # the size that it would choose for an empty shard is 0, which it then refuses
    )


def forget_mapped(folder: Path) -> None:
    """Delete the Arrow files of `folder`, whose Parquet files are about to be replaced."""
    shutil.rmtree(folder / CACHE / "parquet", ignore_errors=True)
