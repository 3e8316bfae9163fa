"""Token shards: a folder of Parquet files with the codes of clips, and `meta.json` saying which codec made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import ConfigDict, Field

from audiogen_cli.data.manifest import SPLITS
from audiogen_cli.data.mapped_parquet import (
    Check,
    Where,
    check_columns,
    map_parquet,
    open_parquet,
    read_columns,
    refuse_empty,
    refuse_first,
)
from audiogen_cli.errors import AudiogenError, InputError, disk_errors
from audiogen_cli.files import note, parse_json, read_json, replacing, write_text
from audiogen_cli.training.recipe import STRICT, Number, Rate, Streams, validate

if TYPE_CHECKING:
    import datasets
    import pyarrow
    import pyarrow.parquet

FORMAT_VERSION = 1
UNSEEN = "?"  # ends what stands for files that cannot be looked at
META_FILE = "meta.json"
READ_ROWS = 1024
OPTIONAL = ("captions", "tags")  # columns that older shards lack


@dataclass(frozen=True)
class ShardMeta:
    """The description shared by all shards of a folder. codec_fingerprint: SHA-256 of the codec's weights.

    frame_rate: frames per second; sample_rate: Hz, of the audio behind the codes. counts: shards, rows, frames and the
    rows of each split.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    codec_fingerprint: str
    n_q: Streams
    codebook_size: Annotated[int, Field(ge=2, le=1 << 16)]
    frame_rate: Annotated[float, Field(gt=0, le=1_000_000)]
    sample_rate: Rate
    counts: dict[str, Number]
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class TokenRow:
    """One row of a shard.

    texts: as the model reads them (sec. 4.1). codes: [n_q, n_frames]. sources: ids of the clips mixed into it, empty if
    it is no mix. captions: its texts as published, for models with `text_processing: none`. tags: as published, if
    it has no captions but these.
    """

    id: str
    dataset: str
    split: str
    texts: tuple[str, ...]
    codes: np.ndarray
    sources: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


def columns() -> pyarrow.Schema:
    """Return the columns of a shard, in order. codes: n_q × n_frames in C order."""
    import pyarrow as pa

    return pa.schema(
        [
            *(pa.field(name, pa.string(), nullable=False) for name in ("id", "dataset", "split")),
            pa.field("texts", pa.list_(pa.string()), nullable=False),
            pa.field("codes", pa.list_(pa.uint16()), nullable=False),
            pa.field("n_frames", pa.int32(), nullable=False),
            *(pa.field(name, pa.list_(pa.string()), nullable=False) for name in ("sources", "captions", "tags")),
        ]
    )


