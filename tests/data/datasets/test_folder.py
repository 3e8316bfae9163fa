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


def test_a_folder_without_audio_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no audio files"):
        items_of(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        items_of(tmp_path / "absent")
