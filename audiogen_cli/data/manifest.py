"""Manifests: one Parquet file per dataset, one row per clip, and beside it the list of what was dropped.

`<dataset>.parquet` has exactly the columns of `Clip` (but `root`) and, as schema metadata, `format_version`, `dataset`,
`root` (the folder that `path` is relative to) and `options` (JSON: what the manifest was made with).
"""

from __future__ import annotations

import json
import tempfile
from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, overload

import numpy as np

from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.files import replacing

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

FORMAT_VERSION = 1
GROUP_ROWS = 8192  # clips that wait in memory
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip of a manifest.

    id: `<dataset>/<clip>`, unique. path: relative to the manifest's root, with `/`. start, duration: seconds in the
    file. sample_rate, channels: the file's own. captions, tags: as published. texts: what the model reads, processed
    as the paper says, at least one. license: of this clip, or the dataset's; empty where nobody has said.
    root: not a column; where `path` lies, filled in when a manifest is read.
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
        """The audio file itself."""
        return self.root / self.path


@dataclass(frozen=True, slots=True)
class Dropped:
    """An item that is in no manifest, and why. reason: a short class such as `missing`; detail: the whole story."""

    id: str
    split: str
    path: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Manifest:
    """A manifest as read. metadata: `format_version`, `dataset`, `root`, `options` (decoded)."""

    clips: list[Clip]
    root: Path
    metadata: dict[str, Any]


def columns() -> pyarrow.Schema:
    """The columns of a manifest, in order, without metadata."""
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
    """Takes the clips of one manifest; `new_manifest` makes it. ids: of the clips so far."""

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
        """Write what waits, as a row group. Raises AudiogenError if the disk refuses."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with _disk_errors(self.path):
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
        with _disk_errors(self.path):
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


def write_manifest(path: Path, clips: Iterable[Clip], metadata: Mapping[str, Any]) -> None:
    """Write a manifest, whole or not at all; see `new_manifest`."""
    with new_manifest(path, metadata) as writer:
        for clip in clips:
            writer.add(clip)


def read_manifest(path: Path) -> Manifest:
    """Read and check one manifest. Raises InputError if it is absent, damaged or no manifest."""
    metadata, _, stream = stream_manifest(path)
    clips = list(stream)
    if len({clip.id for clip in clips}) < len(clips):
        raise InputError(f"{path}: two clips have one id; make it again with audiogen prep")
    return Manifest(clips, Path(metadata["root"]), metadata)


def stream_manifest(path: Path) -> tuple[dict[str, Any], int, Iterator[Clip]]:
    """A manifest's metadata, its number of clips, and these one after the other: two million need no memory.

    Raises InputError if it is absent, damaged or no manifest.
    """
    file, metadata = _open(path)
    root = Path(metadata["root"])
    clips = chain.from_iterable(_rows(batch, path, root) for batch in _batches(file, path))
    return metadata, file.metadata.num_rows, clips


def _open(path: Path) -> tuple[pyarrow.parquet.ParquetFile, dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise InputError(f"{path}: no such manifest; make it with audiogen prep")
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None
    metadata = _metadata(file.schema_arrow, path)
    if file.schema_arrow.names != columns().names:
        wrong = sorted(set(file.schema_arrow.names) ^ set(columns().names))
        raise InputError(f"{path}: not a manifest: its columns differ in {', '.join(wrong) or 'their order'}")
    return file, metadata


def _batches(file: pyarrow.parquet.ParquetFile, path: Path) -> Iterator[pyarrow.RecordBatch]:
    import pyarrow as pa

    try:
        yield from file.iter_batches(GROUP_ROWS)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _rows(batch: pyarrow.RecordBatch, path: Path, root: Path) -> Iterator[Clip]:
    for row in batch.to_pylist():
        clip = Clip(**_tuples(row), root=root)
        try:
            _check(clip)
        except ValueError as error:
            raise InputError(f"{path}: {error}; make it again with audiogen prep") from None
        yield clip


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})")


class Clips(Sequence[Clip]):
    """Clips mapped from a temporary file: two million of them take disk, not memory. `load_manifests` makes it."""

    def __init__(self, batches: Sequence[pyarrow.RecordBatch], roots: Sequence[Path], source: Path) -> None:
        self._batches, self._roots, self._source = batches, roots, source  # roots: one per batch
        self._ends = list(accumulate(batch.num_rows for batch in batches))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> list[Clip]: ...
    def __getitem__(self, index: int | slice) -> Clip | list[Clip]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]  # IndexError, negative numbers
        number = bisect_right(self._ends, index)
        first = self._ends[number] - self._batches[number].num_rows
        return next(_rows(self._batches[number].slice(index - first, 1), self._source, self._roots[number]))

    def __iter__(self) -> Iterator[Clip]:
        for batch, root in zip(self._batches, self._roots, strict=True):
            yield from _rows(batch, self._source, root)


def load_manifests(
    source: Path, datasets: Collection[str] | None = None, splits: Collection[str] | None = None
) -> Clips:
    """All clips of the given datasets and splits (None: all), in the order of dataset names and manifest rows.

    source: a folder of manifests, or one manifest.
    Raises InputError if there is no manifest, a dataset has none, no clip is left, two have one id, or the audio's
    root is gone.
    """
    unknown = sorted(set(splits or ()) - set(SPLITS))
    if unknown:
        raise InputError(f"unknown split '{unknown[0]}': choose from {', '.join(SPLITS)}")
    with tempfile.TemporaryDirectory(prefix="audiogen-") as folder:
        spool = Path(folder) / "clips.arrow"
        roots, ids = _copy_rows(manifest_files(source, datasets), spool, {"dataset": datasets, "split": splits})
        if not ids:
            raise InputError(f"{source}: no clips in split {', '.join(splits or SPLITS)}; see audiogen info {source}")
        batches = _map(spool)  # which outlives the file's name
    if len(np.unique(np.frombuffer(ids, np.int64))) < len(ids):
        raise InputError(f"{source}: two clips have one id; make the manifests again with audiogen prep")
    return Clips(batches, roots, source)


def _copy_rows(
    manifests: Sequence[Path], spool: Path, wanted: Mapping[str, Collection[str] | None]
) -> tuple[list[Path], array[int]]:
    """Copy the rows whose columns hold a wanted value (None: any); returns each batch's root and hashes of all ids."""
    import pyarrow as pa

    roots: list[Path] = []
    ids = array("q")
    with pa.OSFile(str(spool), "wb") as sink, pa.ipc.new_file(sink, columns()) as writer:
        for path in manifests:
            file, metadata = _open(path)
            root = Path(metadata["root"])
            for batch in _batches(file, path):
                chosen = _choose(batch, wanted)
                if not chosen.num_rows:
                    continue
                if not root.is_dir():
                    raise InputError(f"{path}: its recordings' folder {root} is gone; run audiogen prep again")
                writer.write_batch(chosen.replace_schema_metadata(None))
                roots.append(root)
                ids.extend(map(hash, chosen["id"].to_pylist()))
    return roots, ids


