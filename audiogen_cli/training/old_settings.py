"""Settings of older versions in recipes, `run.json` and `config.json`, and their new names or fixed values."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from audiogen_cli.errors import InputError


@dataclass(frozen=True)
class Renamed:
    """The setting has another name now. unless: a value without effect, which is dropped."""

    name: str
    unless: Any = None


ANY_VALUE = object()  # of a setting that changed no result


@dataclass(frozen=True)
class Removed:
    """The setting is gone; only `value`, which always holds now, is still accepted. hint: what to do instead."""

    value: Any
    hint: str = "leave it out"


def _within(group: str, changes: Mapping[str, Renamed | Removed]) -> dict[str, Renamed | Removed]:
    """Return the changes of a config that is a group of another."""
    return {
        f"{group}.{old}": replace(change, name=f"{group}.{change.name}") if isinstance(change, Renamed) else change
        for old, change in changes.items()
    }


_CODEC: Mapping[str, Renamed | Removed] = {
    "network.kernel_size": Removed(7),
    "network.last_kernel_size": Removed(7),
    "network.residual_kernel_size": Removed(3),
    "network.compress": Removed(2),
    "network.roughness": Renamed("network.noise_power"),
    "network.phase_rounds": Removed(4),
    "network.start_crops": Removed(ANY_VALUE),
}

# config class → old dotted name → change. Entries apply in order: a later one sees the names of the earlier.
OLD_SETTINGS: Mapping[str, Mapping[str, Renamed | Removed]] = {
    "CodecConfig": _CODEC,
    "CodecTrainConfig": {
        **_within("codec", _CODEC),
        "codec.network.start_crops": Renamed("pca_crops"),  # a step of the training, no part of the codec
        "quantizer.split": Removed(False),
        "discriminator.windows": Removed([2048, 1024, 512, 256, 128]),
        "discriminator.power": Removed(1.0),
        "losses.balance": Removed(False),
        "losses.spectrum": Removed(1.0),
        "losses.mel_scales": Removed([5, 11]),
        "losses.mel_bins": Removed(64),
        "losses.mel_log": Removed(False),
        "adversary_every": Removed(1),
        "compile": Removed(ANY_VALUE),
        "keep_checkpoints": Removed(ANY_VALUE),
        "licence": Renamed("license"),
    },
    "LMConfig": {"positions": Removed("sinusoidal")},
    "TrainConfig": {
        "samples": Renamed("previews"),
        "previews.seed": Removed(0),
        "model.delays": Renamed("model.pattern", unless=[]),
        "model.ff_scale": Removed(4),
        "keep_checkpoints": Removed(ANY_VALUE),
        "text_cache": Removed(ANY_VALUE),
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
                assert group is not None, "the group of the new name exists wherever the old name does"
                group[last] = value
        elif change.value is not ANY_VALUE and value != change.value:
            raise InputError(f"{where}: {old}: no longer a setting, always {change.value}: {change.hint}")
    return settings


def _group(settings: dict[str, Any], parents: list[str]) -> dict[str, Any] | None:
    """Return the group that names lead to; None if one is absent or no group."""
    group: Any = settings
    for parent in parents:
        group = group.get(parent) if isinstance(group, dict) else None
    return group if isinstance(group, dict) else None
