from __future__ import annotations

from pathlib import Path

import pytest

from audiogen_cli.data.datasets.dataset_folder import AudioIndex, not_found, scan_folder
from audiogen_cli.data.datasets.registry import SOURCES, find_source
from audiogen_cli.errors import InputError


def test_a_folder_is_listed_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b/2.FLAC", "a.wav", "b/3.bwf", "b/._2.flac", ".git/x.wav", "__MACOSX/a.wav", "b/deep/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    tree = scan_folder(tmp_path)
    assert (tree.audio, tree.other) == (["a.wav", "b/2.FLAC", "b/3.bwf"], ["b/deep/notes.txt"])
    assert tree.find_named("*.txt", "absent.csv") == ["b/deep/notes.txt"]


def test_links_to_folders_are_followed_but_not_for_ever(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.wav").write_text("")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "root")
    assert scan_folder(tmp_path / "root").audio == ["linked/a.wav"]


def test_of_two_lists_with_one_name_the_uppermost_counts(tmp_path: Path) -> None:
    for name in ("backup/x/list.csv", "meta/LIST.csv"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("")
    assert scan_folder(tmp_path).find_named("list.csv") == ["meta/LIST.csv"]


def test_an_archive_is_pointed_at(tmp_path: Path) -> None:
    (tmp_path / "part.z01").write_text("")
    assert str(not_found(scan_folder(tmp_path), "a wonder")).endswith(
        ": expected a wonder (part.z01 is there: unpack it)"
    )


def test_a_shelf_gives_each_file_once_and_tells_what_is_left() -> None:
    index = AudioIndex("x", ["a/1.mp4", "b/1.wav", "c/2.wav"])
    assert index.match("1") == "b/1.wav"  # which needs no ffmpeg
    assert index.match("1") is None and index.match("3") is None
    assert [(item.path, item.reason) for item in index.unmatched()] == [("a/1.mp4", "copy"), ("c/2.wav", "unlisted")]


def test_every_source_is_registered_under_its_key() -> None:
    assert all(find_source(key).key == key for key in SOURCES)
    with pytest.raises(InputError, match=r"'esc-50'.*esc50"):
        find_source("esc-50")
