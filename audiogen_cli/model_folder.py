"""Model folders: `config.json`, `model.safetensors`, `LICENSE`, and for a language model `codec/` and its probe.

A training checkpoint has the same files beside its own, so it is accepted wherever a model folder is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from audiogen_cli.errors import AudiogenError, InputError, printable
from audiogen_cli.files import RESOURCES, hash_file, read_json, read_text, replacing, write_text
from audiogen_cli.training.recipe import validate

if TYPE_CHECKING:
    from torch import Tensor, nn

Kind = Literal["codec", "lm", "adapter"]  # adapter: changes of a language model, see `lm.adapters`
Config = TypeVar("Config")
Module = TypeVar("Module", bound="nn.Module")
Shapes = Mapping[str, tuple[int, ...]]  # name → sizes

FORMAT_VERSION = 1
EMBEDDED_MODEL = RESOURCES / "embedded"
EMBEDDED_NAME = "embedded"
MODEL_VARIABLE = "AUDIOGEN_MODEL"
WEIGHTS_FILE = "model.safetensors"
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?", re.ASCII)  # no path of ./ or ../
CODEC_FOLDER = "codec"  # in a language model's folder, and beside token shards
PROBE_FILE = "probe.safetensors"  # in a language model's folder, where it has one; see `lm.probe`
# Words of a license that forbids selling, and beginnings of those that are known to allow it.
NO_SELLING = re.compile(
    r"(?<![a-z])nc(?![a-z])|non[-\s]?commercial|\b(?:no|not for) commercial|"
    r"(?:research|academic|educational) (?:use |purposes )?only",
    re.IGNORECASE,
)
SELLING = re.compile(r"cc0|cc[- ]by\b|creative commons (attribution|zero)|mit\b|apache\b|bsd\b", re.IGNORECASE)
_FINGERPRINTS: dict[tuple[str, str], str] = {}  # folder and stamp → fingerprint
UNLICENSED = "No licence has been set for these weights: ask whoever trained them before using them."


def find_model(name: str | Path | None = None) -> Path:
    """Resolve what a user calls a model to its folder.

    name: a model folder, a checkpoint, or a run folder (its finished model, else its newest checkpoint); `embedded` is
    the model shipped in the package, and so is None unless the AUDIOGEN_MODEL variable names another. Where there is no
    such folder, owner/name[@revision] is a model on the hub, downloaded once.
    Raises InputError if there is no model there.
    """
    name = name or os.environ.get(MODEL_VARIABLE) or EMBEDDED_MODEL
    folder = Path(name).expanduser()
    if not folder.exists() and str(name) == EMBEDDED_NAME:
        folder = EMBEDDED_MODEL
    if not folder.exists() and HUB_NAME.fullmatch(str(name)):
        from audiogen_cli.hub import fetch_model

        folder = fetch_model(str(name))
    if not folder.exists():
        raise InputError(f"unknown model '{name}': no such folder; give a model folder or a training run")
    if (folder / "config.json").is_file():
        return folder
    from audiogen_cli.training.checkpoint import list_checkpoints

    if checkpoints := list_checkpoints(folder):
        return checkpoints[-1]
    raise InputError(f"'{name}' is not a model folder: it holds neither config.json nor checkpoints/")


def model_name(folder: Path) -> str:
    """Name a model for people: `embedded`, its name on the hub, or that of its folder."""
    if folder == EMBEDDED_MODEL:
        return EMBEDDED_NAME
    cached = re.fullmatch(r"models--(.+?)--(.+)/snapshots/(.{8}).*", "/".join(folder.parts[-3:]))
    return f"{cached[1]}/{cached[2]}@{cached[3]}" if cached else folder.name


def esc50_classes() -> dict[str, list[str]]:
    """Return ESC-50's classes → their names in AudioSet."""
    return read_json(RESOURCES / "esc50_audioset.json")


def known_sounds(folder: Path | None) -> dict[str, list[str]]:
    """Return the sounds that a model was trained on → their names in AudioSet; {} if only its makers know them.

    The embedded model's are the classes of ESC-50.
    """
    if folder is None or folder.resolve() != EMBEDDED_MODEL.resolve():
        return {}
    return {category.replace("_", " "): kinds for category, kinds in esc50_classes().items()}


def find_codec(name: str | Path | None = None) -> Path:
    """Resolve what a user calls a codec to its folder: as `find_model` does, or a language model for the codec in it.

    Raises InputError if there is no codec.
    """
    folder = find_model(name)
    folder = folder / CODEC_FOLDER if (folder / CODEC_FOLDER).is_dir() else folder
    try:
        is_codec = read_document(folder).kind == "codec"
    except InputError:
        is_codec = False
    if not is_codec or not (folder / WEIGHTS_FILE).is_file():
        raise InputError(f"{name or folder} holds no codec: give a codec's model folder, run or checkpoint")
    return folder


