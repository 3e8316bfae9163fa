from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from audiogen_cli.data.datasets.dataset_folder import SourceItem, scan_folder
from audiogen_cli.data.datasets.esc50 import Esc50
from audiogen_cli.errors import InputError

HEADER = "filename,fold,target,category,esc10,src_file,take"
ROWS = [
    "1-100032-A-0.wav,1,0,dog,True,100032,A",
    "4-100038-A-14.wav,4,14,chirping_birds,False,100038,A",
    "5-9032-A-0.wav,5,0,dog,True,9032,A",
]


def published(folder: Path, rows: list[str], newline: str = "\n", suffix: str = ".wav") -> Path:
    (folder / "meta").mkdir(parents=True)
    (folder / "audio").mkdir()
    (folder / "meta" / "esc50.csv").write_bytes((newline.join([HEADER, *rows]) + newline).encode())
    for row in rows[:2]:
        (folder / "audio" / row.split(",")[0]).with_suffix(suffix).write_bytes(b"")
    return folder


def items_of(folder: Path) -> list[SourceItem]:
    return [item for item in Esc50().items(scan_folder(folder)) if isinstance(item, SourceItem)]


@pytest.mark.parametrize("inside", ["", "ESC-50-master/", "download/ESC-50-master/"])
def test_it_is_found_where_its_csv_is(tmp_path: Path, inside: str) -> None:
    published(tmp_path / inside, ROWS)
    assert [item.path for item in items_of(tmp_path)] == [f"{inside}audio/{row.split(',')[0]}" for row in ROWS]


def test_a_folder_without_esc50_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected ESC-50's meta/esc50.csv and audio/"):
        items_of(tmp_path)


def test_rows_become_items(tmp_path: Path) -> None:
    items = items_of(published(tmp_path / "x", ROWS))
    assert [item.recording for item in items] == ["100032", "100038", "9032"]
    assert [replace(item, recording="") for item in items] == [
        SourceItem("1-100032-A-0", "train", "audio/1-100032-A-0.wav", tags=("dog",), license="CC BY 3.0"),
        SourceItem("4-100038-A-14", "val", "audio/4-100038-A-14.wav", tags=("chirping birds",), license="CC BY-NC 3.0"),
        SourceItem("5-9032-A-0", "test", "audio/5-9032-A-0.wav", tags=("dog",), license="CC BY 3.0", missing=True),
    ]


@pytest.mark.parametrize("suffix", [".flac", ".ogg"])
def test_copies_in_another_format_and_through_excel(tmp_path: Path, suffix: str) -> None:
    rows = [row.replace("True", "TRUE").replace("False", "FALSE") for row in ROWS]
    items = items_of(published(tmp_path / "x", rows, newline="\r\n", suffix=suffix))
    assert [item.path for item in items[:2]] == [f"audio/1-100032-A-0{suffix}", f"audio/4-100038-A-14{suffix}"]
    assert [item.license for item in items[:2]] == ["CC BY 3.0", "CC BY-NC 3.0"]


def test_the_license_of_each_clip_comes_from_the_list_or_the_license_file(tmp_path: Path) -> None:
    root = published(tmp_path / "x", ROWS)
    (root / "LICENSE").write_text(
        "The ESC-10 subset is [CC BY].\n\n101 - Dog:\n"
        "- [1-100032-A.ogg]: clip derived from a [b].wav (http://www.freesound.org/people/n/) by n [CC0]\n"
        "- [5-9032-A.ogg]:  clip derived from Dog bark2.wav (http://x/) by MisterTood [CC-Sampling+]\n"
    )
    assert [item.license for item in items_of(root)] == ["CC0", "CC BY-NC 3.0", "CC-Sampling+"]
    (root / "meta" / "licences.csv").write_text(
        "clip,freesound_id,author,licence\n1-100032-A-0,100032,a,CC-BY\n4-100038-A-14,1,b,CC0\n"
    )
    assert [item.license for item in items_of(root)] == ["CC-BY", "CC0", "CC BY 3.0"]


def test_a_fold_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    root = published(tmp_path / "x", [ROWS[0], "6-1-A-0.wav,6,0,dog,True,1,A"])
    with pytest.raises(InputError, match="row 2: fold '6'"):
        items_of(root)


@pytest.mark.shared
def test_the_real_metadata(esc50: Path) -> None:
    items = items_of(esc50)
    assert len(items) >= 1600 and not any(item.missing for item in items if item.split != "test")
    assert len({item.tags for item in items}) == 50
    assert {item.license for item in items} == {"CC0", "CC-BY", "CC-BY-NC", "CC-Sampling+"}
    assert all(item.split == {"4": "val", "5": "test"}.get(item.name[0], "train") for item in items)
