"""FSD50K (Fonseca et al. 2022): Freesound clips with labels of the AudioSet ontology and their uploaders' words."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any, cast

from audiogen_cli.data.datasets.dataset_folder import AudioIndex, DatasetFolder, Source, SourceItem, not_found
from audiogen_cli.data.manifest import SPLITS, Dropped
from audiogen_cli.data.tables import stream_rows
from audiogen_cli.files import read_json

LONGEST_CAPTION = 20  # words: ours, longer descriptions tell of recorders, licenses and the uploader's other work
_TAG = re.compile(r"<[^>]*>")
_ADVERT = re.compile(r"https?:|www\.|@|\bfreesound\b|\blicen[cs]e|\bcredit|\brecorded (with|on|using)\b", re.IGNORECASE)


class Fsd50k(Source):
    """`FSD50K.ground_truth/dev.csv` and `eval.csv`, `FSD50K.metadata/*_clips_info_FSD50K.json` and audio by number.

    Tags are the labels (with all their ancestors, as published). # ours, where the paper's table says `tags &
    captions`: the uploader's description is a caption if it is one sentence about the sound and no more.
    """

    key = "fsd50k"
    license = "CC BY 4.0"
    terms = "CC BY 4.0 as a dataset; its clips are CC0, BY, BY-NC or Sampling+, each clip's licence is in the manifest."
    download = (
        "pip install zenodo-get && zenodo_get 4060432 -o FOLDER && cd FOLDER && for part in dev eval; do"
        " zip -s 0 FSD50K.${part}_audio.zip --out $part.zip && unzip $part.zip; done;"
        " unzip FSD50K.ground_truth.zip && unzip FSD50K.metadata.zip"
    )

    def items(self, tree: DatasetFolder) -> Iterator[SourceItem | Dropped]:
        """Yield one item per row. Raises InputError if neither list is there."""
        lists = [path for path in tree.other if path.endswith(("ground_truth/dev.csv", "ground_truth/eval.csv"))]
        if not lists:
            raise not_found(
                tree, "FSD50K.ground_truth/dev.csv and eval.csv, and joined, unpacked audio (zenodo.org/4060432)"
            )
        index = AudioIndex(self.key, tree.audio)
        for path in lists:
            part = path.rpartition("/")[2].removesuffix(".csv")
            infos = _clip_infos(tree, part)
            required = ("fname", "labels", "split") if part == "dev" else ("fname", "labels")
            for row in stream_rows(tree.root / path, required):
                split = row["split"] if part == "dev" else "test"
                if split not in SPLITS:
                    detail = f"{path}: split '{split}' is neither train nor val"
                    yield Dropped(f"{self.key}/{row['fname']}", "", "", "damaged row", detail)
                    continue
                info = infos.get(row["fname"], {})
                audio = index.match(row["fname"])
                yield SourceItem(
                    name=row["fname"],
                    split=split,
                    path=audio or f"FSD50K.{part}_audio/{row['fname']}.wav",
                    captions=_captions(str(info.get("description", ""))),
                    tags=tuple(label_words(label) for label in row["labels"].split(",") if label),
                    license=str(info.get("license", self.license)),
                    missing=audio is None,
                    recording=row["fname"],
                )
        yield from index.unmatched()


def label_words(label: str) -> str:
    """Turn `Male_speech_and_man_speaking` into `Male speech, man speaking`; AudioSet has commas for `_and_`."""
    return re.sub(r"[()]", "", label.replace("_and_", ", ").replace("_", " "))


def _clip_infos(tree: DatasetFolder, part: str) -> dict[str, dict[str, Any]]:
    """Map clip numbers to title, description, tags, license, uploader; empty if the metadata are not there."""
    found = tree.find_named(f"{part}_clips_info_fsd50k.json")
    return cast("dict[str, dict[str, Any]]", read_json(tree.root / found[0], "replace")) if found else {}


def _captions(description: str) -> tuple[str, ...]:
    """Return the description as a caption, or nothing."""
    text = " ".join(html.unescape(_TAG.sub(" ", description)).split())
    return (text,) if 0 < len(text.split()) <= LONGEST_CAPTION and not _ADVERT.search(text) else ()
