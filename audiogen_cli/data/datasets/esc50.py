"""ESC-50 (Piczak 2015): 2,000 clips of 5 s, 50 classes, 5 folds; not in the paper, for tests and demos.

Folds 1 to 3 train, 4 validates, 5 tests; clips cut from one recording share a fold. A clip's id begins with its fold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from audiogen_cli.data.datasets.dataset_folder import AudioIndex, DatasetFolder, Source, SourceItem, not_found, stem
from audiogen_cli.data.manifest import Dropped, Split
from audiogen_cli.data.tables import stream_rows
from audiogen_cli.errors import InputError

SPLIT_OF_FOLD: dict[str, Split] = {"1": "train", "2": "train", "3": "train", "4": "val", "5": "test"}
LICENSE_ESC10 = "CC BY 3.0"  # the ESC-10 subset, where nothing is said of its clips
_LICENSE_LINE = re.compile(r"- \[([\w-]+)\.\w+\]:.*\[([^\[\]]+)\]\s*")


class Esc50(Source):
    """`meta/esc50.csv` and `audio/`, at any depth. A file may have another suffix than its row says (FLAC copies).

    Each clip has the license that a table (`clip,…,license`, or in British spelling) gives it, else the publisher's
    LICENSE file.
    """

    key = "esc50"
    license = "CC BY-NC 3.0"
    terms = "CC BY-NC 3.0 (ESC-10's clips: CC BY): no commercial use; name the recordists, listed in its LICENSE."
    download = "git clone https://github.com/karolpiczak/ESC-50 FOLDER"

    def items(self, tree: DatasetFolder) -> Iterator[SourceItem | Dropped]:
        """Yield one item per row of the CSV. Raises InputError if there is none, or it names a fold beyond 1 to 5."""
        found = tree.find_named("esc50.csv")
        if not found:
            raise not_found(tree, "ESC-50's meta/esc50.csv and audio/ (unpack github.com/karolpiczak/ESC-50 there)")
        path = tree.root / found[0]
        base = found[0].removesuffix("esc50.csv").removesuffix("meta/")
        index = AudioIndex(self.key, tree.audio)
        licenses = _licenses(tree)
        for number, row in enumerate(stream_rows(path, ("filename", "fold", "category")), start=1):
            if row["fold"] not in SPLIT_OF_FOLD:
                raise InputError(f"{path}, row {number}: fold '{row['fold']}' is none of 1 to 5")
            name = stem(row["filename"])
            audio = index.match(name)
            yield SourceItem(
                name=name,
                split=SPLIT_OF_FOLD[row["fold"]],
                path=audio or f"{base}audio/{row['filename']}",
                tags=(row["category"].replace("_", " "),),
                # True in the published file, TRUE in copies saved by Excel
                license=licenses.get(name)
                or licenses.get(name.rpartition("-")[0])
                or (LICENSE_ESC10 if row.get("esc10", "").casefold() == "true" else self.license),
                missing=audio is None,
                recording=row.get("src_file", ""),
            )
        yield from index.unmatched()


def _licenses(tree: DatasetFolder) -> dict[str, str]:
    """Map clips to licenses: by name from a table, or by name without class from the LICENSE file."""
    if found := tree.find_named("licences.csv", "licenses.csv"):
        column = "licence" if found[0].casefold().endswith("licences.csv") else "license"
        rows = stream_rows(tree.root / found[0], ("clip", column))
        return {row["clip"].removesuffix(".wav"): row[column] for row in rows}
    for path in tree.find_named("license", "license.txt", "license.md"):
        lines = (tree.root / path).read_text("utf-8", "replace").splitlines()
        return {match.group(1): match.group(2) for line in lines if (match := _LICENSE_LINE.fullmatch(line))}
    return {}