def save_model(folder: Path, kind: Kind, config: Any, weights: Mapping[str, Tensor], license: str) -> None:
    """Write a model's files into `folder`, created if absent; each file appears whole or not at all.

    config: a dataclass instance. weights: name → tensor. license: the text of the weights' license.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / WEIGHTS_FILE, weights)
    save_document(folder, kind, dataclasses.asdict(config), license)


def save_document(folder: Path, kind: Kind, config: Mapping[str, Any], license: str) -> None:
    """Write `config.json`, last of a folder's files, and the license."""
    document = {"format_version": FORMAT_VERSION, "kind": kind, "audiogen_version": version("audiogen-cli")}
    write_text(folder / "LICENSE", license)
    write_text(folder / "config.json", json.dumps({**document, "config": config}, indent=2) + "\n")


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file of a model folder, whole or not at all. Raises AudiogenError if the disk refuses."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    owners = {tensor.untyped_storage().data_ptr(): name for name, tensor in plain.items()}
    for name in plain.keys() - owners.values():  # safetensors refuses tensors that share memory, as tied ones do
        plain[name] = plain[name].clone()
    with replacing(path) as temporary:
        try:
            save_file(plain, temporary)
        except SafetensorError as error:
            raise AudiogenError(f"{path}: cannot be written: {error}; make room, or choose another folder") from None
        temporary.chmod(0o644)  # safetensors makes files private; a model folder is there to be shared


@dataclasses.dataclass(frozen=True)
class ModelDocument:
    """The content of `config.json`. config: the settings as they stand there."""

    format_version: int
    kind: str
    config: dict[str, Any]
    audiogen_version: str | None = None


def read_document(folder: Path) -> ModelDocument:
    """Read `config.json`. Raises InputError if it is absent, none, of an unknown kind or of a newer format."""
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{folder} is not a model folder: config.json is missing")
    document = validate(ModelDocument, read_json(path), f"{path} is not a model configuration")
    if document.format_version > FORMAT_VERSION:
        raise InputError(f"{path}: written by a newer audiogen (format {document.format_version}); upgrade")
    if document.kind not in get_args(Kind):
        raise InputError(f"{path}: kind: '{document.kind}' is none of {', '.join(get_args(Kind))}")
    return document


def load_config(folder: Path, kind: Kind, config_class: type[Config]) -> Config:
    """Read and validate `config.json`. Raises InputError if it is absent, broken or of another kind."""
    document = read_document(folder)
    if document.kind != kind:
        hint = ": give its model with this as --adapter, or import both" if document.kind == "adapter" else ""
        raise InputError(f"{folder} holds a {document.kind} model, not a {kind} model{hint}")
    return validate(config_class, document.config, str(folder / "config.json"))


def load_weights(folder: Path, mapped: bool = True) -> dict[str, Tensor]:
    """Read `model.safetensors` as `load_tensors` does."""
    return load_tensors(folder / WEIGHTS_FILE, mapped)


def load_stored(path: Path) -> dict[str, Tensor]:
    """Map a file of a model folder in its own number formats. Raises InputError if it is absent or damaged."""
    from safetensors.torch import load_file

    with _safetensors(path):
        weights: dict[str, Tensor] = load_file(path)
    return weights


def load_tensors(path: Path, mapped: bool = True) -> dict[str, Tensor]:
    """Read a file of a model folder on the CPU as float32. Raises InputError if it is absent or damaged.

    mapped: float32 tensors may be the file itself. Else they are copies, aligned: products then have the same bits.
    """
    import torch

    weights = load_stored(path).items()
    return {name: x.to(torch.float32 if x.is_floating_point() else x.dtype, copy=not mapped) for name, x in weights}


