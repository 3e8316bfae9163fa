"""Recipes: one YAML file per run, read into a frozen dataclass and validated; the learning rates that they name.

Precedence: dataclass default < recipe file < `--set key=value` < a command's own flags.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field

from audiogen_cli.errors import InputError
from audiogen_cli.files import RECIPES, check_depth, read_text

Config = TypeVar("Config")
Schedule = Literal["inverse_sqrt", "cosine", "constant"]  # of the learning rate

# An unknown key in a recipe or a config.json is an error, not a silent default.
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
# Types of settings: every number has bounds, beyond any use and below what fills a machine.
Count = Annotated[int, Field(ge=1, le=10**9)]
Number = Annotated[int, Field(ge=0, le=10**9)]
Seed = Annotated[int, Field(ge=0, le=2**53)]
Few = Annotated[int, Field(ge=0, le=512)]  # layers, blocks, processes
Streams = Annotated[int, Field(ge=1, le=64)]
Width = Annotated[int, Field(ge=1, le=1 << 16)]  # of a layer
Rate = Annotated[int, Field(ge=1, le=1_000_000)]  # Hz
Share = Annotated[float, Field(ge=0, le=1)]
Mean = Annotated[float, Field(ge=0, lt=1)]  # the weight of what was before in a running mean
Amount = Annotated[float, Field(ge=0, le=1e9)]
Positive = Annotated[float, Field(gt=0, le=1e9)]

SET = "--set"
MAX_PROBLEMS = 3  # told of one file


def load_recipe(
    config_class: type[Config],
    recipe: str | Path | None,
    overrides: Sequence[str] = (),
    inherited: Mapping[str, Any] | None = None,
) -> Config:
    """Build a config dataclass from a recipe and `key=value` overrides (dotted keys reach nested fields).

    recipe: a file, or the name of a shipped one (see `find_recipe`); None: the defaults. inherited: settings that hold
    where the recipe says nothing else, such as those of a model to train on. YAML 1.2 through ruamel: it
    reads 5e-4 as a number, keeps `no` a word and refuses a key given twice.
    Raises InputError naming the file or flag and the dotted key at fault.
    """
    path = find_recipe(recipe) if recipe else None
    settings = _merge(inherited or {}, _read_yaml(path) if path else {})
    if path:
        found = validate(config_class, settings, str(path))
        if not overrides:
            return found
        from audiogen_cli.training.old_settings import update_settings

        settings = update_settings(config_class, settings, str(path))  # else an old name would undo an override
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise InputError(f"{SET} {override}: expected key=value, for example --set optim.lr=1e-4")
        _set_dotted(settings, key.strip(), parse_yaml(text, f"{SET} {override}"))
    return validate(config_class, settings, SET)


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

    check_depth(settings, where)
    read = TypeAdapter(config_class).validate_python
    try:
        return read(settings)
    except ValidationError:  # perhaps of an older version
        from audiogen_cli.training.old_settings import update_settings

        settings = update_settings(config_class, settings, where)
    try:
        return read(settings)
    except ValidationError as error:
        problems = error.errors()[:MAX_PROBLEMS]
        keys, lines = [".".join(map(str, problem["loc"])) for problem in problems], []
        for key, problem in zip(keys, problems, strict=True):
            unknown = problem["type"] == "unexpected_keyword_argument"
            said = _unknown(config_class, key) if unknown else problem["msg"].removeprefix("Value error, ")
            lines.append(f"{key}: {said}" if key else said)
        more = [f"{error.error_count() - MAX_PROBLEMS} more"] if error.error_count() > MAX_PROBLEMS else []
        raise InputError(f"{where}{' ' if where == SET and keys[0] else ': '}" + "; ".join(lines + more)) from None


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
    settings = parse_yaml(read_text(path), f"recipe {path}")
    if not isinstance(settings, dict):
        raise InputError(f"recipe {path}: expected keys and values, found {type(settings).__name__}")
    return settings


def parse_yaml(text: str, where: str) -> Any:
    """Read YAML 1.2. Raises InputError, which begins with `where`, for what is none or is nested beyond reason."""
    from ruamel.yaml import YAML

    try:
        value = YAML(typ="safe", pure=True).load(text)
    except RecursionError:
        raise InputError(f"{where}: nested too deeply") from None
    except Exception as error:  # beside its own kinds, what Python makes of odd numbers, dates and keys
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{where}: not valid YAML: {reason}") from None
    check_depth(value, where)
    return value


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**below, **above}
    for name in below.keys() & above.keys():
        if isinstance(below[name], Mapping) and isinstance(above[name], Mapping):
            merged[name] = _merge(below[name], above[name])
    return merged


def _set_dotted(settings: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        settings = settings.setdefault(parent, {})
        if not isinstance(settings, dict):
            raise InputError(f"{SET} {key}: '{parent}' is a value, not a group of settings")
    settings[last] = value
