"""Text encoders on the Hugging Face hub: whether one is here already, and a quick, quiet answer where no network is."""

from __future__ import annotations

import os
from pathlib import Path

from audiogen_cli.errors import InputError
from audiogen_cli.hub import ask

HUB_NAMES = {"t5": "t5-base", "clip": "openai/clip-vit-base-patch32"}  # sec. 4.1; DiffSound
# What transformers fetches last: without one of these a download was stopped, and goes on.
WEIGHTS = [file + index for file in ("model.safetensors", "pytorch_model.bin") for index in ("", ".index.json")]
INSTEAD = "fetch it on another machine and name its folder: --set text.name=FOLDER (import: --text-encoder FOLDER)"


def find_on_hub(name: str) -> bool:
    """Return whether a model is here: a folder, or in the hub's cache. If not, the hub can be reached.

    Raises InputError at once if it is not here and HF_HUB_OFFLINE forbids to fetch it, and soon if the hub does not
    have it or does not answer.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    if Path(name).expanduser().exists():
        return True
    missing = f"the text encoder '{name}' is not on this machine"
    if Path(name).is_absolute() or name.count("/") > 1:
        raise InputError(f"{missing}: no such folder")
    if any(isinstance(try_to_load_from_cache(name, file), str) for file in WEIGHTS):
        return True
    if constants.HF_HUB_OFFLINE or os.environ.get("TRANSFORMERS_OFFLINE", "").upper() in constants.ENV_VARS_TRUE_VALUES:
        raise InputError(f"{missing}, and HF_HUB_OFFLINE is set; {INSTEAD}")
    status = ask(f"{constants.ENDPOINT}/{name}/resolve/main/config.json")
    if status == 404:
        raise InputError(f"{missing}, and {constants.ENDPOINT} has no model of that name; give another, or a folder")
    if status is None:
        raise InputError(f"{missing}, and {constants.ENDPOINT} cannot be reached; {INSTEAD}")
    return False
