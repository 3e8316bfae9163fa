from __future__ import annotations

from pathlib import Path

import pytest

from audiogen_cli.data.datasets.folder import Folder, name_words
from audiogen_cli.errors import InputError


@pytest.mark.parametrize(
    "name, words",
    [
        ("DogBark_01", "Dog Bark"),
        ("1-100032-A-0", ""),
        ("heavy rain on roof", "heavy rain on roof"),
        ("door.slam-v2", "door slam"),
        ("TV static", "TV static"),
    ],
)
def test_words_of_names(name: str, words: str) -> None:
    assert name_words(name) == words


def test_texts_and_splits_come_from_the_paths(tmp_path: Path) -> None:
    for name in ("bark.wav", "rain/heavy_rain-02.wav", "test/rooster/1-26806-A.ogg", "rain/readme.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    source = Folder("mine")
    found = [(item.name, item.split, item.tags, item.captions) for item in source.items(source.find_root(tmp_path))]
    assert found == [
        ("bark.wav", "train", (), ("bark",)),
        ("rain/heavy_rain-02.wav", "train", ("rain",), ("rain heavy",)),
        ("test/rooster/1-26806-A.ogg", "test", ("rooster",), ("rooster",)),
    ]


def test_a_folder_without_audio_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no audio files"):
        Folder("mine").find_root(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        Folder("mine").find_root(tmp_path / "absent")
