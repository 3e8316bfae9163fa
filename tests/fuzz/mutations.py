"""Seeded, structure-aware damage: values, tables, tensors, cells and bytes of every kind that a reader may meet."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

DEEP = 3000  # levels of nesting: beyond what Python recurses
HOSTILE: tuple[Any, ...] = (
    *(None, True, False, "", "x", " ", "nan", "\0", "\x1b[31m", "\ud83d", "é" * 300, "a\nb", "../..", "/"),
    *(0, -1, 1, 2, 3, 0.5, -0.5, 1e-300, 1e300, float("nan"), float("inf"), float("-inf")),
    *(10**6, 2**31 - 1, 2**31, 2**53 + 1, 2**63, 2**64, 2**70, -(2**70), 10**400),
    *([], {}, [[]], [None], ["x"], [0], {"": None}, {"x": 1}, [[[[0]]]], ["x"] * 2000),
)


def mutate(path: Path, kind: str, random: Random) -> str:
    """Damage the file at `path`; return in words what was done. kind: a key of KINDS."""
    structured, share = KINDS[kind]
    data, done = path.read_bytes(), ""
    if random.random() < share:
        with contextlib.suppress(
            ArithmeticError, LookupError, TypeError, ValueError, RuntimeError
        ):  # not every format holds that
            done = structured(path, random)
    if not done:
        name, damage = random.choice(BYTES)
        path.unlink()
        path.write_bytes(damage(data, random))
        done = name
    return f"{path.name}: {done}"


# --- bytes ---


def _cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _flip(data: bytes, random: Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(random.choice((1, 1, 4, 40))):
        if damaged:
            damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
    return bytes(damaged)


def _splice(data: bytes, random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + random.randbytes(random.choice((1, 8, 200))) + data[at:]


def _repeat(data: bytes, random: Random) -> bytes:
    begin, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
    return data[:end] + data[begin:end] * random.choice((1, 2, 5)) + data[end:]


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 3700000000\n"
HTML = b"<!DOCTYPE html>\n<html><head><title>404</title></head><body>Not found</body></html>\n"
BYTES: tuple[tuple[str, Callable[[bytes, Random], bytes]], ...] = (
    ("cut", _cut),
    ("bits flipped", _flip),
    ("bits flipped", _flip),
    ("bytes put in", _splice),
    ("a part repeated", _repeat),
    ("emptied", lambda data, random: b""),
    ("noise", lambda data, random: random.randbytes(200)),
    ("zeros", lambda data, random: bytes(len(data))),
    ("a Git LFS pointer", lambda data, random: LFS),
    ("HTML", lambda data, random: HTML),
    ("UTF-16", lambda data, random: data.decode("utf-8", "replace").encode("utf-16")),
    ("Latin-1", lambda data, random: "é".encode("latin-1") + data),
)

# --- plain values: JSON and YAML ---


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if len(path) > 12:
        return found
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        found += _places(part, (*path, key))
    return found


def mutate_value(document: Any, random: Random) -> tuple[Any, str]:
    """Return a damaged copy of plain values, and what was done in words."""
    document = copy.deepcopy(document)
    for _ in range(random.choice((1, 1, 1, 2))):
        document, done = _mutate_once(document, random)
    return document, done


def _mutate_once(document: Any, random: Random) -> tuple[Any, str]:
    path = random.choice(_places(document)[1:] or [()]) if random.random() < 0.97 else ()
    if not path:
        value = copy.deepcopy(random.choice(HOSTILE))
        return value, f"all of it is {_show(value)}"
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    key, where = path[-1], ".".join(map(str, path))
    old = holder[key]
    act = random.choice(("set", "set", "set", "set", "remove", "rename", "wrap", "scale", "deepen", "shorten", "add"))
    if act == "remove":
        del holder[key]
    elif act == "rename" and isinstance(holder, dict):
        holder[f"{key}²"] = holder.pop(key)
    elif act == "wrap":
        holder[key] = random.choice(([old], {"x": old}, str(old)))
    elif act == "scale" and isinstance(old, (int, float)) and not isinstance(old, bool):
        holder[key] = random.choice((-old, old + 1, old - 1, old * 1000, old * 1e9, old / 3, float(old)))
    elif act == "deepen":
        nested: Any = 0
        for _ in range(DEEP if random.random() < 0.2 else 50):
            nested = [nested]
        holder[key] = nested
    elif act == "shorten" and isinstance(old, (list, str)):
        holder[key] = random.choice((old[:-1], old[1:], old * 2, old[::-1]))
    elif act == "add" and isinstance(old, dict):
        old[random.choice(("", "x", "²"))] = copy.deepcopy(random.choice(HOSTILE))
    else:
        act, holder[key] = "set", copy.deepcopy(random.choice(HOSTILE))
        return document, f"{where} = {_show(holder[key])}"
    return document, f"{where}: {act}"


def _show(value: Any) -> str:
    text = repr(value) if not (isinstance(value, int) and abs(value) > 10**40) else "10**400"
    return text if len(text) < 60 else text[:57] + "…"


def dump(value: Any) -> str:
    """Write JSON by hand: the standard writer refuses deep nesting and long numbers."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {dump(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        depth = 0
        while isinstance(value, list) and len(value) == 1:
            depth, value = depth + 1, value[0]
        inner = ", ".join(map(dump, value)) if isinstance(value, list) else dump(value)
        bare = "[" * depth + (f"[{inner}]" if isinstance(value, list) else inner) + "]" * depth
        return bare
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**40:
        return "1" + "0" * 4999
    return json.dumps(value)


