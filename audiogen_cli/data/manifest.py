"""Manifests: one Parquet file per dataset, one row per clip, and beside it the list of what was dropped.

`<dataset>.parquet` has exactly the columns of `Clip` (but `root`) and, as schema metadata, `format_version`, `dataset`,
`root` (the folder that `path` is relative to) and `options` (JSON: what the manifest was made with).
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, overload

import numpy as np

from audiogen_cli.data import mapped_parquet
from audiogen_cli.data.mapped_parquet import (
    Where,
    check_columns,
    map_parquet,
    open_parquet,
    read_batches,
    refuse_empty,
    refuse_first,
)
from audiogen_cli.errors import InputError, disk_errors
from audiogen_cli.files import parse_json, replacing
from audiogen_cli.training.recipe import validate

if TYPE_CHECKING:
    import datasets
    import pyarrow
    import pyarrow.parquet

FORMAT_VERSION = 1
GROUP_ROWS = 8192  # clips in memory until they are written
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
_AGAIN = "make it again with audiogen prep"
# What numbers a column may hold: seconds, Hz, channels.
_BOUNDS = {"start": (0.0, 1e7), "duration": (1e-6, 1e6), "sample_rate": (1, 10_000_000), "channels": (1, 1024)}


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip of a manifest.

    id: `<dataset>/<clip>`, unique. path: relative to the manifest's root, with `/`. start, duration: seconds in the
    file. sample_rate, channels: the file's own. captions, tags: as published. texts: what the model reads, processed
    as the paper says, at least one. license: of this clip, or the dataset's; empty where nobody has said.
    root: not a column; the folder that `path` is in, set when a manifest is read.
    """

    id: str
    dataset: str
    split: Split
    path: str
    start: float
    duration: float
    sample_rate: int
    channels: int
    captions: tuple[str, ...]
    tags: tuple[str, ...]
    texts: tuple[str, ...]
    license: str
    root: Path = field(default=Path(), compare=False)

    @property
    def audio_path(self) -> Path:
        """Return the path of the audio file."""
        return self.root / self.path

    @property
    def is_plausible(self) -> bool:
        """Return whether its numbers are such as readers of a manifest take: a damaged header may claim any."""
        return all(lowest <= getattr(self, column) <= highest for column, (lowest, highest) in _BOUNDS.items())


@dataclass(frozen=True, slots=True)
class Dropped:
    """An item that is in no manifest, and why. reason: a short class such as `missing`; detail: the whole story."""

    id: str
    split: str
    path: str
    reason: str
    detail: str = ""


def columns() -> pyarrow.Schema:
    """Return the columns of a manifest, in order, without metadata."""
    import pyarrow as pa

    types = {
        "start": pa.float64(),
        "duration": pa.float64(),
        "sample_rate": pa.int32(),
        "channels": pa.int16(),
        **dict.fromkeys(("captions", "tags", "texts"), pa.list_(pa.string())),
    }
    names = [name for name in Clip.__dataclass_fields__ if name != "root"]
    return pa.schema([pa.field(name, types.get(name, pa.string()), nullable=False) for name in names])


class ManifestWriter:
    """Writes the clips of one manifest; made by `new_manifest`. ids: of the clips so far."""

    def __init__(self, path: Path, metadata: Mapping[str, Any], stack: ExitStack) -> None:
        texts = {
            "format_version": str(FORMAT_VERSION),
            "dataset": str(metadata["dataset"]),
            "root": str(metadata["root"]),
            "options": json.dumps(metadata["options"], sort_keys=True),
        }
        self.path, self.ids = path, set[str]()
        self._schema = columns().with_metadata(texts)
        self._clips: list[Clip] = []
        self._stack = stack
        self._file: Any = None

    def add(self, clip: Clip) -> None:
        """Write one clip. Raises ValueError if it breaks the format (an id taken before, no text)."""
        if clip.id in self.ids:
            raise ValueError(f"two clips are called {clip.id}")
        _check(clip)
        self.ids.add(clip.id)
        self._clips.append(clip)
        if len(self._clips) == GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write the clips in memory as a row group. Raises AudiogenError if the disk refuses."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with disk_errors(self.path):
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                temporary = self._stack.enter_context(replacing(self.path))
                self._file = self._stack.enter_context(pq.ParquetWriter(temporary, self._schema, compression="zstd"))
            values = {name: [getattr(clip, name) for clip in self._clips] for name in self._schema.names}
            self._file.write_table(pa.Table.from_pydict(values, schema=self._schema))
        self._clips = []

    def close(self) -> None:
        """Write the rest; nothing at all, not even a file, if there was no clip."""
        if self._clips:
            self.flush()
        with disk_errors(self.path):
            if self._file:
                self._file.close()


