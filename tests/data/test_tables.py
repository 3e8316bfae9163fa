from __future__ import annotations

from pathlib import Path

import pytest

from audiogen_cli.data import tables
from audiogen_cli.data.tables import first_row, read_table, stream_rows
from audiogen_cli.errors import InputError


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\n1,caf\xc3\xa9\n",
        b"\xef\xbb\xbfa,b\r\n1,caf\xc3\xa9\r\n",
        b"a,b\n1,caf\xe9\n",
        b"a;b\r\n1;caf\xe9\r\n",
        b"sep=;\r\na;b\r\n1;caf\xe9\r\n",
        "a\tb\n1\tcafé\n".encode("utf-16"),
        b"a,b\n1,caf\xe9,,,\n",
        b'a, b\n1, "caf\xc3\xa9"\n\n,\n',
    ],
    ids=["utf-8", "excel", "latin-1", "semicolons", "sep", "utf-16 tabs", "empty cells", "blank rows"],
)
def test_csv_files_as_people_save_them(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    assert list(stream_rows(tmp_path / "x.csv", ["a", "b"])) == [{"a": "1", "b": "café"}]
    table = read_table((tmp_path / "x.csv").read_bytes(), ["a"])
    assert table.to_dict("records") == [{"a": "1", "b": "café"}]


def test_quoted_cells_may_hold_lines_and_short_rows_are_filled(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('a,b\n"one\ntwo",2\n3\n')
    assert list(stream_rows(tmp_path / "x.csv", ["a"])) == [{"a": "one\ntwo", "b": "2"}, {"a": "3", "b": ""}]


def test_csv_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        list(stream_rows(tmp_path / "x.csv", ["a"]))
    (tmp_path / "x.csv").write_text("b,c\n1,2\n")
    with pytest.raises(InputError, match=r"lacks the column 'a' \(found: b,c\)"):
        list(stream_rows(tmp_path / "x.csv", ["a"]))
    (tmp_path / "x.csv").write_text("")
    with pytest.raises(InputError, match="found: nothing"):
        list(stream_rows(tmp_path / "x.csv", ["a"]))


def test_files_without_a_header_and_cells_with_blanks(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b' a.wav,"one, two"\r\n')
    assert list(stream_rows(tmp_path / "x.csv", header=("name", "text"))) == [{"name": "a.wav", "text": "one, two"}]
    assert [*stream_rows(tmp_path / "x.csv", header=("name", "text"), strip=False)] == [
        {"name": " a.wav", "text": "one, two"}
    ]
    assert first_row(tmp_path / "x.csv") == ["a.wav", "one, two"]
    assert first_row(tmp_path / "absent.csv") == []


def test_rows_know_their_lines_and_names_any_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "CHUNK_ROWS", 2)
    table = read_table(b'File,x,SPLIT\n"one\ntwo",2,\n\na,"b\n\nc",d\ne,NA,null\n', ["file"], ["split"])
    assert list(table) == ["file", "x", "split"] and list(table.index) == [2, 5, 8]
    assert table.loc[8].to_list() == ["e", "NA", "null"]


def test_rows_with_too_many_cells_are_refused() -> None:
    content = b"file,caption\na,b\n02.flac,rain, heavy\nc,d,,\n"
    with pytest.raises(InputError, match=r"x\.csv, line 3: .*columns file,caption"):
        read_table(content, name="x.csv")
    with pytest.raises(InputError, match=r"line 2: more cells"):
        read_table(b"a,b\n" + b"1," * 20 + b"2\n")


def test_a_single_column_takes_whole_lines() -> None:
    assert read_table(b'caption\nrain, heavy; loud\n"wind, light"\ndog,,,\n')["caption"].to_list() == [
        "rain, heavy; loud",
        "wind, light",
        "dog",
    ]


def test_damaged_tables_say_where() -> None:
    with pytest.raises(InputError, match=r"line 3: .*quotation mark"):
        read_table(b'a,b\n1,2\n3,"4\n5,6\n')
    with pytest.raises(InputError, match="holds the column 'a' twice"):
        read_table(b"a,a\n1,2\n")
