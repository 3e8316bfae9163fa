"""Clotho v2.1 (Drossos et al. 2020): Freesound clips of 15 to 30 s with five captions each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from audiogen_cli.data.datasets.dataset_folder import AudioIndex, DatasetFolder, Source, SourceItem, not_found, stem
from audiogen_cli.data.manifest import Dropped, Split
from audiogen_cli.data.tables import stream_rows

SPLITS: dict[str, Split] = {"development": "train", "validation": "val", "evaluation": "test"}
CAPTIONS = tuple(f"caption_{number}" for number in range(1, 6))


class Clotho(Source):
    """`clotho_captions_<split>.csv`, `clotho_metadata_<split>.csv` (licenses, Freesound ids), a folder of audio each.

    A clip is known by its split and name: four names occur in two splits. Three names begin with a blank, which some
    unpacking tools strip; many hold commas, brackets or dots.
    """

    key = "clotho"
    license = "captions: Tampere University, non-commercial, attribution"
    terms = (
        "captions: Tampere University's, non-commercial, with attribution; audio: CC0, BY, BY-NC or Sampling+ by clip."
    )
    download = (
        "pip install zenodo-get && zenodo_get 4783391 -o FOLDER && cd FOLDER && for part in *.7z; do 7z x $part; done"
    )

    def items(self, tree: DatasetFolder) -> Iterator[SourceItem | Dropped]:
        """Yield one item per row of the captions. Raises InputError if there are none."""
        lists = {path: name for path in tree.find_named("clotho_captions_*.csv") if (name := _split_name(stem(path)))}
        if not lists:
            raise not_found(tree, "Clotho's clotho_captions_*.csv and unpacked clotho_audio_*.7z (zenodo.org/4783391)")
        index = AudioIndex(self.key, tree.audio, _audio_key)
        for path, split in lists.items():
            facts = _metadata(tree, split)
            for row in stream_rows(tree.root / path, ("file_name", *CAPTIONS), strip=False):
                name = row["file_name"]
                audio = index.match(f"{split}/{stem(name)}") or index.match(f"{split}/{stem(name.strip())}")
                yield SourceItem(
                    name=f"{split}/{name.strip()}",
                    split=SPLITS[split],
                    path=audio or f"{split}/{name}",
                    captions=tuple(dict.fromkeys(filter(None, (row[column].strip() for column in CAPTIONS)))),
                    license=facts.get(name.strip(), {}).get("license", self.license),
                    missing=audio is None,
                    recording=facts.get(name.strip(), {}).get("sound_id", "").replace("Not found", ""),
                )
        yield from index.unmatched()


def _split_name(folder_or_file: str) -> str | None:
    """Return `development` for `development`, `clotho_audio_development` or `clotho_captions_development`."""
    return next((name for name in SPLITS if folder_or_file.casefold().endswith(name)), None)


def _audio_key(path: str) -> str | None:
    """Return `<split>/<name without suffix>` by the innermost folder called after a split; None if there is none."""
    folders = reversed(PurePosixPath(path).parts[:-1])
    split = next((name for folder in folders if (name := _split_name(folder))), None)
    return split and f"{split}/{stem(path)}"


def _metadata(tree: DatasetFolder, split: str) -> dict[str, dict[str, str]]:
    """Map file names to their rows, if the metadata of a split are there."""
    found = tree.find_named(f"clotho_metadata_{split}.csv")
    rows = stream_rows(tree.root / found[0], ("file_name", "license")) if found else ()
    return {row["file_name"]: row for row in rows}
