"""int8 and int4 weights kept on the disk: rounding a large model takes a minute, mapping what came of it a moment.

A file `packed-int8.safetensors` or `packed-int4.safetensors` stands beside the model's weights, or in the cache folder
where that cannot be written to. It holds all that decoding needs, and says which weights it was made of and in which
layout; made of others or for another torch or processor, it is made again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from audiogen_cli.devices import give_back_memory
from audiogen_cli.files import cache_folder, note, replacing
from audiogen_cli.lm.config import LMConfig
from audiogen_cli.lm.decoding.cpu_kernels import PackedLinear, pack_model
from audiogen_cli.lm.decoding.engine import choose_dtype, count_weights
from audiogen_cli.lm.decoding.grouped_weights import GROUPS, GroupedWeight, cpu_capability
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
FORMAT = 1  # of these files; raise it when weights are rounded or named otherwise


def load_for_decoding(folder: Path, device: torch.device, dtype: str) -> tuple[AudioLanguageModel, str]:
    """Load a language model in the number format that `choose_dtype` chooses; return both.

    Raises InputError if the folder is no model, or for a format that the device lacks.
    """
    config = load_config(folder, "lm", LMConfig)
    chosen = choose_dtype(dtype, config, device)
    if chosen not in GROUPS or count_weights(config) < KEPT_WEIGHTS:
        return AudioLanguageModel.load(folder, device), chosen
    with outline():
        model = AudioLanguageModel(config).requires_grad_(False).eval()
    check_fit(model, folder)
    if path := _find(folder, chosen):
        _fill(model, load_stored(path), chosen)
    else:
        _pack(model, folder, chosen)
        _keep(model, folder, chosen)
    return model, chosen


def _pack(model: AudioLanguageModel, folder: Path, dtype: str) -> None:
    """Round a model layer by layer from the mapped file, so that its plain weights are never all in memory."""
    model.load_state_dict(load_stored(folder / WEIGHTS_FILE), assign=True)
    pack_model(model, dtype)
    for parameter in model.parameters():
        parameter.data = parameter.to(torch.float32, copy=True)
    give_back_memory()  # what rounding has left between the packed weights is larger than these


def _fill(model: AudioLanguageModel, tensors: dict[str, Tensor], dtype: str) -> None:
    """Put the tensors of a packed file into an outline; the large ones stay mapped."""

    def find_weight(name: str, layer: nn.Linear) -> GroupedWeight:
        shape = layer.out_features, layer.in_features
        codes, scales, bias = (tensors.pop(f"{name}.{part}", None) for part in ("codes", "scales", "bias"))
        assert codes is not None
        assert scales is not None
        return GroupedWeight(codes, scales, bias, shape)

    pack_model(model, dtype, find_weight)
    model.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, assign=True)


def _tensors(model: AudioLanguageModel) -> dict[str, Tensor]:
    found = dict(model.state_dict())
    for name, layer in model.named_modules():
        if isinstance(layer, PackedLinear):
            assert isinstance(layer.packed, GroupedWeight)
            parts = {"codes": layer.packed.codes, "scales": layer.packed.scales, "bias": layer.packed.bias}
            found |= {f"{name}.{part}": tensor for part, tensor in parts.items() if tensor is not None}
    return found


def _keep(model: AudioLanguageModel, folder: Path, dtype: str) -> None:
    """Write a packed model where the first of its places allows it; without any, the next start packs again."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    facts = {"layout": _layout(), "stamp": stamp(folder), "fingerprint": fingerprint(folder)}
    for path in _places(folder, dtype):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                save_file(_tensors(model), temporary, facts)
                temporary.chmod(0o644)
        except (OSError, SafetensorError):
            continue
        note(f"kept the {dtype} weights for the next start: {path}, {path.stat().st_size / 1e6:,.0f} MB")
        return


def _find(folder: Path, dtype: str) -> Path | None:
    """Find the packed file of these weights; one with the same stamp is believed to be made of them."""
    for path in _places(folder, dtype):
        facts = read_metadata(path) if path.is_file() else {}
        if facts.get("layout") != _layout():
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


def _layout() -> str:
    release = ".".join(torch.__version__.split(".")[:2])
    return f"{FORMAT}, torch {release}, {cpu_capability()}, groups {GROUPS}"
