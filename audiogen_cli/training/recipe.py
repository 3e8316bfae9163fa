"""Recipes: one YAML file per run, read into a frozen dataclass and validated.

Precedence: dataclass default < recipe file < `--set key=value` < a command's own flags.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from audiogen_cli.errors import InputError

Config = TypeVar("Config")


@dataclass(frozen=True)
class Removed:
    """Mark a former setting that no longer exists.

    values: those that older files may still hold, because they mean what is done now; none: the setting meant nothing.
    """

    values: tuple[Any, ...] = ()


# A config class may have the class variable FORMER_SETTINGS: dotted key of an older file → today's key, or Removed.
FormerSettings = Mapping[str, "str | Removed"]


def load_recipe(
    config_class: type[Config],
    path: Path | None,
    overrides: Sequence[str] = (),
    preset: Mapping[str, Any] | None = None,
) -> Config:
    """Build a config dataclass from a recipe and `key=value` overrides (dotted keys reach nested fields).

    preset: the settings to begin with where there is no file. YAML 1.2 through ruamel: it reads 5e-4 as a number,
    keeps `no` a word and refuses a key given twice.
    Raises InputError naming the file or flag and the dotted key at fault.
    """
    settings = _read_yaml(path) if path else copy.deepcopy(dict(preset or {}))
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise InputError(f"--set {override}: expected key=value, for example --set optim.lr=1e-4")
        _set_dotted(settings, key.strip(), _parse(text, f"--set {override}"))
    return validate(config_class, settings, where=str(path) if path else "--set")


def validate(config_class: type[Config], settings: Any, where: str) -> Config:
    """Turn plain settings into `config_class`. Raises InputError that begins with `where` and the dotted key."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(config_class).validate_python(upgrade(config_class, settings, where))
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"])
            lines.append(f"{key}: {problem['msg']}" if key else problem["msg"])
        raise InputError(f"{where}: " + "; ".join(lines)) from None


def upgrade(config_class: type, settings: Any, where: str) -> Any:
    """Bring the settings of an older file to today's names, by `config_class.FORMER_SETTINGS` if it has them.

    Raises InputError that begins with `where` if a removed setting has a value that can no longer be had.
    """
    former: FormerSettings = getattr(config_class, "FORMER_SETTINGS", {})
    settings = copy.deepcopy(settings) if former else settings
    for key, now in former.items():
        *parents, name = key.split(".")
        group = settings
        for parent in parents:
            group = group.get(parent) if isinstance(group, dict) else None
        if not isinstance(group, dict) or name not in group:
            continue
        value = group.pop(name)
        if isinstance(now, str):
            _set_dotted(settings, now, value)
        elif now.values and value not in now.values:
            left = " or ".join(map(str, now.values))
            raise InputError(f"{where}: {key}: no longer a setting, only {left} is left; found {value}")
    return settings


def within(group: str, former: FormerSettings) -> FormerSettings:
    """Give the former settings of a config that is a group of another one's settings."""
    return {f"{group}.{key}": f"{group}.{now}" if isinstance(now, str) else now for key, now in former.items()}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        settings = _parse(path.read_text("utf-8"), str(path))
    except OSError as error:
        raise InputError(f"recipe {path}: {error.strerror or error}") from None
    if not isinstance(settings, dict):
        raise InputError(f"recipe {path}: expected keys and values, found {type(settings).__name__}")
    return settings


def _parse(text: str, where: str) -> Any:
    from ruamel.yaml import YAML, YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{where}: not valid YAML: {reason}") from None


def _set_dotted(settings: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        settings = settings.setdefault(parent, {})
        if not isinstance(settings, dict):
            raise InputError(f"--set {key}: '{parent}' is a value, not a group of settings")
    settings[last] = value
