"""Model folders: `config.json`, `model.safetensors`, `LICENSE`, and for a language model `codec/` and its probe.

A training checkpoint has the same files beside its own, so it is accepted wherever a model folder is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from audiogen_cli.errors import InputError, printable
from audiogen_cli.files import RESOURCES, hash_file, replacing, write_text
from audiogen_cli.training.recipe import validate

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["codec", "lm"]
Config = TypeVar("Config")

FORMAT_VERSION = 1
EMBEDDED_MODEL = RESOURCES / "embedded"
EMBEDDED_NAME = "embedded"
MODEL_VARIABLE = "AUDIOGEN_MODEL"
CODEC_FOLDER = "codec"  # in a language model's folder, and beside token shards
PROBE_FILE = "probe.safetensors"  # in a language model's folder, where it has one; see `lm.probe`
UNLICENSED = "No licence has been set for these weights: ask whoever trained them before using them."


def find_model(name: str | Path | None = None) -> Path:
    """Resolve what a user calls a model to its folder.

    name: a model folder, a checkpoint, or a run folder (its finished model, else its newest checkpoint); `embedded` is
    the model shipped in the package, and so is None unless the AUDIOGEN_MODEL variable names another.
    Raises InputError if there is no model there.
    """
    name = name or os.environ.get(MODEL_VARIABLE) or EMBEDDED_MODEL
    folder = Path(name).expanduser()
    if not folder.exists() and str(name) == EMBEDDED_NAME:
        folder = EMBEDDED_MODEL
    if not folder.exists():
        raise InputError(f"unknown model '{name}': no such folder; give a model folder or a training run")
    if (folder / "config.json").is_file():
        return folder
    from audiogen_cli.training.checkpoint import list_checkpoints

    if checkpoints := list_checkpoints(folder):
        return checkpoints[-1]
    raise InputError(f"'{name}' is not a model folder: it holds neither config.json nor checkpoints/")


def find_codec(name: str | Path | None = None) -> Path:
    """Resolve what a user calls a codec to its folder: as `find_model` does, or a language model for the codec in it.

    Raises InputError if there is no codec.
    """
    folder = find_model(name)
    folder = folder / CODEC_FOLDER if (folder / CODEC_FOLDER).is_dir() else folder
    try:
        is_codec = json.loads((folder / "config.json").read_text("utf-8"))["kind"] == "codec"
    except (OSError, ValueError, KeyError, TypeError):
        is_codec = False
    if not is_codec or not (folder / "model.safetensors").is_file():
        raise InputError(f"{name or folder} holds no codec: give a codec's model folder, run or checkpoint")
    return folder


def save_model(folder: Path, kind: Kind, config: Any, weights: Mapping[str, Tensor], license: str) -> None:
    """Write a model's files into `folder`, created if absent; each file appears whole or not at all.

    config: a dataclass instance. weights: name → tensor. license: the text of the weights' license.
    """
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "audiogen_version": version("audiogen-cli"),
        "config": dataclasses.asdict(config),
    }
    save_tensors(folder / "model.safetensors", weights)
    write_text(folder / "LICENSE", license)
    write_text(folder / "config.json", json.dumps(document, indent=2) + "\n")


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file of a model folder, whole or not at all."""
    from safetensors.torch import save_file

    # Cloned: safetensors refuses tensors that share memory, which tied or sliced weights do.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(plain, temporary)
        temporary.chmod(0o644)  # safetensors makes files private; a model folder is there to be shared


def load_config(folder: Path, kind: Kind, config_class: type[Config]) -> Config:
    """Read and validate `config.json`. Raises InputError if it is absent, broken or of another kind."""
    path = folder / "config.json"
    try:
        document = json.loads(path.read_text("utf-8"))
        if document["kind"] != kind:
            raise InputError(f"{folder} holds a {document['kind']} model, not a {kind} model")
        if document["format_version"] > FORMAT_VERSION:
            raise InputError(f"{path}: written by a newer audiogen (format {document['format_version']}); upgrade")
        settings = document["config"]
    except FileNotFoundError:
        raise InputError(f"{folder} is not a model folder: config.json is missing") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a model configuration: {error}") from None
    return validate(config_class, settings, str(path))


def load_weights(folder: Path) -> dict[str, Tensor]:
    """Read `model.safetensors` as `load_tensors` does."""
    return load_tensors(folder / "model.safetensors")


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a file of a model folder on the CPU as float32. Raises InputError if it is absent or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputError(f"{path.parent}: {path.name} is missing; copy the model folder again")
    try:
        weights = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is damaged or truncated ({error}); copy the model folder again") from None
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}


def weight_facts(path: Path) -> dict[str, Any]:
    """Number of values and their formats, from the header of a safetensors file."""
    import math
    from collections import Counter

    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"{path.parent}: {path.name} is missing; copy the model folder again")
    try:
        with safe_open(path, framework="numpy") as file:
            slices = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118 - not a dict
            shapes = [(math.prod(part.get_shape()), part.get_dtype()) for part in slices]
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged or truncated ({error}); copy the model folder again") from None
    formats: Counter[str] = Counter()
    for size, dtype in shapes:
        formats[dtype] += size
    return {"parameters": sum(formats.values()), "formats": dict(formats), "megabytes": path.stat().st_size / 1e6}


def load_into(module: Any, folder: Path) -> None:
    """Load a folder's weights into `module`. Raises InputError if names or shapes do not fit its config."""
    try:
        module.load_state_dict(load_weights(folder))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{folder}: model.safetensors does not fit config.json: {reason}") from None


def fingerprint(folder: Path) -> str:
    """Return the SHA-256 of a model folder's weights, in hexadecimal; with a probe, that of both files' SHA-256s.

    Raises InputError if the weights are absent.
    """
    path = folder / "model.safetensors"
    if not path.is_file():
        raise InputError(f"{folder}: model.safetensors is missing; copy the model folder again")
    if (folder / PROBE_FILE).is_file():
        return hashlib.sha256((hash_file(path) + hash_file(folder / PROBE_FILE)).encode()).hexdigest()
    return hash_file(path)


def read_license(folder: Path) -> str:
    """Return the text of a model folder's license, or a sentence that says there is none."""
    path = folder / "LICENSE"
    return path.read_text("utf-8") if path.is_file() else UNLICENSED


def license_line(license: str) -> str:
    """Return the first line of a license text that is not blank."""
    return next((printable(line.strip()) for line in license.splitlines() if line.strip()), "no license is stated")


def copy_model(source: Path, target: Path) -> None:
    """Copy a model folder's own files (not a checkpoint's training state) to `target`."""
    target.mkdir(parents=True, exist_ok=True)
    for name in ("model.safetensors", "LICENSE", "config.json"):
        if (source / name).is_file():
            with replacing(target / name) as temporary:
                shutil.copy2(source / name, temporary)