@contextmanager
def new_manifest(path: Path, metadata: Mapping[str, Any]) -> Iterator[ManifestWriter]:
    """Write a manifest clip by clip; the old file stays until the new one is whole, or if there is no clip.

    metadata: `dataset` (str), `root` (path) and `options` (anything JSON can hold).
    """
    with ExitStack() as stack:  # in which an error deletes the unfinished file
        writer = ManifestWriter(path, metadata, stack)
        yield writer
        writer.close()


def stream_manifest(path: Path) -> tuple[dict[str, Any], int, Iterator[Clip]]:
    """Return a manifest's metadata, its number of clips and an iterator over them that reads as it goes.

    Raises InputError if it is absent, damaged or no manifest.
    """
    file, metadata = _open(path)
    clips = (
        _clip(row, Path(metadata["root"]))
        for batch in read_batches(file, path, GROUP_ROWS, _check_values)
        for row in batch.to_pylist()
    )
    return metadata, file.metadata.num_rows, clips


def read_columns(path: Path, names: Sequence[str]) -> pyarrow.Table:
    """Read some columns of a manifest, checked. Raises InputError as `stream_manifest` does."""
    return mapped_parquet.read_columns(_open(path)[0], path, GROUP_ROWS, _check_values, names)


def _open(path: Path) -> tuple[pyarrow.parquet.ParquetFile, dict[str, Any]]:
    if not path.is_file():
        raise InputError(f"{path}: no such manifest; make it with audiogen prep")
    file = open_parquet(path)
    metadata = _metadata(file.schema_arrow, path)
    check_columns(file, path, columns(), "a manifest")
    return file, metadata


def _check_values(batch: pyarrow.RecordBatch, where: Where) -> None:
    """Raise InputError with file, row and column for the first value that no manifest of ours can hold."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def refuse(column: str, wrong: pyarrow.Array, what: str) -> None:
        refuse_first(where, column, wrong, f"{what}; {_AGAIN}")

    refuse_empty(batch, where)
    for column, (lowest, highest) in _BOUNDS.items():
        if column in batch.schema.names:
            values = pc.cast(batch[column], pa.float64())
            good = pc.and_(pc.greater_equal(values, lowest), pc.less_equal(values, highest))  # not of NaN
            refuse(column, pc.invert(good), "holds a number out of range")
    names = batch.schema.names
    if "id" in names:
        refuse("id", pc.invert(pc.match_substring(batch["id"], "/")), "is not <dataset>/<clip>")
    if "texts" in names:
        refuse("texts", pc.equal(pc.list_value_length(batch["texts"]), 0), "is empty")
    if "split" in names:
        refuse("split", pc.invert(pc.is_in(batch["split"], pa.array(SPLITS))), f"is none of {', '.join(SPLITS)}")


def _clip(row: dict[str, Any], root: Path) -> Clip:
    lists = {name: tuple(value) for name, value in row.items() if isinstance(value, list)}
    return Clip(**{**row, **lists}, root=root)


class Clips(Sequence[Clip]):
    """Clips of manifests that `datasets` maps from disk: two million of them need no memory. Made by `load_manifests`.

    rows: of all manifests. chosen: numbers of the rows that are clips here. ends: of each manifest, in rows.
    """

    def __init__(self, rows: datasets.Dataset, chosen: np.ndarray, ends: Sequence[int], roots: Sequence[Path]) -> None:
        self._rows, self._chosen, self._ends, self._roots = rows, chosen, ends, roots

    def __len__(self) -> int:
        return len(self._chosen)

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> list[Clip]: ...
    def __getitem__(self, index: int | slice) -> Clip | list[Clip]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = int(self._chosen[index])  # IndexError, negative numbers
        (row,) = self._rows.data.fast_slice(number, 1).to_pylist()
        return _clip(row, self._root(number))

    def __iter__(self) -> Iterator[Clip]:
        for begin in range(0, len(self._rows), GROUP_ROWS):
            rows = self._rows.data.fast_slice(begin, GROUP_ROWS).to_pylist()
            first, last = np.searchsorted(self._chosen, (begin, begin + GROUP_ROWS))
            yield from (_clip(rows[number - begin], self._root(number)) for number in self._chosen[first:last])

    def select(self, split: str) -> Clips:
        """Return those of a split."""
        import pyarrow.compute as pc

        is_of = pc.equal(self._rows.data.table["split"], split).to_numpy()
        return Clips(self._rows, self._chosen[is_of[self._chosen]], self._ends, self._roots)

    def _root(self, number: int) -> Path:
        return self._roots[bisect_right(self._ends, number)]


def load_manifests(
    source: str | Path, datasets: Collection[str] | None = None, splits: Collection[str] | None = None
) -> Clips:
    """Load all clips of the given datasets and splits (None: all), in the order of dataset names and manifest rows.

    source: a folder of manifests, or one manifest.
    Raises InputError if there is no manifest, a dataset has none, no clip is left, two have one id, a value is out of
    range, or the audio's root is gone.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    unknown = sorted(set(splits or ()) - set(SPLITS))
    if unknown:
        raise InputError(f"unknown split '{unknown[0]}': choose from {', '.join(SPLITS)}")
    paths = manifest_files(Path(source), datasets)
    roots, ends = [], [0]
    for path in paths:
        file, metadata = _open(path)
        roots.append(Path(metadata["root"]))
        ends.append(ends[-1] + file.metadata.num_rows)
    rows = map_parquet(paths, paths[0].parent, GROUP_ROWS, _check_values)
    table = rows.data.table
    mask = pc.and_(
        pc.is_in(table["split"], pa.array(sorted(splits or SPLITS))),
        pc.is_in(table["dataset"], pa.array(sorted(datasets))) if datasets else True,
    )
    chosen = np.flatnonzero(mask.to_numpy())
    if not len(chosen):
        raise InputError(f"{source}: no clips in split {', '.join(splits or SPLITS)}; see audiogen info {source}")
    for path, root, begin, end in zip(paths, roots, ends, ends[1:], strict=False):
        if not root.is_dir() and np.any((chosen >= begin) & (chosen < end)):
            raise InputError(f"{path}: its recordings' folder {root} is gone; run audiogen prep again")
    if pc.count_distinct(table["id"].filter(mask)).as_py() < len(chosen):
        raise InputError(f"{source}: two clips have one id; make the manifests again with audiogen prep")
    return Clips(rows, chosen, ends[1:], roots)


