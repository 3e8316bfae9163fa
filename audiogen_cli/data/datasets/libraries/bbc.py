"""BBC Sound Effects: archive recordings of 1 s to 27 min with one description each."""

from __future__ import annotations

import re
from collections.abc import Iterator

from audiogen_cli.data.datasets.dataset_folder import AudioIndex, DatasetFolder, Source, SourceItem, not_found, stem
from audiogen_cli.data.manifest import Dropped
from audiogen_cli.data.tables import first_row, stream_rows
from audiogen_cli.errors import InputError
from audiogen_cli.files import read_json

COLUMNS = ("location", "description", "secs", "category", "CDNumber", "CDName", "tracknum")
# `07076051`, `NHU05065069`; alone, or after the description and `.`, ` - ` or `_`
_NUMBERED = re.compile(r"(?:(.*?)(?:\.|[\s_]-?\s?))?((?:[A-Z]{3})?\d{7,8})", re.DOTALL)


class Bbc(Source):
    """`BBCSoundEffects.csv` (by its columns, whatever its name) or a saved JSON list, and audio in any folder.

    A file is known by the number its name ends with. One that no list describes is described by the text
    embedded in it, or the rest of its name, as in archive.org's `sounds/<CD>/<description>.<number>.wav`. All train.
    """

    key = "bbc"
    license = "RemArc: non-commercial"
    terms = "the RemArc licence: personal, educational or research use, not commercial; the files must not be shared."
    download = (
        "wget -P FOLDER https://raw.githubusercontent.com/FThompson/BBCSoundDownloader/master/BBCSoundEffects.csv"
        " && pip install internetarchive && ia download BBCSoundEffectsComplete --destdir FOLDER"
    )

    def items(self, tree: DatasetFolder) -> Iterator[SourceItem | Dropped]:
        """Yield one item per described sound, then one per numbered file beyond those."""
        descriptions = _descriptions(tree)
        if not descriptions and not any(_number(path) for path in tree.audio):
            raise not_found(tree, "BBCSoundEffects.csv and <number>.wav files, or <description>.<number>.wav files")
        index = AudioIndex(self.key, tree.audio, _number)
        for number, text in descriptions.items():
            audio = index.match(number)
            captions = (text,) if text else ()
            yield SourceItem(number, "train", audio or f"{number}.wav", captions, missing=audio is None)
        for path in tree.audio:
            unlisted = _number(path)
            if unlisted and unlisted not in descriptions and (audio := index.match(unlisted)):
                yield SourceItem(unlisted, "train", audio, _name_captions(audio), embedded=True)
        yield from index.unmatched()


def _number(path: str) -> str | None:
    match = _NUMBERED.fullmatch(stem(path))
    return match and match.group(2)


def _name_captions(path: str) -> tuple[str, ...]:
    """Return the description in a name, where `_` stands for forbidden characters or belongs to `BBC_<category>_`."""
    match = _NUMBERED.fullmatch(stem(path))
    text = (match.group(1) or "").removeprefix("BBC_").replace("_", " ").strip(" .-") if match else ""
    return (text,) if text else ()


def _descriptions(tree: DatasetFolder) -> dict[str, str]:
    """Map numbers to descriptions, from every list in the folder."""
    found: dict[str, str] = {}
    for path in tree.other:
        if path.casefold().endswith(".csv"):
            pairs = _csv_pairs(tree, path)
        elif path.casefold().endswith(".json"):
            pairs = _json_pairs(tree, path)
        else:
            continue
        for number, text in pairs:
            found.setdefault(number, text)
    return found


def _csv_pairs(tree: DatasetFolder, path: str) -> Iterator[tuple[str, str]]:
    first = first_row(tree.root / path)
    if first[:2] == ["location", "description"]:
        rows = stream_rows(tree.root / path)
    elif first and first[0].casefold().endswith(".wav"):  # copies without the header are about
        rows = stream_rows(tree.root / path, header=COLUMNS)
    else:
        return
    yield from ((stem(row["location"]), row["description"]) for row in rows)


def _json_pairs(tree: DatasetFolder, path: str) -> Iterator[tuple[str, str]]:
    """Read a list of objects with `id` and `description`, or an object with such a list (the BBC's API, WavCaps)."""
    try:
        document = read_json(tree.root / path, "replace")
    except InputError:  # not known by its name, so perhaps not meant
        return
    lists = document.values() if isinstance(document, dict) else [document]
    for entries in lists:
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and "id" in entry and "description" in entry:
                yield str(entry["id"]), str(entry["description"])