class ShardWriter:
    """Writes the shards of one run; a shard that is already there and was made the same way need not be made again.

    meta: all but the counts. keys: one string per shard that changes with anything the shard depends on; shards are
    numbered by it, and each keeps its key and its `notes` (any JSON) in its own metadata. files: one string per shard
    that changes with the recordings behind it; a shard with another one is not finished, and is made again. If they
    cannot be looked at (UNSEEN), as on a disk that is not mounted, it is kept and named.
    Raises InputError if the folder holds shards of another run: nothing is silently replaced.
    """

    def __init__(self, folder: Path, meta: ShardMeta, keys: Sequence[str], files: Sequence[str] = ()) -> None:
        self.folder, self.meta, self.keys = folder, meta, keys
        self.files = files or [""] * len(keys)
        extra = {path.name for path in shard_files(folder)} - {self.path(n).name for n in range(len(keys))}
        there = [n for n in range(len(keys)) if self.path(n).is_file()]
        other = sorted(extra) or [self.path(n).name for n in there if _read_metadata(self.path(n), "key") != keys[n]]
        if other:
            raise InputError(
                f"{folder} holds shards of other clips, settings or another codec ({other[0]}): "
                "choose another --out, or delete that folder"
            )
        if unseen := [n for n in there if self.files[n].endswith(UNSEEN)]:
            first = self.path(unseen[0]).name
            note(f"warning: {len(unseen):,} finished shards are kept, but recordings of theirs are gone, as of {first}")
        if not all(map(self.is_finished, there)):
            (folder / META_FILE).unlink(missing_ok=True)  # nobody trains on some old shards and some new ones

    def path(self, number: int) -> Path:
        """Return the file of shard `number`."""
        return self.folder / f"shard-{number:05d}.parquet"

    def is_finished(self, number: int) -> bool:
        """Return whether this process or another has written shard `number`, and no recording of it is another now.

        A shard of an older version does not record them.
        """
        path, files = self.path(number), self.files[number]
        return path.is_file() and (files.endswith(UNSEEN) or _read_metadata(path, "files") in ("", files))

    def write(self, number: int, rows: Sequence[TokenRow], notes: Sequence[dict[str, str]] = ()) -> None:
        """Write a shard, whole or not at all. Raises AudiogenError if the disk refuses."""
        import pyarrow.parquet as pq

        table = _table(rows, self.meta)
        metadata = {"key": self.keys[number], "files": self.files[number], "notes": json.dumps(list(notes))}
        table = table.replace_schema_metadata({**metadata, "content": _digest(table)})
        with disk_errors(self.path(number)):
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.path(number)) as temporary:
                pq.write_table(table, temporary, compression="zstd")

    def notes(self) -> list[dict[str, str]]:
        """Return the notes of all shards."""
        return [note for number in range(len(self.keys)) for note in read_notes(self.path(number))]

    def finish(self) -> ShardMeta:
        """Write `meta.json` with the counts of all shards. Raises AudiogenError if one is missing."""
        if missing := [self.path(n).name for n in range(len(self.keys)) if not self.is_finished(n)]:
            raise AudiogenError(f"{self.folder}: {missing[0]} is missing; run the same audiogen tokenize again")
        counts: dict[str, int] = {"shards": len(self.keys), "rows": 0, "frames": 0, "train": 0, "val": 0, "test": 0}
        for number in range(len(self.keys)):
            table = read_shard(self.path(number), self.meta, ["split", "n_frames"])
            counts["rows"] += table.num_rows
            counts["frames"] += sum(table["n_frames"].to_pylist())
            for split in table["split"].to_pylist():
                counts[split] += 1
        meta = replace(self.meta, counts=counts)
        write_text(self.folder / META_FILE, json.dumps(asdict(meta), indent=2) + "\n")
        return meta


def shard_files(folder: Path) -> list[Path]:
    """List the shards in a folder, in order."""
    return sorted(folder.glob("shard-*.parquet"))


def read_notes(shard: Path) -> list[dict[str, str]]:
    """What was noted when a shard was written: id and reason of every row left out."""
    where = f"{shard}: notes"
    return validate(list[dict[str, str]], parse_json(_read_metadata(shard, "notes") or "[]", where), where)


def read_shard(shard: Path, meta: ShardMeta, names: Sequence[str]) -> pyarrow.Table:
    """Read some columns of a shard, checked. Raises InputError, with file, row and column."""
    return read_columns(_open(shard), shard, READ_ROWS, _checker(meta), names)


def _open(shard: Path) -> pyarrow.parquet.ParquetFile:
    file = open_parquet(shard)
    check_columns(file, shard, columns(), "a token shard", OPTIONAL)
    return file


def _checker(meta: ShardMeta) -> Check:
    """Return what raises InputError for the first row that no shard of `meta` can hold."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def check(batch: pyarrow.RecordBatch, where: Where) -> None:
        names = batch.schema.names
        refuse_empty(batch, where)
        if "split" in names:
            refuse_first(
                where, "split", pc.invert(pc.is_in(batch["split"], pa.array(SPLITS))), f"is none of {', '.join(SPLITS)}"
            )
        if "texts" in names:
            refuse_first(where, "texts", pc.equal(pc.list_value_length(batch["texts"]), 0), "is empty")
        if "n_frames" in names:
            refuse_first(where, "n_frames", pc.less(batch["n_frames"], 1), "is less than 1")
        if "codes" in names:
            n_codes = pc.multiply(pc.cast(batch["n_frames"], pa.int64()), meta.n_q)
            wrong = pc.not_equal(pc.cast(pc.list_value_length(batch["codes"]), pa.int64()), n_codes)
            refuse_first(where, "codes", wrong, f"does not hold n_frames codes of {meta.n_q} streams")
            large = pc.greater_equal(pc.list_flatten(batch["codes"]), meta.codebook_size)
            if pc.any(large).as_py():
                rows = pc.list_parent_indices(batch["codes"]).filter(large)
                wrong = pc.is_in(pa.array(range(batch.num_rows)), rows)
                refuse_first(where, "codes", wrong, f"holds a code beyond the {meta.codebook_size} of its codebooks")

    return check


def content_digest(folder: Path) -> str:
    """Return a digest of all rows of a folder's shards, as each has kept its own; "" if one is of an older version."""
    digests = [_read_metadata(path, "content") for path in shard_files(folder)]
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16] if all(digests) else ""


