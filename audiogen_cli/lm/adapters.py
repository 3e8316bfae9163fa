"""Adapters (LoRA, Hu et al. 2021): small changes of a language model's matrices, in a folder of their own.

The folder holds peft's two files, so that peft reads it, too, and a `config.json` that names the model it changes by
its fingerprint. W + strength · scale · B A is computed when a model is loaded: whatever runs it needs neither peft nor
a path of its own. `training.lora` trains them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from audiogen_cli.errors import InputError
from audiogen_cli.files import hash_file, read_json, write_text
from audiogen_cli.model_folder import (
    UNLICENSED,
    compare_shapes,
    find_model,
    fingerprint,
    license_line,
    load_config,
    load_tensors,
    read_license,
    save_document,
    save_tensors,
)
from audiogen_cli.training.recipe import Positive, Width, validate

if TYPE_CHECKING:
    from torch import Tensor, nn

ADAPTER_FILE, SETTINGS_FILE = "adapter_model.safetensors", "adapter_config.json"  # peft's names
PREFIX = "base_model.model."  # what peft puts before a module's name
MAX_STRENGTH = 10.0


@dataclass(frozen=True)
class AdapterBase:
    """The model that an adapter changes; the config of its `config.json`."""

    base: str  # fingerprint
    base_name: str


@dataclass(frozen=True)
class LoRASettings:
    """The settings of a plain LoRA, whose matrices mean B A · alpha / rank: what is read of `adapter_config.json`."""

    r: Width
    lora_alpha: Positive
    peft_type: Literal["LORA"]
    use_rslora: Literal[False] = False
    use_dora: Literal[False] = False
    fan_in_fan_out: Literal[False] = False
    bias: Literal["none"] = "none"
    alpha_pattern: Annotated[dict[str, Any], Field(max_length=0)] | None = None


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder, and how much of it is added: 1 is as trained, 0 nothing."""

    folder: Path
    strength: float = 1.0

    def __str__(self) -> str:
        return str(self.folder) if self.strength == 1 else f"{self.folder}={self.strength!r}".removesuffix(".0")


def find_adapters(given: Sequence[str | Path | Adapter], model: Path) -> tuple[Adapter, ...]:
    """Read what a user gives as adapters of a model: FOLDER or FOLDER=STRENGTH; a run or a name on the hub, too.

    Raises InputError if one is none, or was trained on another model.
    """
    return tuple(_find(str(each), model) for each in given)


def adapted_fingerprint(model: Path, adapters: Sequence[Adapter]) -> str:
    """Return the fingerprint of a model folder with adapters: without any, or with strengths of 0, its own."""
    active = [each for each in adapters if each.strength]
    parts = [fingerprint(model), *(f"{hash_file(each.folder / ADAPTER_FILE)} {each.strength!r}" for each in active)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest() if active else parts[0]


def read_licenses(model: Path, adapters: Sequence[Adapter]) -> str:
    """Return the license of a model folder with adapters: its own, or all of them if an adapter has another one."""
    folders = [model, *(each.folder for each in adapters if each.strength)]
    texts = sorted(dict.fromkeys(map(read_license, folders)), key=lambda text: not text.startswith(UNLICENSED[:-1]))
    return texts[0] if len(texts) == 1 else "\n\n".join(["; ".join(map(license_line, texts)), *texts])


def add_adapters(model: nn.Module, adapters: Sequence[Adapter]) -> None:
    """Add adapters to a language model's weights. Raises InputError if one does not fit."""
    import torch

    with torch.no_grad():
        for each in adapters:
            for name, change in _changes(each.folder, model) if each.strength else ():
                weight = model.get_parameter(name)
                weight.add_((each.strength * change).to(weight.device))


def save_adapter(
    folder: Path, weights: Mapping[str, Tensor], settings: Mapping[str, Any], base: AdapterBase, license: str
) -> None:
    """Write an adapter's folder, created if absent. weights: module.lora_A.weight and module.lora_B.weight → tensor;
    settings: peft's."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / ADAPTER_FILE, {f"{PREFIX}{name}": tensor for name, tensor in weights.items()})
    write_text(folder / SETTINGS_FILE, json.dumps(dict(settings), indent=2, sort_keys=True) + "\n")
    save_document(folder, "adapter", asdict(base), license)


def load_adapter(folder: Path) -> dict[str, Tensor]:
    """Read an adapter's matrices: module.lora_A.weight [r, in] and module.lora_B.weight [out, r] → tensor.

    Raises InputError if the file is absent, damaged or of another kind.
    """
    found = {name.removeprefix(PREFIX): tensor for name, tensor in load_tensors(folder / ADAPTER_FILE).items()}
    modules = {name.rpartition(".lora_")[0] for name in found}
    if not found or found.keys() != {f"{each}.lora_{part}.weight" for each in modules for part in "AB"}:
        raise InputError(f"{folder / ADAPTER_FILE} holds other weights than pairs of lora_A and lora_B")
    return found


def load_settings(folder: Path) -> LoRASettings:
    """Read the settings that an adapter's matrices depend on. Raises InputError if they are of another kind of it."""
    path = folder / SETTINGS_FILE
    return validate(LoRASettings, read_json(path), f"{path}: not a plain LoRA")


def _find(text: str, model: Path) -> Adapter:
    name, sign, number = text.rpartition("=")
    strength = 1.0
    if sign and not Path(text).expanduser().exists():
        try:
            strength = float(number)
        except ValueError:
            strength = math.nan
        if not abs(strength) <= MAX_STRENGTH:
            raise InputError(f"--adapter {text}: the strength after = must be a number from -10 to 10")
        text = name
    try:
        folder = find_model(text)
    except InputError as error:
        raise InputError(f"--adapter {text}: {error}") from None
    if not (folder / ADAPTER_FILE).is_file():
        raise InputError(f"--adapter {text}: no adapter, which train-lm --lora makes: {ADAPTER_FILE} is missing")
    base = load_config(folder, "adapter", AdapterBase)
    if (found := fingerprint(model)) != base.base:
        raise InputError(
            f"--adapter {text} was trained on the model {base.base[:12]} ({base.base_name}), not on {found[:12]} "
            f"({model}): give that one with --model"
        )
    return Adapter(folder, strength)


def _changes(folder: Path, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the names of weights and what an adapter of strength 1 adds to each."""
    settings, tensors = load_settings(folder), load_adapter(folder)
    modules = sorted({name.rpartition(".lora_")[0] for name in tensors})
    own = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    wanted: dict[str, tuple[int, ...]] = {}
    for each in modules:
        n_out, n_in = own.get(f"{each}.weight", (0, 0))
        wanted |= {f"{each}.lora_A.weight": (settings.r, n_in), f"{each}.lora_B.weight": (n_out, settings.r)}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    compare_shapes(wanted, found, f"{folder}: {ADAPTER_FILE}")
    for each in modules:
        product = tensors[f"{each}.lora_B.weight"] @ tensors[f"{each}.lora_A.weight"]
        yield f"{each}.weight", settings.lora_alpha / settings.r * product
