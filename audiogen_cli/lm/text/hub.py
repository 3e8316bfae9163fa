"""Text encoders on the Hugging Face hub: whether one is here already, and a quick, quiet answer where no network is."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from audiogen_cli.errors import InputError

PATIENCE = 4.0  # seconds to wait for the hub's first answer; the libraries try for minutes
INSTEAD = "fetch it on another machine and name its folder: --set text.name=FOLDER (import: --text-encoder FOLDER)"


def find_on_hub(name: str) -> bool:
    """Return whether a model is here: a folder, or in the hub's cache. If not, the hub can be reached.

    Raises InputError at once if it is not here and HF_HUB_OFFLINE forbids to fetch it, and soon if the hub does not
    answer.
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
    if not _answers(constants.ENDPOINT):
        raise InputError(f"{missing}, and {constants.ENDPOINT} cannot be reached; {INSTEAD}")
    return False


def _answers(address: str) -> bool:
    """Return whether a server answers anything in time; looking up its name, too, may hang."""
    answered = threading.Event()

    def ask() -> None:
        try:
            urlopen(Request(address, method="HEAD"), timeout=PATIENCE).close()
        except HTTPError as error:
            if error.code >= 500 or error.code in (403, 407):  # a proxy's word, not the hub's
                return
        except URLError as error:
            if "certificate" not in str(error.reason).lower():  # the hub's own client may trust it
                return
        except OSError:
            return
        answered.set()

    threading.Thread(target=ask, daemon=True).start()
    return answered.wait(PATIENCE)
