"""CSV and JSON files as publishers and spreadsheets write them."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from audiogen_cli.errors import InputError

_BLOCK = 1 << 20


def read_csv(
    path: Path, required: Collection[str] = (), header: Sequence[str] | None = None, strip: bool = True
) -> Iterator[dict[str, str]]:
    """Rows of a CSV file as dicts; its header must hold the `required` columns.

    header: the columns of a file that has no header line. strip: cells lose outer blanks (Clotho's file names begin
    with some).
    UTF-8 (with or without BOM) or else Latin-1, any line ending, `,` or Excel's `;`, blanks after it ignored. Rows
    without any text are skipped, short ones filled with empty cells.
    Raises InputError if the file is absent, lacks a column or is no CSV.
    """
    try:
        with path.open(encoding=_encoding(path), newline="") as file:
            first = file.readline()
            file.seek(0)
            delimiter = ";" if ";" in first and "," not in first else ","
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=strip)
            columns = list(header) if header else [cell.strip() for cell in next(reader, [])]
            if missing := [column for column in required if column not in columns]:
                found = ",".join(columns)[:80] or "nothing"
                raise InputError(f"{path}: its header lacks the column '{missing[0]}' (found: {found})")
            blank = dict.fromkeys(columns, "")
            for cells in reader:
                row = dict(zip(columns, (cell.strip() if strip else cell for cell in cells), strict=False))
                if any(map(str.strip, row.values())):
                    yield blank | row
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}") from None


def first_row(path: Path) -> list[str]:
    """The first row of a CSV file, by which datasets recognise their own; empty if it cannot be read."""
    try:
        with path.open(encoding=_encoding(path), newline="") as file:
            return [cell.strip() for cell in next(csv.reader(file), [])]
    except (OSError, csv.Error):
        return []


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises InputError if it is none."""
    try:
        return json.loads(path.read_text("utf-8-sig", "replace"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON: {error}") from None


def _encoding(path: Path) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        try:
            while block := file.read(_BLOCK):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "latin-1"
    return "utf-8-sig"
