"""Settings as older versions wrote them into recipes, `run.json` and `config.json`, and what became of each."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audiogen_cli.errors import InputError


@dataclass(frozen=True)
class Renamed:
    """The setting has another name now. unless: a value that said nothing and is dropped."""

    name: str
    unless: Any = None


@dataclass(frozen=True)
class Removed:
    """The setting is gone; only `value`, which always holds now, is still accepted. hint: what to do instead."""

    value: Any
    hint: str = "leave it out"


# config class → old dotted name → what became of it. Entries apply in order: a later one sees the names of the earlier.
OLD_SETTINGS: Mapping[str, Mapping[str, Renamed | Removed]] = {
    "LMConfig": {"positions": Removed("sinusoidal")},
    "TrainConfig": {
        "samples": Renamed("previews"),
        "previews.seed": Removed(0),
        "model.delays": Renamed("model.pattern", unless=[]),
        "model.ff_scale": Removed(4),
        "optim.eps": Removed(1e-8),
        "optim.grad_clip": Removed(1.0),
        "licence": Renamed("license"),
        "trackers": Removed([], "give train-lm --track NAME"),
    },
}


def update_settings(config_class: type, settings: Any, where: str) -> Any:
    """Return plain settings with the names of today; what is no mapping is left to validation.

    Raises InputError, beginning with `where`, for a removed setting of another value than the one that always holds.
    """
    table = OLD_SETTINGS.get(config_class.__name__, {})
    if not table or not isinstance(settings, Mapping):
        return settings
    settings = copy.deepcopy(dict(settings))
    for old, change in table.items():
        *parents, last = old.split(".")
        group = _group(settings, parents)
        if group is None or last not in group:
            continue
        value = group.pop(last)
        value = list(value) if isinstance(value, tuple) else value
        if isinstance(change, Renamed):
            if value != change.unless:
                *parents, last = change.name.split(".")
                group = _group(settings, parents)
                assert group is not None, "a setting moves within its group"
                group[last] = value
        elif value != change.value:
            raise InputError(f"{where}: {old}: no longer a setting, always {change.value}: {change.hint}")
    return settings


def _group(settings: dict[str, Any], parents: list[str]) -> dict[str, Any] | None:
    """Follow the names of groups; None if one is absent or no group."""
    group: Any = settings
    for parent in parents:
        group = group.get(parent) if isinstance(group, dict) else None
    return group if isinstance(group, dict) else None
