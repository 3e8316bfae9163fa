"""Text encoders on the Hugging Face hub: whether one is here already, and a quick, quiet answer where no network is."""

from __future__ import annotations

import os
import queue
import threading
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from audiogen_cli.errors import InputError

HUB_NAMES = {"t5": "t5-base", "clip": "openai/clip-vit-base-patch32"}  # sec. 4.1; DiffSound
PATIENCE = 4.0  # seconds to wait for the hub's first answer; the libraries try for minutes
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
    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return True
    if constants.HF_HUB_OFFLINE or os.environ.get("TRANSFORMERS_OFFLINE", "").upper() in constants.ENV_VARS_TRUE_VALUES:
        raise InputError(f"{missing}, and HF_HUB_OFFLINE is set; {INSTEAD}")
    status = _ask(f"{constants.ENDPOINT}/{name}/resolve/main/config.json")
    if status == 404:
        raise InputError(f"{missing}, and {constants.ENDPOINT} has no model of that name; give another, or a folder")
    if status is None:
        raise InputError(f"{missing}, and {constants.ENDPOINT} cannot be reached; {INSTEAD}")
    return False


def _ask(address: str) -> int | None:
    """Return the status that a server answers with, None without an answer in time: looking up its name may hang, too.

    The hub's own client may trust a certificate or hold a token that this question does without: 401 is left to it.
    """
    answers: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            with urlopen(Request(address, method="HEAD"), timeout=PATIENCE) as answer:
                answers.put(answer.status)
        except HTTPError as error:
            answers.put(error.code if error.code in (401, 404) else None)
        except URLError as error:
            answers.put(401 if "certificate" in str(error.reason).lower() else None)
        except OSError:
            answers.put(None)

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=PATIENCE)
    except queue.Empty:
        return None