def manifest_files(source: Path, datasets: Collection[str] | None = None) -> list[Path]:
    """List the manifests at `source`, sorted by name. Raises InputError if there are none, or none for a dataset."""
    if source.is_file():
        return [source]
    found = {path.stem: path for path in sorted(source.glob("*.parquet"))}
    if not found:
        raise InputError(f"{source}: no manifests (*.parquet) here; make them with audiogen prep")
    missing = sorted(set(datasets or ()) - set(found))
    if missing:
        raise InputError(f"{source}: no manifest of '{missing[0]}', only of {', '.join(found)}; run audiogen prep")
    return [path for name, path in found.items() if not datasets or name in datasets]


def dropped_file(manifest: Path) -> Path:
    """Return the path of a manifest's list of dropped items: `<dataset>.dropped.jsonl`."""
    return manifest.with_suffix(".dropped.jsonl")


@contextmanager
def new_dropped(path: Path) -> Iterator[Callable[[Dropped], None]]:
    """Yield a function that writes dropped items, a JSON object a line; the file appears whole or not at all."""

    def add(item: Dropped) -> None:
        row = {name: getattr(item, name) for name in Dropped.__dataclass_fields__}
        file.write(json.dumps(row, ensure_ascii=False) + "\n")

    with ExitStack() as stack:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = stack.enter_context(replacing(path))
            # an error's text may quote a file name that is not UTF-8
            file = stack.enter_context(temporary.open("w", encoding="utf-8", errors="backslashreplace"))
        yield add


def read_dropped(path: Path) -> Iterator[Dropped]:
    """Read the dropped items beside a manifest; none if the file is absent."""
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                where = f"{path}, line {number}"
                yield validate(Dropped, parse_json(line, where), where)


def _metadata(schema: pyarrow.Schema, path: Path) -> dict[str, Any]:
    texts = {
        key.decode("utf-8", "replace"): value.decode("utf-8", "replace")
        for key, value in (schema.metadata or {}).items()
    }
    missing = [key for key in ("format_version", "dataset", "root", "options") if key not in texts]
    if missing:
        raise InputError(f"{path}: not a manifest: its schema metadata lacks {', '.join(missing)}")
    version = texts["format_version"]
    if version != str(FORMAT_VERSION):
        raise InputError(f"{path}: of format '{version}', not {FORMAT_VERSION}: newer audiogen, or damaged")
    options = parse_json(texts["options"], f"{path}: options")
    if not isinstance(options, dict):
        raise InputError(f"{path}: options are no JSON object; {_AGAIN}")
    return {"format_version": FORMAT_VERSION, "dataset": texts["dataset"], "root": texts["root"], "options": options}


def _check(clip: Clip) -> None:
    if not clip.texts or not all(clip.texts):
        raise ValueError(f"{clip.id} has no text")
    if cast(str, clip.split) not in SPLITS:
        raise ValueError(f"{clip.id} is in split '{clip.split}'")
