"""Prompt files: one sound a line, as plain text, CSV or JSON lines."""

from __future__ import annotations

import codecs
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from audiogen_cli.data.tables import first_row, read_table
from audiogen_cli.errors import InputError, read_seconds
from audiogen_cli.lm.generation.requests import Prompt, check_text
from audiogen_cli.lm.sampling_config import SETTINGS

OVERRIDES = {setting.name: type(setting.default) for setting in SETTINGS}  # column → type
COLUMNS = {"seed": int, "duration": float, **OVERRIDES}
TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
TABLES, JSON = (".csv", ".tsv"), (".json", ".jsonl", ".ndjson")

Rows = Iterator[tuple[str, dict[str, Any]]]  # the place of each prompt (`line 3`), and what it holds


def read_prompts(source: Path) -> list[Prompt]:
    """Read a prompt file; `-` is stdin.

    A table (`data/tables.py`): a header with `prompt` and, if wanted, the columns in COLUMNS and `name`. JSON: a string
    or an object with those keys a line, or an array of them. Else a prompt a line. Content counts as much as suffix: a
    .txt with a header `prompt;seed` is a table. Blank lines are skipped.
    Raises InputError naming the line at fault, or if there is no prompt at all.
    """
    where, suffix = "stdin" if str(source) == "-" else str(source), source.suffix.lower()
    try:
        data = sys.stdin.buffer.read() if str(source) == "-" else source.read_bytes()
    except OSError as error:
        raise InputError(f"--prompts {source}: {error.strerror or error}") from None
    if suffix in TABLES or (suffix not in JSON and "prompt" in map(str.casefold, first_row(data))):
        rows = _table_rows(data, where)
    else:
        text = _decode(data, source)
        rows = _json_rows(text, where) if suffix in JSON or _is_json(text) else _text_rows(text)
    prompts = [_prompt(values, f"{where} {place}") for place, values in rows]
    if not prompts:
        raise InputError(f"{where} holds no prompts")
    return prompts


def _decode(data: bytes, source: Path) -> str:
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"--prompts {source}: not UTF-8 text") from None


def _is_json(text: str) -> bool:
    first = next((line for _, line in _lines(text)), "")
    return first.startswith("{") or (first.startswith("[") and _array(text) is not None)


def _array(text: str) -> list[Any] | None:
    """Return the array that a text is as a whole; None if it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and value else None


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines that hold something. No splitlines(): it would break JSON at U+2028."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.strip()


def _text_rows(text: str) -> Rows:
    for number, line in _lines(text):
        yield f"line {number}", {"prompt": line}


def _table_rows(data: bytes, where: str) -> Rows:
    table = read_table(data, ("prompt",), ("name", *COLUMNS), name=where)
    for line, row in zip(table.index, table.to_dict("records"), strict=True):
        named = _name_columns(row, f"{where} line {line}")
        yield f"line {line}", {key: value for key, value in named.items() if key == "prompt" or value}


def _json_rows(text: str, where: str) -> Rows:
    for place, value in _json_values(text, where):
        row = {"prompt": value} if isinstance(value, str) else value
        row = _name_columns(row, f"{where} {place}") if isinstance(row, dict) else {}
        if "prompt" not in row:
            raise InputError(f"{where} {place}: expected a string or an object with 'prompt'")
        yield place, {key: value for key, value in row.items() if key == "prompt" or value is not None}


def _json_values(text: str, where: str) -> Iterator[tuple[str, Any]]:
    if (array := _array(text)) is not None:
        yield from ((f"item {number}", value) for number, value in enumerate(array, 1))
        return
    for number, line in _lines(text):
        try:
            yield f"line {number}", json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where} line {number}: not valid JSON: {getattr(error, 'msg', error)}") from None


def _name_columns(row: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """Call columns of ours as COLUMNS does, however they are written: `Top-P` is top_p."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        plain = str(key).strip().casefold().replace("-", "_")
        name = plain if plain in {"prompt", "name", *COLUMNS} else str(key)
        if name in found:
            raise InputError(f"{where}: the column '{name}' is there twice")
        found[name] = value
    return found


def _prompt(values: Mapping[str, Any], where: str) -> Prompt:
    found = {name: _convert(name, values[name], where) for name in COLUMNS if name in values}
    text, name = values["prompt"], values.get("name")
    if text is not None and (not isinstance(text, str) or not text.strip()):
        raise InputError(f"{where}: the prompt is empty or no text")
    if name is not None:
        _check_name(name, where)
    for key, value in values.items():
        check_text(json.dumps([key, value], ensure_ascii=False), f"{where}: {key}")
    return Prompt(
        text and text.strip(),
        found.get("seed"),
        found.get("duration"),
        name,
        overrides={key: value for key, value in found.items() if key in OVERRIDES},
        extra=_plain({key: value for key, value in values.items() if key not in {"prompt", "name", *COLUMNS}}),
        where=where,
    )


def _convert(name: str, value: Any, where: str) -> Any:
    """Convert `value`, a str where it comes from CSV, to the type of the column `name`."""
    if COLUMNS[name] is str:
        if not isinstance(value, str):
            raise InputError(f"{where}: {name} must be a text, not {value!r}")
        return value.strip()
    if COLUMNS[name] is bool:
        if str(value).strip().lower() not in TRUTHS:
            raise InputError(f"{where}: {name} must be true or false, not {value!r}")
        return TRUTHS[str(value).strip().lower()]
    try:
        if name == "duration" and isinstance(value, str):
            value = read_seconds(value)
        number = float(value)  # spreadsheets write 7 as 7.0
        if isinstance(value, bool) or not math.isfinite(number) or (COLUMNS[name] is int and number % 1):
            raise ValueError
        if COLUMNS[name] is float:
            return number
        return int(value) if str(value).strip().lstrip("+-").isdecimal() else int(number)
    except (TypeError, ValueError, OverflowError):
        kind = "a whole number" if COLUMNS[name] is int else "a number"
        raise InputError(f"{where}: {name} must be {kind}, not {value!r}") from None


def _plain(value: dict[str, Any]) -> Any:
    """Turn numbers that no JSON can hold, NaN and infinity, into null: the values go into sidecars."""
    return json.loads(json.dumps(value), parse_constant=lambda name: None)


def _check_name(name: Any, where: str) -> None:
    plain = isinstance(name, str) and name.strip() and name.isprintable() and Path(name).name == name
    if not plain or name in {".", ".."}:
        raise InputError(f"{where}: name must be a plain file name without folders, not {name!r}")
