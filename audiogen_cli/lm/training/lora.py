"""Training of adapters (`lm.adapters`) through peft's layers: the model's own weights stay as they are."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from audiogen_cli.errors import InputError
from audiogen_cli.lm.adapters import AdapterBase, load_adapter, save_adapter
from audiogen_cli.lm.config import LoRAConfig
from audiogen_cli.lm.model import CodeModel

# ours: all matrices of the blocks, as Dettmers et al. (2023, QLoRA) find best, and that of the heads (`linear`): new
# sounds want codes that were rare. Embeddings stay.
TARGETS = ["qkv", "out", "query", "key_value", "up", "down", "linear"]
_NAME = "default"  # peft's name of an adapter that is the only one


def check_peft() -> None:
    """Raise InputError unless peft is installed."""
    if find_spec("peft") is None:
        raise InputError("adapters are trained with peft, which is not installed: pip install 'audiogen-cli[lora]'")


def add_lora(model: CodeModel, config: LoRAConfig) -> None:
    """Put trainable low-rank matrices, which change nothing yet, beside those of the blocks; freeze all others."""
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=TARGETS), model)


def lora_weights(model: CodeModel) -> dict[str, Tensor]:
    """Return the matrices of the adapter in training, by the names of `lm.adapters`; {} without one."""
    ending = f".{_NAME}.weight"
    named = model.named_parameters()
    return {f"{name.removesuffix(ending)}.weight": weight for name, weight in named if name.endswith(ending)}


def load_lora(model: CodeModel, folder: Path) -> dict[str, Tensor]:
    """Read an adapter for the one in training. Raises InputError if it is of another shape."""
    found = load_adapter(folder)
    if {name: x.shape for name, x in found.items()} != {name: x.shape for name, x in lora_weights(model).items()}:
        raise InputError(f"{folder}: its adapter has another rank, or is of another model")
    return found


def merged_weights(model: CodeModel) -> dict[str, Tensor]:
    """Return the weights of the plain model that a model with an adapter in training is."""
    plain = {
        name.replace(".base_layer.", "."): weight for name, weight in model.state_dict().items() if ".lora_" not in name
    }
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight"):
            plain[f"{name}.weight"] = plain[f"{name}.weight"] + module.get_delta_weight(_NAME)
    return plain


def write_lora(weights: dict[str, Tensor], config: LoRAConfig, base: AdapterBase, folder: Path, license: str) -> None:
    """Write an adapter's folder."""
    from peft import LoraConfig

    settings = LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=TARGETS, base_model_name_or_path=base.base_name
    )
    settings.inference_mode = True
    plain = {name: sorted(value) if isinstance(value, set) else value for name, value in settings.to_dict().items()}
    save_adapter(folder, weights, plain, base, license)
