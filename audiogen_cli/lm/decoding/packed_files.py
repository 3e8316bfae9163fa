"""int8 and int4 weights kept on the disk: rounding a large model takes a minute, mapping what came of it a moment.

A file `packed-int8.safetensors` or `packed-int4.safetensors` stands beside the model's weights, or in the cache folder
where that cannot be written to. It holds all that decoding needs, and says which weights it was made of; made of
others, it is made again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import Tensor

from audiogen_cli.devices import give_back_memory
from audiogen_cli.files import cache_folder, is_there, note, replacing
from audiogen_cli.lm.config import LMConfig
from audiogen_cli.lm.decoding.cpu_model import GRAPH_PARTS, convert_weights, use_graph
from audiogen_cli.lm.decoding.engine import count_weights
from audiogen_cli.lm.decoding.rounding import GROUPS
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.model_folder import (
    WEIGHTS_FILE,
    check_fit,
    fingerprint,
    load_config,
    load_stored,
    outline,
    read_metadata,
    remember_fingerprint,
    stamp,
)

KEPT_WEIGHTS = 1 << 27  # fewer are rounded in a few seconds
FORMAT = f"2, groups {GROUPS}"  # of these files; change it when weights are rounded or named otherwise


def load_rounded(folder: Path, dtype: str) -> AudioLanguageModel:
    """Load a language model to decode with in int8 or int4. Raises InputError if the folder is no model."""
    config = load_config(folder, "lm", LMConfig)
    if count_weights(config) < KEPT_WEIGHTS:
        return AudioLanguageModel.load(folder)
    with outline():
        model = AudioLanguageModel(config).requires_grad_(False).eval()
    check_fit(model, folder)
    path = _find(folder, dtype)
    tensors = load_stored(path) if path else _round(model, folder, dtype)
    if path is None and (path := _keep(tensors, folder, dtype)):
        tensors = load_stored(path)  # instead of those in memory
    weights = {name: each for name, each in tensors.items() if name.startswith(GRAPH_PARTS)}
    use_graph(model, weights, dtype, path and path.resolve())  # ONNX Runtime follows no links
    rest = {name: each.clone() for name, each in tensors.items() if name not in weights}
    model.load_state_dict(rest, assign=True)
    return model


def _round(model: AudioLanguageModel, folder: Path, dtype: str) -> dict[str, Tensor]:
    """Round a model layer by layer from the mapped file, so that its plain weights are never all in memory."""
    model.load_state_dict(load_stored(folder / WEIGHTS_FILE), assign=True)
    weights = convert_weights(model, dtype)
    rest = {name: each.float() for name, each in model.state_dict().items() if not name.startswith(GRAPH_PARTS)}
    give_back_memory()  # what rounding has left between the rounded weights is larger than these
    return rest | weights


def _keep(tensors: dict[str, Tensor], folder: Path, dtype: str) -> Path | None:
    """Write rounded weights where the first of their places allows it; without any, the next start rounds again."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    facts = {"format": FORMAT, "stamp": stamp(folder), "fingerprint": fingerprint(folder)}
    for path in _places(folder, dtype):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                save_file(tensors, temporary, facts)
                temporary.chmod(0o644)
        except (OSError, SafetensorError):
            continue
        note(f"kept the {dtype} weights for the next start: {path}, {path.stat().st_size / 1e6:,.0f} MB")
        return path
    return None


def _find(folder: Path, dtype: str) -> Path | None:
    """Find the packed file of these weights; one with the same stamp is believed to be made of them."""
    for path in _places(folder, dtype):
        facts = read_metadata(path) if is_there(path) else {}
        if facts.get("format") != FORMAT:
            continue
        if facts.get("stamp") == stamp(folder):
            remember_fingerprint(folder, facts["fingerprint"])
            return path
        if facts.get("fingerprint") == fingerprint(folder):
            return path
    return None


def _places(folder: Path, dtype: str) -> list[Path]:
    """List where a packed file may be: beside the weights, and in the cache folder."""
    unique = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    name = f"packed-{dtype}.safetensors"
    return [folder / name, cache_folder() / "packed" / f"{folder.resolve().name}-{unique}" / name]
