from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest

from audiogen_cli.data.datasets.dataset_folder import SourceItem
from audiogen_cli.data.manifest import Dropped
from audiogen_cli.data.preparation.caption_file import read_caption_file
from audiogen_cli.data.preparation.filename_words import name_words
from audiogen_cli.errors import InputError

BOTH = ("captions", "tags")
ITEMS = [
    SourceItem("a", "train", "dogs/a.wav", captions=("guessed",), tags=("dog",)),
    SourceItem("b", "train", "dogs/b.wav", captions=("guessed",), tags=("dog",)),
    SourceItem("a2", "train", "cats/a.wav", captions=("guessed",), tags=("chirping birds",)),
]


def write(folder: Path, text: str) -> Path:
    (folder / "captions.csv").write_text(text)
    return folder / "captions.csv"


def test_captions_of_files(tmp_path: Path) -> None:
    captions = read_caption_file(
        write(tmp_path, "file,caption,split\ndogs\\a.wav,A dog barks,test\n./dogs/a.wav,Barking,\nb.wav,Howling,\n")
    )
    dropped = Dropped("x", "train", "x", "missing")
    a, b, a2, same = captions.attach([*ITEMS, dropped], BOTH)
    assert isinstance(a, SourceItem) and isinstance(b, SourceItem)
    assert (a.captions, a.split) == (("A dog barks", "Barking"), "test")
    assert (b.captions, b.split) == (("Howling",), "train")
    assert a2 == ITEMS[2] and same is dropped
    assert (a.tags, b.tags) == ((), ())  # guessed from a folder's name, too
    assert (a.assigned, b.assigned) == (True, False)
    assert (captions.unused, captions.unnamed) == ([], ["cats/a.wav"])


def test_a_windows_table_keeps_its_apostrophes(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_bytes("file,caption\r\nSäge.wav,It’s a saw – sawing\r\n".encode("cp1252"))
    assert dict(read_caption_file(tmp_path / "c.csv").by_file) == {"Säge.wav": ["It’s a saw – sawing"]}


def test_captions_are_added_where_the_dataset_has_its_own(tmp_path: Path) -> None:
    captions = read_caption_file(write(tmp_path, "file,caption\nb,Howling\n"))
    items = captions.attach(ITEMS, ())
    b = items[1]
    assert isinstance(b, SourceItem) and (b.captions, b.tags) == (("guessed", "Howling"), ("dog",))
    assert not captions.unnamed


@pytest.mark.parametrize(
    ("text", "kept"), [("tag,caption\ndog,Barking\n", [False, True]), ("file,caption\nb,Woof\n", [True, False])]
)
def test_what_a_user_says_counts_more_than_embedded_text(tmp_path: Path, text: str, kept: list[bool]) -> None:
    items = [
        SourceItem("a", "train", "a.wav", tags=("dog",), embedded=True),
        SourceItem("b", "train", "b.wav", embedded=True),
    ]
    found = read_caption_file(write(tmp_path, text)).attach(items, BOTH)
    assert [item.embedded for item in found if isinstance(item, SourceItem)] == kept


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_match_in_either_form_of_unicode(tmp_path: Path, forms: tuple[Any, Any]) -> None:
    names = ("Motorsäge", "ガラス", "niño")
    listed, there = ([unicodedata.normalize(form, name) for name in names] for form in forms)
    (tmp_path / "c.csv").write_text("file,caption\n" + "".join(f"{name},a {name}\n" for name in listed), "utf-8")
    captions = read_caption_file(tmp_path / "c.csv")
    items = captions.attach([SourceItem(name, "train", f"x/{name}.wav") for name in there], BOTH)
    assert [item.captions for item in items] == [(f"a {name}",) for name in listed]  # type: ignore[union-attr]
    assert not captions.unused
    assert [name_words(name) for name in there] == list(names)


def test_a_name_that_two_files_have_means_neither(tmp_path: Path) -> None:
    captions = read_caption_file(write(tmp_path, "file,caption\na.wav,?\nz.wav,?\n"))
    assert captions.attach(ITEMS, BOTH) == ITEMS
    assert captions.unused == ["a.wav", "z.wav"]


def test_captions_of_tags(tmp_path: Path) -> None:
    captions = read_caption_file(
        write(tmp_path, "tag,caption\nChirping_Birds,Birds sing\ndog,Barking\ndog,Woof\ncow,Moo\n")
    )
    items = [item for item in captions.attach(ITEMS, BOTH) if isinstance(item, SourceItem)]
    assert [item.captions for item in items] == [
        ("guessed", "Barking", "Woof"),
        ("guessed", "Barking", "Woof"),
        ("guessed", "Birds sing"),
    ]
    assert captions.unused == ["cow"]


@pytest.mark.parametrize(
    "text, reason",
    [
        ("name,caption\na,b\n", "the header must be file,caption"),
        ("file,tag,caption\na,b,c\n", "the header must be file,caption"),
        ("file,text\na,b\n", "lacks the column 'caption'"),
        ("file,caption\n", "holds no captions"),
        (
            "file,caption\na.wav,dog\n02.flac,rain, heavy\n",
            "line 3: more cells than the 2 columns",
        ),
        ('file,caption\na.wav,"dog\nb.wav,"a cat"\n', "line 2: its caption goes on in the next line"),
        ("file,caption\na.wav,\n", "line 2: both cells must be filled"),
        ("file,caption,split\na.wav,x,dev\n", "line 2: split 'dev' is none of train, val, test"),
        ("file,caption,split\na.wav,x,val\na.wav,y,test\n", "line 3: 'a.wav' is in split val and in test"),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_caption_file(write(tmp_path, text))