def _digest(table: pyarrow.Table) -> str:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return hashlib.sha256(sink.getvalue()).hexdigest()


def _read_metadata(shard: Path, key: str) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(shard).metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{shard} is damaged ({error}): delete it and run again") from None
    return str(metadata.get(key.encode(), b"").decode("utf-8", "replace"))


def read_meta(folder: Path) -> ShardMeta:
    """Read `meta.json`. Raises InputError if the folder holds no (or only half-made, or newer) shards."""
    path = folder / META_FILE
    if not path.is_file():
        if shard_files(folder):
            raise InputError(f"{folder}: its shards are unfinished; run the same audiogen tokenize again")
        raise InputError(f"{folder}: no token shards here; make them with audiogen tokenize")
    document = read_json(path)
    version = document.get("format_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise InputError(f"{path}: written by a newer audiogen (format {version}); upgrade")
    meta = validate(ShardMeta, document, f"{path}: not the description of token shards")
    if missing := {"shards", "rows", "frames"} - meta.counts.keys():
        raise InputError(f"{path}: counts lacks {', '.join(sorted(missing))}; run audiogen tokenize again")
    return meta


def load_shards(folder: Path, splits: Collection[str] | None = None) -> datasets.Dataset:
    """Load all rows of the given splits (None: all), memory-mapped, in shard order.

    Columns as in `columns()`; with_format("numpy") gives codes as integers [n_q · n_frames], in C order.
    Raises InputError if there are no shards or no such rows.
    """
    meta = read_meta(folder)
    files = shard_files(folder)
    if len(files) != meta.counts["shards"]:
        raise InputError(
            f"{folder}: {len(files)} shards of {meta.counts['shards']} are here; run audiogen tokenize again"
        )
    if not meta.counts["rows"]:
        raise InputError(f"{folder}: its shards hold no rows")
    for path in files:
        _open(path)
    rows = map_parquet(files, folder, READ_ROWS, _checker(meta))
    if len(rows) != meta.counts["rows"]:
        raise InputError(f"{folder}: {len(rows)} rows, not {meta.counts['rows']} as meta.json says; tokenize again")
    if not splits:
        return rows
    chosen = np.isin(np.asarray(rows["split"][:], dtype=object), list(splits))
    if not chosen.any():
        raise InputError(f"{folder}: no rows of {', '.join(splits)}; see audiogen info {folder}")
    return rows if chosen.all() else rows.select(np.flatnonzero(chosen), keep_in_memory=True)


def _table(rows: Sequence[TokenRow], meta: ShardMeta) -> pyarrow.Table:
    import pyarrow as pa

    for row in rows:
        if row.codes.ndim != 2 or row.codes.shape[0] != meta.n_q:
            raise ValueError(f"{row.id}: codes must be [{meta.n_q}, T], not {list(row.codes.shape)}")
        if row.codes.size and not 0 <= row.codes.min() <= row.codes.max() < meta.codebook_size:
            raise ValueError(f"{row.id}: codes must lie in [0, {meta.codebook_size})")
    sizes = np.cumsum([0, *(row.codes.size for row in rows)])
    flat = np.concatenate([np.zeros(0, np.uint16), *(row.codes.astype(np.uint16).ravel() for row in rows)])
    codes = pa.ListArray.from_arrays(pa.array(sizes, pa.int32()), pa.array(flat))
    values = {
        name: [getattr(row, name) for row in rows]
        for name in ("id", "dataset", "split", "texts", "sources", "captions", "tags")
    }
    values |= {"codes": codes, "n_frames": [row.codes.shape[1] for row in rows]}
    return pa.Table.from_pydict(values, schema=columns())