def _json(path: Path, random: Random) -> str:
    value, done = mutate_value(json.loads(path.read_text()), random)
    path.write_text(dump(value))
    return done


def _json_lines(path: Path, random: Random) -> str:
    lines = path.read_text().splitlines()
    number = random.randrange(len(lines))
    value, done = mutate_value(json.loads(lines[number]), random)
    lines[number] = dump(value)
    path.write_text("\n".join(lines) + "\n")
    return f"line {number + 1}, {done}"


def _yaml(path: Path, random: Random) -> str:
    from ruamel.yaml import YAML

    if random.random() < 0.3:
        line = random.choice(
            [
                "d: 2026-01-01",
                "a: &a [*a]",
                "a: !!python/object:x.y {}",
                "? [1]\n: 2",
                "1: 2",
                "max_steps: 1",
                "x: *y",
                "seed: 0x" + "f" * 5000,
                "seed: 1" + "0" * 5000,
                "optim: {lr: .nan}",
                "{" * 900,
                "- " * 900,
                "\t\tx",
            ]
        )
        path.write_text(path.read_text() + line + "\n")
        return f"and {line[:40]!r}"
    value, done = mutate_value(YAML(typ="safe").load(path.read_text()), random)
    path.write_text(dump(value), errors="surrogatepass")
    return done


# --- tables ---


def _parquet(path: Path, random: Random) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path, partitioning=None)
    name = random.choice(table.column_names)
    at = table.column_names.index(name)
    act = random.choice(("set", "set", "set", "set", "set", "type", "remove", "rename", "order", "rows", "metadata"))
    if act == "set":
        values = table[name].to_pylist()
        row = random.randrange(len(values))
        values[row], done = _hostile_cell(values[row], random)
        try:
            column = pa.array(values, table.schema.field(name).type)
        except (pa.ArrowException, OverflowError, TypeError, ValueError, UnicodeError):
            try:
                column = pa.array([None if v is None else str(v) for v in values])
            except UnicodeError:
                column = pa.nulls(len(values))
        table = table.set_column(at, pa.field(name, column.type), column)
        act = f"row {row}, {name} = {done}"
    elif act == "type":
        kinds = (pa.string(), pa.int8(), pa.float32(), pa.binary(), pa.list_(pa.int64()), pa.bool_(), pa.large_string())
        kind = random.choice(kinds)
        try:
            column = table[name].cast(kind)
        except pa.ArrowException:
            column = pa.nulls(len(table), kind)
        table, act = table.set_column(at, name, column), f"{name} is {kind}"
    elif act == "remove":
        table, act = table.remove_column(at), f"without {name}"
    elif act == "rename":
        table = table.rename_columns([f"{each}²" if each == name else each for each in table.column_names])
    elif act == "order":
        table = table.select(random.sample(table.column_names, len(table.column_names)))
    elif act == "rows":
        table = random.choice((table.slice(0, 0), table.slice(1), pa.concat_tables([table, table])))
    else:
        metadata = dict(table.schema.metadata or {})
        key = random.choice([*metadata, b"x"])
        metadata[key] = random.choice((b"", b"null", b"99999", b"-1", b"{", b"\xff", b"[" * DEEP, b"1e400", b"nothing"))
        table, act = table.replace_schema_metadata(metadata), f"metadata {key!r} = {metadata[key][:20]!r}"
    path.unlink()
    pq.write_table(table, path)
    return act


def _hostile_cell(old: Any, random: Random) -> tuple[Any, str]:
    if isinstance(old, list):
        inner = copy.deepcopy(old)
        value = random.choice(
            [[], None, inner[:-1], inner * 2, [None], inner[1:], [*inner, None], [*inner, "x"], [65_535] * 3]
            + ([[each + 1000 for each in inner]] if inner and isinstance(inner[0], int) else [[""], [" "], ["é" * 999]])
        )
    else:
        value = random.choice((*HOSTILE, -(old if isinstance(old, (int, float)) else 1)))
    return value, _show(value)


