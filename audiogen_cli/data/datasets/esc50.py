"""ESC-50 (Piczak 2015): 2,000 clips of 5 s, 50 classes, 5 folds; not in the paper, for tests and demos.

Folds 1 to 3 train, 4 validates, 5 tests; clips cut from one recording share a fold. A clip's id begins with its fold.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from audiogen_cli.data.datasets.base import Item, find_root, list_audio, read_csv
from audiogen_cli.data.manifest import Split
from audiogen_cli.errors import InputError

SPLIT_OF_FOLD: dict[str, Split] = {"1": "train", "2": "train", "3": "train", "4": "val", "5": "test"}
LICENSE = "CC BY-NC 3.0"
LICENSE_ESC10 = "CC BY 3.0"  # the ESC-10 subset
METADATA = Path("meta", "esc50.csv")


class Esc50:
    """`meta/esc50.csv` and `audio/`, at any depth up to two folders down."""

    key = "esc50"

    def find_root(self, folder: Path) -> Path:
        """The folder that holds meta/esc50.csv, such as `ESC-50-master`. Raises InputError if there is none."""
        expected = f"ESC-50's {METADATA} and audio/ (unpack github.com/karolpiczak/ESC-50 there)"
        return find_root(folder, lambda candidate: (candidate / METADATA).is_file(), expected)

    def items(self, root: Path) -> Iterator[Item]:
        """One item per row of the CSV. A file may have another suffix than the row says (FLAC or OGG copies)."""
        found = {PurePosixPath(path).stem: path for path in list_audio(root / "audio")}
        for number, row in enumerate(read_csv(root / METADATA, ("filename", "fold", "category")), start=1):
            if row["fold"] not in SPLIT_OF_FOLD:
                raise InputError(f"{root / METADATA}, row {number}: fold '{row['fold']}' is none of 1 to 5")
            name = PurePosixPath(row["filename"]).stem
            yield Item(
                name=name,
                split=SPLIT_OF_FOLD[row["fold"]],
                path=f"audio/{found.get(name, row['filename'])}",
                tags=(row["category"].replace("_", " "),),
                # True in the published file, TRUE in copies saved by Excel
                license=LICENSE_ESC10 if row.get("esc10", "").casefold() == "true" else LICENSE,
                missing=name not in found,
            )
