from __future__ import annotations

from pathlib import Path

import pytest

from audiogen_cli.data.datasets.dataset_folder import SourceItem, scan_folder
from audiogen_cli.data.datasets.folder import Folder
from audiogen_cli.errors import InputError


def items_of(folder: Path) -> list[SourceItem]:
    return list(Folder("mine").items(scan_folder(folder)))


def test_texts_and_splits_come_from_the_paths(tmp_path: Path) -> None:
    for name in ("bark.wav", "rain/heavy_rain-02.wav", "test/rooster/1-26806-A.ogg", "rain/readme.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    found = [(item.name, item.split, item.tags, item.captions) for item in items_of(tmp_path)]
    assert found == [
        ("bark.wav", "train", (), ("bark",)),
        ("rain/heavy_rain-02.wav", "train", ("rain",), ("rain heavy",)),
        ("test/rooster/1-26806-A.ogg", "test", ("rooster",), ("rooster",)),
    ]


@pytest.mark.parametrize(
    "paths, splits",
    [
        ("Training/a.wav validation/b.wav VAL/c.wav Test/d.wav eval/e.wav", "train val val test test"),
        ("data/train/a.wav data/valid/b.wav data/Dev/c.wav more/d.wav", "train val val train"),
        ("train/a.wav b.wav", "train train"),
    ],
)
def test_folders_are_splits_by_every_usual_name(tmp_path: Path, paths: str, splits: str) -> None:
    for path in map(tmp_path.joinpath, paths.split()):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    found = sorted(items_of(tmp_path), key=lambda item: item.path[-5:])
    assert [item.split for item in found] == splits.split()
    assert {tag for item in found for tag in item.tags} <= {"data", "more"}  # a split is no sound
    assert [item.assigned for item in found] == ["/" in path and path != "more/d.wav" for path in paths.split()]


@pytest.mark.parametrize("paths", ["train/1.wav rain/2.wav", "vehicles/train/1.wav vehicles/tram/2.wav"])
def test_trains_are_no_training_split(tmp_path: Path, paths: str) -> None:
    for path in map(tmp_path.joinpath, paths.split()):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (train,) = [item for item in items_of(tmp_path) if "train/" in item.path]
    assert (train.split, train.tags, train.captions, train.assigned) == ("train", ("train",), ("train",), False)


def test_a_folder_without_audio_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no audio files"):
        items_of(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        items_of(tmp_path / "absent")
