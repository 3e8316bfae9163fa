from __future__ import annotations

from pathlib import Path

import pytest

from audiogen_cli.data.tables import first_row, read_csv
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


def test_files_without_a_header_and_cells_with_blanks(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b' a.wav,"one, two"\r\n')
    assert list(read_csv(tmp_path / "x.csv", header=("name", "text"))) == [{"name": "a.wav", "text": "one, two"}]
    assert [*read_csv(tmp_path / "x.csv", header=("name", "text"), strip=False)] == [
        {"name": " a.wav", "text": "one, two"}
    ]
    assert first_row(tmp_path / "x.csv") == ["a.wav", "one, two"]
    assert first_row(tmp_path / "absent.csv") == []