def read_header(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Read name → shape and number format from a safetensors file's header. Raises InputError as `load_tensors`."""
    from safetensors import safe_open

    with _safetensors(path), safe_open(path, framework="numpy") as file:
        parts = ((name, file.get_slice(name)) for name in file.keys())  # noqa: SIM118 - not a dict
        return {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in parts}


def read_metadata(path: Path) -> dict[str, str]:
    """Read what a safetensors file says of itself; {} if it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        return {}


@contextmanager
def _safetensors(path: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    if not path.is_file():
        raise InputError(f"{path.parent}: {path.name} is missing; copy the model folder again")
    try:
        yield
    except (SafetensorError, OSError, ValueError) as error:
        reason = explain_no_weights(path) or f"is damaged or truncated ({error}); copy the model folder again"
        raise InputError(f"{path} {reason}") from None


def weight_facts(path: Path) -> dict[str, Any]:
    """Count the values and their formats, from the header of a safetensors file."""
    formats: Counter[str] = Counter()
    for shape, dtype in read_header(path).values():
        formats[dtype] += math.prod(shape)
    return {"parameters": sum(formats.values()), "formats": dict(formats), "megabytes": path.stat().st_size / 1e6}


def explain_no_weights(path: Path) -> str | None:
    """Say what a file is that should hold weights and begins like something else; None if it does not."""
    with path.open("rb") as file:
        start = file.read(256).lstrip().lower()
    if not start:
        return "is empty; copy it again"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights: run git lfs pull where it was cloned"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, not the weights: the download was refused; fetch it again"
    return None


def build(make: Callable[[], Module], folder: Path) -> Module:
    """Build a module of a folder's weights; they are compared before their memory is taken.

    Raises InputError if names or shapes of the weights are not those of the module.
    """
    with outline():
        module = make()
    check_fit(module, folder)
    module.load_state_dict(load_weights(folder, mapped=False), assign=True)
    return module


@contextmanager
def outline() -> Iterator[None]:
    """Build modules whose weights (what torch.empty makes) have shapes but neither memory nor first values."""
    # On `torch.device("meta")` arange or hann_window would import torch's compiler, which takes as long as torch.
    import torch
    from torch.overrides import TorchFunctionMode

    class Outline(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if getattr(function, "__module__", None) == "torch.nn.init":
                return args[0] if args else kwargs["tensor"]
            return function(*args, **(kwargs or {}) | ({"device": "meta"} if function is torch.empty else {}))

    with Outline():
        yield


def load_into(module: nn.Module, folder: Path) -> None:
    """Load a folder's weights into `module`. Raises InputError if names or shapes are not those of the module."""
    module.load_state_dict(load_fitting(module, folder))


def load_fitting(module: nn.Module, folder: Path) -> dict[str, Tensor]:
    """Read a folder's weights for `module`. Raises InputError if names or shapes are not those of the module."""
    check_fit(module, folder)
    return load_weights(folder)


def check_fit(module: nn.Module, folder: Path) -> None:
    """Raise InputError unless a folder's weights have the names and shapes of the module's."""
    header = read_header(folder / WEIGHTS_FILE)
    found = {name: shape for name, (shape, _) in header.items()}
    compare_shapes(shapes_of(module), found, f"{folder}: model.safetensors")


def shapes_of(module: nn.Module) -> Shapes:
    """Return the names and shapes of a module's weights."""
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def compare_shapes(wanted: Shapes, found: Shapes, where: str) -> None:
    """Raise InputError, which begins with `where`, unless names and shapes of weights are the wanted ones."""
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            what, fits = found.get(name, "missing"), wanted.get(name, "nothing")
            raise InputError(f"{where} does not fit its configuration: {name} is {what}, {fits} is wanted")


def fingerprint(folder: Path) -> str:
    """Return the SHA-256 of a model folder's weights, in hexadecimal; with a probe, that of both files' SHA-256s.

    Raises InputError if the weights are absent.
    """
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise InputError(f"{folder}: {WEIGHTS_FILE} is missing; copy the model folder again")
    if not (known := _FINGERPRINTS.get((str(folder.resolve()), stamp(folder)))):
        known = hash_file(path)
        if (folder / PROBE_FILE).is_file():
            known = hashlib.sha256((known + hash_file(folder / PROBE_FILE)).encode()).hexdigest()
        remember_fingerprint(folder, known)
    return known


def stamp(folder: Path) -> str:
    """Say when a folder's weights and its probe were last written, and their sizes."""
    files = [each.stat() for name in (WEIGHTS_FILE, PROBE_FILE) if (each := folder / name).is_file()]
    return " ".join(f"{file.st_size}@{file.st_mtime_ns}" for file in files)


def remember_fingerprint(folder: Path, value: str) -> None:
    """Spare this process the reading of a folder's weights: their fingerprint is known from elsewhere."""
    _FINGERPRINTS[str(folder.resolve()), stamp(folder)] = value


def read_license(folder: Path) -> str:
    """Return the text of a model folder's license, or a sentence that says there is none."""
    path = folder / "LICENSE"
    return read_text(path, "replace") if path.is_file() else UNLICENSED


def license_line(license: str) -> str:
    """Return the first line of a license text that is not blank."""
    return next((printable(line.strip()) for line in license.splitlines() if line.strip()), "no license is stated")


def explain_rights(license: str, model: str) -> str:
    """Say in three sentences whether what a model makes may be sold, and what to copy as attribution.

    license: the first line of that of its weights.
    """
    name = " and ".join(part.partition(":")[0].strip() for part in license.split(";"))
    if license.startswith((UNLICENSED[:-1], license_line(""))):
        return (
            f"No license is stated for the weights of {model}. Ask whoever trained them before you sell or publish its "
            f'sounds. Attribution to copy: "Sound: audiogen, model {model}".'
        )
    if NO_SELLING.search(license):
        selling = "That license forbids selling what they make"
    elif all(SELLING.match(part.strip()) for part in license.split(";")):
        selling = "That license does not forbid selling what they make; the recordings that it was trained on may"
    else:
        selling = "Read that license before you sell what they make"
    return (
        f"The weights of {model} are under {name}. {selling}. "
        f'Attribution to copy: "Sound: audiogen, model {model} ({name})".'
    )


def copy_model(source: Path, target: Path) -> None:
    """Copy a model folder's own files (not a checkpoint's training state) to `target`."""
    target.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS_FILE, "LICENSE", "config.json"):
        copy_file(source, target, name)


def copy_file(source: Path, target: Path, name: str) -> None:
    """Copy a file of a model folder to another, whole or not at all, if it is there."""
    if (source / name).is_file():
        with replacing(target / name) as temporary:
            shutil.copy2(source / name, temporary)
