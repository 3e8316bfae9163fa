"""Parquet files, opened, checked and mapped into memory by Hugging Face `datasets`: manifests and token shards."""

from __future__ import annotations

import os
import shutil
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from audiogen_cli.errors import InputError, first_line
from audiogen_cli.files import cache_folder, note

if TYPE_CHECKING:
    import datasets
    import pyarrow
    import pyarrow.parquet

CACHE = ".cache"
Where = Callable[[int], str]  # number of a row in a batch → its file and row, in words
Check = Callable[["pyarrow.RecordBatch", Where], None]  # raises InputError for the first row that is wrong


def open_parquet(path: Path) -> pyarrow.parquet.ParquetFile:
    """Open a Parquet file. Raises InputError if it is none, or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        assert file.schema_arrow is not None  # read now
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None
    return file


def check_columns(
    file: pyarrow.parquet.ParquetFile, path: Path, wanted: pyarrow.Schema, what: str, optional: Collection[str] = ()
) -> None:
    """Raise InputError unless a file has just the `wanted` columns, of these types and in this order.

    what: names such a file in messages. optional: columns that older files lack.
    """
    found = file.schema_arrow
    names = [name for name in wanted.names if name in found.names or name not in optional]
    if found.names != names:
        wrong = sorted(set(found.names) ^ set(names))
        raise InputError(f"{path}: not {what}: its columns differ in {', '.join(wrong) or 'their order'}")
    for name in names:
        if (type_ := found.field(name).type) != wanted.field(name).type:
            raise InputError(f"{path}: not {what}: column '{name}' holds {type_}, not {wanted.field(name).type}")


def read_batches(
    file: pyarrow.parquet.ParquetFile, path: Path, rows: int, check: Check, columns: Sequence[str] | None = None
) -> Iterator[pyarrow.RecordBatch]:
    """Read an open file's rows, `rows` at a time, and check them. Raises InputError."""
    import pyarrow as pa

    first = 0
    try:
        for batch in file.iter_batches(rows, columns=columns):
            batch.validate(full=True)
            check(batch, partial(_locate, [path], [file.metadata.num_rows], first))
            first += batch.num_rows
            yield batch
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def read_columns(
    file: pyarrow.parquet.ParquetFile, path: Path, rows: int, check: Check, columns: Sequence[str]
) -> pyarrow.Table:
    """Read some columns of an open file as `read_batches` does."""
    import pyarrow as pa

    batches = list(read_batches(file, path, rows, check, columns))
    return pa.Table.from_batches(batches, None if batches else file.schema_arrow).select(list(columns))


def refuse_first(where: Where, column: str, wrong: pyarrow.Array, what: str) -> None:
    """Raise InputError for the first row of which `wrong` [rows of a batch] is true."""
    import pyarrow.compute as pc

    if (index := pc.index(wrong, True).as_py()) >= 0:
        raise InputError(f"{where(index)}: column '{column}' {what}")


def refuse_empty(batch: pyarrow.RecordBatch, where: Where) -> None:
    """Raise InputError for the first null, and the first empty text of a list."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for name in batch.schema.names:
        values = batch[name]
        refuse_first(where, name, values.is_null(), "is empty")
        if pa.types.is_list(values.type):
            rows, parts = pc.list_parent_indices(values), pc.list_flatten(values)
            blank = pc.fill_null(pc.equal(parts, ""), True) if pa.types.is_string(parts.type) else parts.is_null()
            if pc.any(blank).as_py():
                refuse_first(
                    where, name, pc.is_in(pa.array(range(len(values))), rows.filter(blank)), "holds an empty text"
                )


def map_parquet(files: Sequence[Path], folder: Path, batch_rows: int, check: Check) -> datasets.Dataset:
    """Map all rows of `files`, in order, `batch_rows` at a time: two million take disk, not memory.

    The Arrow files that `datasets` maps are in `<folder>/.cache`, or in the user's cache folder if `folder` is
    read-only. They are written again when a file changes, or when they are damaged.
    Raises InputError if `check` does, or a file is damaged.
    """
    cache = folder / CACHE if os.access(folder, os.W_OK) else cache_folder() / "mapped"
    there = (cache / "parquet").is_dir()
    try:
        return _map(files, cache, batch_rows, check)
    except Exception:  # what damaged Arrow files lead to; if the files themselves are damaged, it comes again
        if not there:
            raise
    shutil.rmtree(cache / "parquet", ignore_errors=True)
    rows = _map(files, cache, batch_rows, check)
    note(f"{cache}: was damaged and has been made again")
    return rows


def _map(files: Sequence[Path], cache: Path, batch_rows: int, check: Check) -> datasets.Dataset:
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    datasets.disable_progress_bars()
    try:
        rows = datasets.Dataset.from_parquet(
            [str(path) for path in files],
            cache_dir=str(cache),
            batch_size=batch_rows,  # the size that it would choose for an empty shard is 0, which it then refuses
        )
        ends = list(accumulate(pq.read_metadata(path).num_rows for path in files))
        first = 0
        for batch in rows.data.table.to_batches(batch_rows):
            batch.validate(full=True)
            check(batch, partial(_locate, files, ends, first))
            first += batch.num_rows
    except (pa.ArrowException, OSError, ValueError, datasets.exceptions.DatasetGenerationError) as error:
        cause = error.__cause__ or error
        raise InputError(
            f"{', '.join(path.name for path in files[:3])} in {files[0].parent}: {first_line(cause)}"
        ) from None
    if first != ends[-1]:
        raise InputError(f"{cache}: {first} rows of {ends[-1]}")
    return rows


def _locate(files: Sequence[Path], ends: Sequence[int], first: int, index: int) -> str:
    row = first + index
    number = bisect_right(ends, row)
    return f"{files[number]}: row {row - (ends[number - 1] if number else 0) + 1}"


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: not a readable Parquet file ({first_line(error)})")


def forget_mapped(folder: Path) -> None:
    """Delete the Arrow files of `folder`, whose Parquet files are about to be replaced."""
    shutil.rmtree(folder / CACHE / "parquet", ignore_errors=True)
