from __future__ import annotations

from pathlib import Path

import pytest

from audiogen_cli.data.datasets.base import find_root, list_audio, read_csv
from audiogen_cli.data.datasets.registry import SOURCES, find_source
from audiogen_cli.errors import InputError


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\n1,caf\xc3\xa9\n",
        b"\xef\xbb\xbfa,b\r\n1,caf\xc3\xa9\r\n",
        b"a,b\n1,caf\xe9\n",
        b"a;b\r\n1;caf\xe9\r\n",
        b'a, b\n1, "caf\xc3\xa9"\n\n,\n',
    ],
    ids=["utf-8", "excel", "latin-1", "semicolons", "spaces, quotes and blank rows"],
)
def test_csv_files_as_people_save_them(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    assert list(read_csv(tmp_path / "x.csv", ["a", "b"])) == [{"a": "1", "b": "café"}]


def test_quoted_cells_may_hold_lines_and_short_rows_are_filled(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('a,b\n"one\ntwo",2\n3\n')
    assert list(read_csv(tmp_path / "x.csv", ["a"])) == [{"a": "one\ntwo", "b": "2"}, {"a": "3", "b": ""}]


def test_csv_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        list(read_csv(tmp_path / "x.csv", ["a"]))
    (tmp_path / "x.csv").write_text("b,c\n1,2\n")
    with pytest.raises(InputError, match=r"lacks the column 'a' \(found: b,c\)"):
        list(read_csv(tmp_path / "x.csv", ["a"]))
    (tmp_path / "x.csv").write_text("")
    with pytest.raises(InputError, match="found: nothing"):
        list(read_csv(tmp_path / "x.csv", ["a"]))


def test_a_root_is_found_by_its_signature(tmp_path: Path) -> None:
    (tmp_path / "z" / "deep").mkdir(parents=True)
    (tmp_path / "z" / "deep" / "sign").write_text("")
    assert find_root(tmp_path, lambda folder: (folder / "sign").exists(), "a sign") == tmp_path / "z" / "deep"
    with pytest.raises(InputError, match="expected a wonder"):
        find_root(tmp_path, lambda folder: False, "a wonder")
    with pytest.raises(InputError, match="no such folder; expected a wonder"):
        find_root(tmp_path / "absent", lambda folder: True, "a wonder")


def test_audio_is_listed_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b/2.FLAC", "a.wav", "b/._2.flac", ".git/x.wav", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert list_audio(tmp_path) == ["a.wav", "b/2.FLAC"]


def test_every_source_is_registered_under_its_key() -> None:
    assert all(find_source(key).key == key for key in SOURCES)
    with pytest.raises(InputError, match=r"unknown dataset 'esc-50': choose from .*esc50"):
        find_source("esc-50")
