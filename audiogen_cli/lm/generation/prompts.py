"""Prompt files: one sound a line, as plain text, CSV or JSON lines."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from audiogen_cli.errors import InputError
from audiogen_cli.lm.generation.requests import Prompt
from audiogen_cli.lm.sampling_config import SETTINGS

OVERRIDES = {setting.name: type(setting.default) for setting in SETTINGS}  # column → type
COLUMNS = {"seed": int, "duration": float, **OVERRIDES}
SUFFIXES = {".txt": "txt", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}

Rows = Iterator[tuple[int, dict[str, Any]]]  # numbers of lines, and what they hold


def read_prompts(source: Path) -> list[Prompt]:
    """Read a prompt file; `-` is stdin.

    .txt: a prompt a line. .csv: a header with `prompt` and, if wanted, the columns in COLUMNS and `name`. .jsonl: a
    string or an object with those keys a line. For stdin and other suffixes the first line decides. Blank lines are
    skipped. Raises InputError naming the line at fault, or if there is no prompt at all.
    """
    text, where = _read(source), "stdin" if str(source) == "-" else str(source)
    kind = SUFFIXES.get(source.suffix.lower()) or _guess_format(text)
    readers: dict[str, Callable[[str, str], Rows]] = {"txt": _text_rows, "csv": _csv_rows, "jsonl": _json_rows}
    prompts = [_prompt(values, f"{where} line {line}") for line, values in readers[kind](text, where)]
    if not prompts:
        raise InputError(f"{where} holds no prompts")
    return prompts


def _read(source: Path) -> str:
    try:
        data = sys.stdin.buffer.read() if str(source) == "-" else source.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"--prompts {source}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"--prompts {source}: not UTF-8 text") from None


def _guess_format(text: str) -> str:
    first = next((line for _, line in _lines(text)), "")
    if first.startswith("{"):
        return "jsonl"
    return "csv" if "prompt" in [name.strip() for name in first.split(",")] else "txt"


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines that hold something. No splitlines(): it would break JSON at U+2028."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.strip()


def _text_rows(text: str, where: str) -> Rows:
    for number, line in _lines(text):
        yield number, {"prompt": line}


def _csv_rows(text: str, where: str) -> Rows:
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    try:
        if "prompt" not in (reader.fieldnames or ()):
            raise InputError(f"{where}: its first line must name the columns, one of them 'prompt'")
        for row in reader:
            if None in row or None in row.values():
                raise InputError(
                    f"{where} line {reader.line_num}: {'more' if None in row else 'fewer'} fields than columns; "
                    "put quotes around a prompt with commas"
                )
            yield reader.line_num, {key: value for key, value in row.items() if key == "prompt" or value.strip()}
    except csv.Error as error:
        raise InputError(f"{where} line {reader.line_num}: not valid CSV: {error}") from None


def _json_rows(text: str, where: str) -> Rows:
    for number, line in _lines(text):
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{where} line {number}: not valid JSON: {error.msg}") from None
        row = {"prompt": value} if isinstance(value, str) else value
        if not isinstance(row, dict) or "prompt" not in row:
            raise InputError(f"{where} line {number}: expected a string or an object with 'prompt'")
        yield number, {key: value for key, value in row.items() if key == "prompt" or value is not None}


def _prompt(values: Mapping[str, Any], where: str) -> Prompt:
    found = {name: _convert(name, values[name], where) for name in COLUMNS if name in values}
    text, name = values["prompt"], values.get("name")
    if text is not None and (not isinstance(text, str) or not text.strip()):
        raise InputError(f"{where}: the prompt is empty or no text")
    if name is not None:
        _check_name(name, where)
    return Prompt(
        text and text.strip(),
        found.get("seed"),
        found.get("duration"),
        name,
        overrides={key: value for key, value in found.items() if key in OVERRIDES},
        extra={key: value for key, value in values.items() if key not in {"prompt", "name", *COLUMNS}},
        where=where,
    )


def _convert(name: str, value: Any, where: str) -> Any:
    """Convert `value`, a str where it comes from CSV, to the type of the column `name`."""
    if COLUMNS[name] is str:
        if not isinstance(value, str):
            raise InputError(f"{where}: {name} must be a text, not {value!r}")
        return value.strip()
    try:
        number = float(value)
        if isinstance(value, bool) or not math.isfinite(number) or (COLUMNS[name] is int and number % 1):
            raise ValueError
        return int(value) if COLUMNS[name] is int else number
    except (TypeError, ValueError):
        kind = "a whole number" if COLUMNS[name] is int else "a number"
        raise InputError(f"{where}: {name} must be {kind}, not {value!r}") from None


def _check_name(name: Any, where: str) -> None:
    if not isinstance(name, str) or not name.strip() or Path(name).name != name or name in {".", ".."} or "\0" in name:
        raise InputError(f"{where}: name must be a plain file name without folders, not {name!r}")
