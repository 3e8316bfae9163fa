"""Recipes: one YAML file per run, read into a frozen dataclass and validated; the learning rates that they name.

Precedence: dataclass default < recipe file < `--set key=value` < a command's own flags.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from audiogen_cli.errors import InputError
from audiogen_cli.files import RECIPES

Config = TypeVar("Config")
Schedule = Literal["inverse_sqrt", "cosine", "constant"]  # of the learning rate


def load_recipe(config_class: type[Config], recipe: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """Build a config dataclass from a recipe and `key=value` overrides (dotted keys reach nested fields).

    recipe: a file, or the name of a shipped one (see `find_recipe`); None: the defaults. YAML 1.2 through ruamel: it
    reads 5e-4 as a number, keeps `no` a word and refuses a key given twice.
    Raises InputError naming the file or flag and the dotted key at fault.
    """
    path = find_recipe(recipe) if recipe else None
    settings = _read_yaml(path) if path else {}
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise InputError(f"--set {override}: expected key=value, for example --set optim.lr=1e-4")
        _set_dotted(settings, key.strip(), _parse(text, f"--set {override}"))
    return validate(config_class, settings, where=str(path) if path else "--set")


def find_recipe(recipe: str | Path) -> Path:
    """Resolve what a user calls a recipe: a file, or a shipped one by its name (`codec-small`, `esc50/lm`).

    Raises InputError if it is neither.
    """
    for path in (Path(recipe), RECIPES / f"{recipe}.yaml"):
        if path.is_file():
            return path
    raise InputError(f"recipe {recipe}: No such file or directory; shipped recipes: {', '.join(shipped_recipes())}")


def shipped_recipes() -> list[str]:
    """List the names of the recipes in the package."""
    return sorted(path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.yaml"))


def validate(config_class: type[Config], settings: Any, where: str) -> Config:
    """Turn plain settings, of any version, into `config_class`.

    Raises InputError that begins with `where` and the dotted key.
    """
    from pydantic import TypeAdapter, ValidationError

    read = TypeAdapter(config_class).validate_python
    try:
        return read(settings)
    except ValidationError:  # perhaps of an older version
        from audiogen_cli.training.old_settings import update_settings

        settings = update_settings(config_class, settings, where)
    try:
        return read(settings)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"])
            said = _unknown(config_class, key) if problem["type"] == "unexpected_keyword_argument" else problem["msg"]
            lines.append(f"{key}: {said}" if key else said)
        raise InputError(f"{where}: " + "; ".join(lines)) from None


def learning_rate(step: int, peak: float, schedule: Schedule, warmup_steps: int, max_steps: int) -> float:
    """Return the rate of optimizer step `step` (from 0): linear warm-up to `peak`, then the schedule (sec. 4.1).

    `inverse_sqrt` decays as √(warmup/step), as in the paper; `cosine` reaches 1% of the peak at `max_steps`.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if schedule == "inverse_sqrt":
        return peak * math.sqrt(max(warmup_steps, 1) / (step + 1))
    if schedule == "cosine":
        progress = min(1.0, (step - warmup_steps) / max(1, max_steps - warmup_steps))
        return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
    return peak


def _unknown(config_class: type, key: str) -> str:
    from audiogen_cli.training.settings import similar_keys

    meant = " or ".join(similar_keys(config_class, key))
    return f"no such setting; did you mean {meant}?" if meant else "no such setting; --settings lists all"


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        settings = _parse(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"recipe {path}: {getattr(error, 'strerror', None) or error}") from None
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
