"""Lists the settings of a recipe, read from the code: every key with its type, default, meaning and source."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import io
import json
import re
import tokenize
import typing
from collections.abc import Iterator
from typing import Any

from audiogen_cli.training.recipe import find_recipe


@dataclasses.dataclass(frozen=True)
class Setting:
    """One key of a recipe. meaning: the comment beside it in the code; source: the one in the recipe itself."""

    key: str  # dotted, as `--set` takes it
    type: str
    default: str  # empty: it must be given
    meaning: str
    source: str


def list_settings(config_class: type, recipe: str) -> list[Setting]:
    """List all settings of a config class, in the order of its fields. recipe: the shipped one to take sources from."""
    sources = _recipe_comments(recipe)
    return [
        dataclasses.replace(setting, source=sources.get(setting.key, "")) for setting in _settings(config_class, "")
    ]


def similar_keys(config_class: type, key: str) -> list[str]:
    """Return the settings whose names resemble `key`, the likeliest first: `batchsize` → `batch_size`."""
    keys = [setting.key for setting in _settings(config_class, "")]
    last = {each: each.rpartition(".")[2] for each in keys}
    close = difflib.get_close_matches(key.rpartition(".")[2], [*last.values()], n=2, cutoff=0.7)
    return [each for name in dict.fromkeys(close) for each in keys if last[each] == name]


def _settings(config_class: type, prefix: str) -> Iterator[Setting]:
    hints, comments = typing.get_type_hints(config_class), _field_comments(config_class)
    for field in dataclasses.fields(config_class):
        nested = _dataclass_in(hints[field.name])
        if nested:
            yield from _settings(nested, f"{prefix}{field.name}.")
            continue
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        meaning = comments[field.name] or field.metadata.get("help", "")
        yield Setting(
            f"{prefix}{field.name}",
            _plain_type(hints[field.name]),
            "" if default is dataclasses.MISSING else _plain(default),
            meaning,
            "",
        )


def _dataclass_in(hint: Any) -> type | None:
    """Return the first dataclass that a type allows: of several kinds (`network.kind`) the paper's."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return hint
    return next((found for each in typing.get_args(hint) if (found := _dataclass_in(each))), None)


def _plain(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)


def _plain_type(hint: Any) -> str:
    """Name a type as a recipe's writer would: `no | bf16`, `list of int`, `text or none`."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(map(str, arguments))
    if typing.get_origin(hint) is tuple:
        return f"list of {_plain_type(arguments[0])}"
    if arguments:
        return " or ".join(map(_plain_type, arguments))
    return {str: "text", type(None): "none"}.get(hint, hint.__name__)


def _field_comments(config_class: type) -> dict[str, str]:
    """Return the comment on the line of each field, without `ours:`."""
    source = inspect.cleandoc(inspect.getsource(config_class))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}
    comments = {field.name: "" for field in dataclasses.fields(config_class)}
    for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.lineno in lines:
            comments[node.target.id] = lines[node.lineno].lstrip("# ").removeprefix("ours: ")
    return comments


def _recipe_comments(recipe: str) -> dict[str, str]:
    """Return the comment beside each dotted key of a recipe."""
    comments, parents = {}, list[tuple[int, str]]()
    for line in find_recipe(recipe).read_text("utf-8").splitlines():
        found = re.match(r"( *)(\w+):([^#]*)(?:# *(.*))?$", line)
        if not found:
            continue
        indent, name = len(found[1]), found[2]
        parents = [parent for parent in parents if parent[0] < indent]
        key = ".".join([*(parent for _, parent in parents), name])
        parents.append((indent, name))
        if found[4]:
            comments[key] = found[4]
    return comments