def _choose(batch: pyarrow.RecordBatch, wanted: Mapping[str, Collection[str] | None]) -> pyarrow.RecordBatch:
    import pyarrow as pa
    import pyarrow.compute as pc

    for column, values in wanted.items():
        if values:
            batch = batch.filter(pc.is_in(batch[column], pa.array(sorted(values))))
    return batch


def _map(path: Path) -> list[pyarrow.RecordBatch]:
    import pyarrow as pa

    file = pa.ipc.open_file(pa.memory_map(str(path)))
    return [file.get_batch(number) for number in range(file.num_record_batches)]


def manifest_files(source: Path, datasets: Collection[str] | None = None) -> list[Path]:
    """The manifests at `source`, sorted by name. Raises InputError if there are none, or none for a dataset."""
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
    """Where the list of dropped items of a manifest lies: `<dataset>.dropped.jsonl`."""
    return manifest.with_suffix(".dropped.jsonl")


@contextmanager
def new_dropped(path: Path) -> Iterator[Callable[[Dropped], None]]:
    """A function that takes dropped items: one JSON object a line (id, split, path, reason, detail), all or nothing."""

    def add(item: Dropped) -> None:
        row = {name: getattr(item, name) for name in Dropped.__dataclass_fields__}
        file.write(json.dumps(row, ensure_ascii=False) + "\n")

    with ExitStack() as stack:
        with _disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = stack.enter_context(replacing(path))
            # an error's text may quote a file name that is not UTF-8
            file = stack.enter_context(temporary.open("w", encoding="utf-8", errors="backslashreplace"))
        yield add


def read_dropped(path: Path) -> Iterator[Dropped]:
    """The dropped items beside a manifest; none if the file is absent."""
    if path.is_file():
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield Dropped(**json.loads(line))


def _metadata(schema: pyarrow.Schema, path: Path) -> dict[str, Any]:
    texts = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    missing = [key for key in ("format_version", "dataset", "root", "options") if key not in texts]
    if missing:
        raise InputError(f"{path}: not a manifest: its schema metadata lacks {', '.join(missing)}")
    version = int(texts["format_version"])
    if version > FORMAT_VERSION:
        raise InputError(f"{path}: written by a newer audiogen (format {version}); upgrade")
    return {
        "format_version": version,
        "dataset": texts["dataset"],
        "root": texts["root"],
        "options": json.loads(texts["options"]),
    }


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}


def _check(clip: Clip) -> None:
    if not clip.texts or not all(clip.texts):
        raise ValueError(f"{clip.id} has no text")
    if cast(str, clip.split) not in SPLITS:
        raise ValueError(f"{clip.id} is in split '{clip.split}'")


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Say which file the disk refused."""
    try:
        yield
    except OSError as error:
        raise AudiogenError(f"{path}: cannot be written: {error.strerror or error}") from None
