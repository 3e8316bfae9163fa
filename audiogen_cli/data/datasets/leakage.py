"""Clips of evaluation sets that other datasets would bring into training: all are cuts of the same YouTube videos.

AudioCaps' val and test clips are in AudioSet's unbalanced list, AudioSet's eval clips in VGG-Sound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from audiogen_cli.data.datasets.audiocaps import AudioCaps
from audiogen_cli.data.datasets.audioset import AudioSet
from audiogen_cli.data.datasets.dataset_folder import DatasetFolder, SourceItem, scan_folder
from audiogen_cli.data.manifest import Dropped

# dataset → those whose evaluation clips it may hold
OVERLAPS: dict[str, tuple[AudioCaps | AudioSet, ...]] = {
    "audioset": (AudioCaps(), AudioSet()),
    "vggsound": (AudioCaps(), AudioSet()),
}


def held_out_videos(dataset: str, tree: DatasetFolder, raw: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Map videos that `dataset` must not train on to their evaluation split, and datasets without a list to a warning.

    tree: the dataset's own. The others' lists are those in `<raw>/audiocaps` and `<raw>/audioset`, whether or not
    these are prepared, too.
    """
    videos: dict[str, str] = {}
    warnings = {}
    for other in OVERLAPS.get(dataset, ()):
        folder = raw / other.key
        lists = tree if other.key == dataset else scan_folder(folder) if folder.is_dir() else None
        found = dict(other.evaluation_videos(lists)) if lists else {}
        if not found and other.key != dataset:
            warnings[other.key] = (
                f"{dataset}: NOT held out: {other.key}'s evaluation clips, for {folder} holds no lists of them. A model"
                f" trained on this must not be scored on {other.key}: put the lists there (no audio needed), run again"
            )
        videos |= found
    return videos, warnings


def hold_out(
    dataset: str, items: Iterable[SourceItem | Dropped], videos: dict[str, str]
) -> Iterator[SourceItem | Dropped]:
    """Yield the items, with training clips of those videos dropped."""
    for item in items:
        if isinstance(item, SourceItem) and item.split == "train" and item.video in videos:
            yield Dropped(f"{dataset}/{item.name}", "train", item.path, "held out", f"a clip of {videos[item.video]}")
        else:
            yield item
