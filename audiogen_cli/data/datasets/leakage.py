"""Clips of evaluation sets that other datasets would bring into training: cuts of the same recordings.

AudioCaps' val and test clips are in AudioSet's unbalanced list, AudioSet's eval clips in VGG-Sound, some of whose test
clips are in AudioCaps; Clotho, FSD50K and ESC-50 take from Freesound what another of them tests on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from audiogen_cli.data.datasets.dataset_folder import DatasetFolder, DatasetNotFound, SourceItem, scan_folder
from audiogen_cli.data.datasets.registry import SOURCES
from audiogen_cli.data.manifest import Dropped

# dataset → those whose evaluation clips it may hold
OVERLAPS = {
    "audioset": ("audiocaps", "audioset", "vggsound"),
    "audiocaps": ("vggsound",),
    "vggsound": ("audiocaps", "audioset"),
    "clotho": ("fsd50k", "esc50"),
    "fsd50k": ("clotho", "esc50"),
    "esc50": ("clotho", "fsd50k"),
}
NEEDED = ("audiocaps", "audioset")  # whose lists are asked for: models are compared on these
LISTS = {"clotho": "clotho_metadata_*.csv"}  # names recordings; without it `prep` knows the clips, but not those


def held_out_recordings(dataset: str, tree: DatasetFolder, raw: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Map recordings that `dataset` must not train on to their evaluation split, and needed datasets whose test list is
    absent to a warning.

    tree: the dataset's own. The others' lists are those in `<raw>/<key>`, whether or not these are prepared, too.
    """
    recordings: dict[str, str] = {}
    warnings = {}
    for other in OVERLAPS.get(dataset, ()):
        folder = raw / other
        lists = tree if other == dataset else scan_folder(folder) if folder.is_dir() else None
        found = dict(_evaluation_recordings(other, lists)) if lists else {}
        if f"{other} test" not in found.values() and (lists or other in NEEDED) and other != dataset:
            wanted = LISTS.get(other, "lists")
            warnings[other] = (
                f"{dataset}: NOT held out: {other}'s evaluation clips, for {folder} does not hold their {wanted}."
                f" A model trained on this must not be scored on {other}: put them there (no audio needed), run again"
            )
        recordings |= found
    return recordings, warnings


def _evaluation_recordings(dataset: str, tree: DatasetFolder) -> Iterator[tuple[str, str]]:
    try:
        for item in SOURCES[dataset].items(replace(tree, audio=[])):
            if isinstance(item, SourceItem) and item.recording and item.split != "train":
                yield item.recording, f"{dataset} {item.split}"
    except DatasetNotFound:
        return


def hold_out(
    dataset: str, items: Iterable[SourceItem | Dropped], recordings: dict[str, str]
) -> Iterator[SourceItem | Dropped]:
    """Yield the items, with training clips of those recordings dropped."""
    for item in items:
        if isinstance(item, SourceItem) and item.split == "train" and item.recording in recordings:
            why = f"a clip of {recordings[item.recording]}"
            yield Dropped(f"{dataset}/{item.name}", "train", item.path, "held out", why)
        else:
            yield item
