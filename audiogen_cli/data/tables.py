"""CSV tables as publishers, spreadsheets and users write them."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from audiogen_cli.errors import InputError

if TYPE_CHECKING:
    import pandas

CHUNK_ROWS = 1 << 16  # rows in memory while a table is streamed
DELIMITERS = ",;\t"
_NO_DELIMITER = "\x1f"
_SPARE_CELLS = 8  # beyond the header's: room for a spreadsheet's empty cells at the end of a row
_BLOCK = 1 << 20


def read_table(
    source: Path | bytes,
    required: Collection[str] = (),
    optional: Collection[str] = (),
    name: str = "",
) -> pandas.DataFrame:
    """Read a whole CSV table: one column of stripped text per column, indexed by the line a row begins on.

    source: a file, or its content, which error messages call `name`. required, optional: column names to find in any
    letter case and to return as spelled here.
    Accepts UTF-8 and UTF-16 (with a byte order mark), else Windows-1252; any line ending; `,`, `;` or tab as the
    delimiter and Excel's line `sep=;`. Leaves out rows without text and fills short rows with empty cells. A single
    column takes whole lines, commas and all.
    Raises InputError if the file is absent, lacks a required column, or a row has more cells than the header.
    """
    import pandas

    return pandas.concat(list(_read_chunks(source, required, optional, None, True, name)))


def stream_rows(
    path: Path, required: Collection[str] = (), header: Sequence[str] | None = None, strip: bool = True
) -> Iterator[dict[str, str]]:
    """Read a CSV table row by row, in constant memory: AudioSet's list has two million rows.

    header: the columns of a file without a header line. strip: without blanks around cells (Clotho's file names begin
    with some). Otherwise as `read_table`.
    """
    for chunk in _read_chunks(path, required, (), header, strip, ""):
        names = list(chunk.columns)
        for cells in zip(*(chunk[name].tolist() for name in names), strict=True):
            yield dict(zip(names, cells, strict=True))


def first_row(source: Path | bytes) -> list[str]:
    """Return the first row of a CSV file, from which datasets recognize their own; empty if it cannot be read."""
    try:
        with _open(source) as file:
            return _first_row(file)[0]
    except (OSError, csv.Error):
        return []


def raw_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the cells of each row as they are, of whatever number, the header first.

    For readers that judge each row. Accepts what `read_table` does. Raises InputError if the file cannot be read.
    """
    try:
        with _open(path) as file:
            header, delimiter, lines = _first_row(file)
            yield lines, header
            reader = csv.reader(file, delimiter=delimiter)
            for cells in reader:
                yield lines + reader.line_num, cells
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except csv.Error as error:
        raise InputError(f"{path}: not readable as CSV: {error}") from None


def _read_chunks(
    source: Path | bytes,
    required: Collection[str],
    optional: Collection[str],
    header: Sequence[str] | None,
    strip: bool,
    name: str,
) -> Iterator[pandas.DataFrame]:
    import numpy
    import pandas

    where = name or str(source)
    try:
        with _open(source) as file:
            found, delimiter, line = _first_row(file)
            names = list(header) if header else _match_names(found, required, optional, where)
            if header:
                file.seek(0)
                line = 0
            if len(names) == 1:
                delimiter = _NO_DELIMITER
            width = max(len(names), len(found)) + _SPARE_CELLS
            chunks = pandas.read_csv(
                file,
                sep=delimiter,
                header=None,
                names=list(range(width)),
                dtype=str,
                na_filter=False,  # `NA` and `null` are words
                skipinitialspace=strip,
                skip_blank_lines=False,
                chunksize=CHUNK_ROWS,
            )
            for chunk in chunks:
                breaks = sum(chunk[column].str.count("\n") for column in chunk).to_numpy(int)  # within quoted cells
                chunk.index = line + 1 + numpy.arange(len(chunk)) + breaks.cumsum() - breaks
                line += len(chunk) + int(breaks.sum())
                yield _checked(chunk, names, strip, where)
    except OSError as error:
        raise InputError(f"{where}: {error.strerror or error}") from None
    except (csv.Error, pandas.errors.ParserError) as error:
        raise InputError(f"{where}: {_explain(str(error), names, line)}") from None


def _checked(chunk: pandas.DataFrame, names: Sequence[str], strip: bool, where: str) -> pandas.DataFrame:
    """Name the columns of a chunk and drop its rows without text. Raises InputError for more cells than columns."""
    wide = (chunk.iloc[:, len(names) :] != "").any(axis=1)
    if wide.any():
        raise InputError(f"{where}, line {chunk.index[wide][0]}: {_more_cells(names)}")
    table = chunk.iloc[:, : len(names)].set_axis(list(names), axis=1)
    marks = None if len(names) > 1 else DELIMITERS + " "  # a spreadsheet's empty cells behind a single one
    stripped = table.apply(lambda column: column.str.strip().str.rstrip(marks))
    return (stripped if strip else table)[(stripped != "").any(axis=1)]


def _more_cells(names: Sequence[str]) -> str:
    return f"more cells than the {len(names)} columns {','.join(names)[:80]}; put quotes around a text with commas"


def _explain(error: str, names: Sequence[str], line: int) -> str:
    """Say what pandas' parser met, and on which line."""
    if match := re.search(r"fields in line (\d+)", error):
        return f"line {match.group(1)}: {_more_cells(names)}"
    if match := re.search(r"EOF inside string starting at row (\d+)", error):
        return f"line {line + int(match.group(1)) + 1}: a quotation mark is never closed"
    return f"not readable as CSV: {error}"


def _match_names(found: Sequence[str], required: Collection[str], optional: Collection[str], where: str) -> list[str]:
    known = {name.casefold(): name for name in (*required, *optional)}
    names = [known.get(name.casefold(), name) for name in found]
    if missing := [name for name in required if name not in names]:
        shown = ",".join(found)[:80] or "nothing"
        raise InputError(f"{where}: its header lacks the column '{missing[0]}' (found: {shown})")
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise InputError(f"{where}: its header holds the column '{twice[0]}' twice")
    return names


def _first_row(file: TextIO) -> tuple[list[str], str, int]:
    """Read the cells of the first line, the file's delimiter, and the number of lines read (2 after `sep=;`)."""
    line, lines = file.readline(), 1
    if match := re.fullmatch(r"sep=(.)", line.strip("\r\n"), re.IGNORECASE):
        line, lines = file.readline(), 2
    delimiter = match.group(1) if match else next((mark for mark in DELIMITERS if mark in line), DELIMITERS[0])
    cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    return [cell.strip() for cell in cells], delimiter, lines


@contextmanager
def _open(source: Path | bytes) -> Iterator[TextIO]:
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as raw:
        encoding = _find_encoding(raw)
        raw.seek(0)
        with io.TextIOWrapper(raw, encoding, errors="replace", newline="") as text:
            yield text


def _find_encoding(file: io.BufferedIOBase) -> str:
    block = file.read(_BLOCK)
    if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while block:
            decoder.decode(block)
            block = file.read(_BLOCK)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"