def _cells(path: Path, random: Random, many: int = 2000) -> str:
    lines = path.read_text("utf-8").splitlines() or [""]
    number = random.randrange(len(lines))
    cells = lines[number].split(",")
    at = random.randrange(len(cells))
    texts = [
        "",
        " ",
        '"',
        '""',
        "nan",
        "-1",
        "1e999",
        "9" * 5000,
        "\0",
        "\x1b[31m",
        "7.0",
        "NULL",
        "é",
        "a;b",
        "x" * 9999,
    ]
    act = random.choice(("cell", "cell", "cell", "fewer", "more", "twice", "header", "gone", "many"))
    if act == "cell":
        cells[at] = random.choice(texts)
    elif act == "fewer":
        cells.pop(at)
    elif act == "more":
        cells.insert(at, "x")
    lines[number] = ",".join(cells)
    if act == "twice":
        lines.insert(number, lines[number])
    elif act == "header":
        lines.insert(0, random.choice(("sep=;", lines[0].upper(), "", lines[0].replace(",", ";"), lines[0] + ",x")))
    elif act == "gone":
        del lines[number]
    elif act == "many":
        lines += [",".join(f"{cell}{i}" for cell in cells) for i in range(many)]
    path.write_text(random.choice(("\n", "\r\n", "\r")).join(lines) + "\n", "utf-8", newline="")
    return f"line {number + 1}: {act}"


# --- tensors ---


def _mutate_tensors(state: Any, random: Random) -> tuple[Any, str]:
    """Damage nested dicts of tensors and plain values."""
    import torch

    places = [path for path in _places(state)[1:] if path]
    path = random.choice(places or [()])
    if not path:
        return {}, "all gone"
    holder = state
    for key in path[:-1]:
        holder = holder[key]
    old, where = holder[path[-1]], ".".join(map(str, path))
    if isinstance(old, torch.Tensor):
        value = random.choice(
            (
                old.flatten(),
                old[:0],
                old.new_zeros(()),
                old.double(),
                old.half(),
                old.to(torch.int64),
                old[None],
                None,
                torch.full_like(old, float("nan")) if old.is_floating_point() else old - 1,
                old.t() if old.ndim == 2 else 3,
            )
        )
    else:
        value = copy.deepcopy(random.choice(HOSTILE))
    if random.random() < 0.2:
        del holder[path[-1]]
        return state, f"{where} removed"
    holder[path[-1]] = value
    shown = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, torch.Tensor) else _show(value)
    return state, f"{where} = {shown}"


def _torch(path: Path, random: Random) -> str:
    import torch

    state, done = _mutate_tensors(torch.load(path, weights_only=True), random)
    if random.random() < 0.05:
        state, done = random.choice((([], "a list"), (None, "None"), (torch.zeros(3), "a tensor"), ({1: 2}, "{1: 2}")))
    path.unlink()
    torch.save(state, path)
    return done


def _safetensors(path: Path, random: Random) -> str:
    import torch
    from safetensors.torch import load_file, save_file

    weights, done = _mutate_tensors(load_file(path), random)
    path.unlink()
    save_file({k: v.contiguous().clone() for k, v in weights.items() if isinstance(v, torch.Tensor)}, path)
    return done


def _arrays(path: Path, random: Random) -> str:
    import numpy as np

    loaded = np.load(path)
    arrays = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    name = random.choice(list(arrays))
    old = arrays[name]
    arrays[name] = random.choice(
        (
            old.ravel(),
            old.ravel()[:0],
            np.zeros(()),
            old.astype(str),
            old.astype(np.int64),
            np.full_like(old, -1),
            np.full(old.shape, np.nan),
            old[None],
            old.astype(complex),
        )
    )
    if random.random() < 0.2 and len(arrays) > 1:
        del arrays[name]
    path.unlink()
    buffer = io.BytesIO()
    np.save(buffer, arrays[""]) if "" in arrays else np.savez(buffer, **arrays)
    path.write_bytes(buffer.getvalue())
    return f"{name}: {old.shape} changed"


def _sqlite(path: Path, random: Random) -> str:
    statement = random.choice(
        [
            f"UPDATE facts SET {column} = {value}"
            for column in ("size", "sample_rate", "channels", "n_samples", "description", "keywords")
            for value in ("NULL", "-1", "0", "'x'", "x'ff'", "1e300", "9223372036854775807", "'{\"a\": 1}'", "'[1]'")
        ]
        + ["DROP TABLE facts", "DELETE FROM facts", "ALTER TABLE facts ADD COLUMN more"]
        + ["ALTER TABLE facts DROP COLUMN keywords", "ALTER TABLE facts RENAME COLUMN size TO length"]
        + ["ALTER TABLE facts RENAME TO others", "PRAGMA user_version = 99", "CREATE VIEW v AS SELECT 1"]
    )
    with sqlite3.connect(path) as database:
        database.execute(statement)
    database.close()
    return statement


# kind → its damage, and the share of it that knows the format; the rest is done to bytes
KINDS: dict[str, tuple[Callable[[Path, Random], str], float]] = {
    "json": (_json, 0.8),
    "jsonl": (_json_lines, 0.8),
    "yaml": (_yaml, 0.8),
    "parquet": (_parquet, 0.8),
    "csv": (_cells, 0.7),
    "prompts": (lambda path, random: _cells(path, random, 3), 0.7),
    "torch": (_torch, 0.7),
    "safetensors": (_safetensors, 0.7),
    "arrays": (_arrays, 0.6),
    "sqlite": (_sqlite, 0.6),
    "bytes": (_json, 0.0),
}
