"""Models on the Hugging Face hub: `owner/name[@revision]` becomes a folder in the hub's own cache, once.

Only safetensors, JSON and text are fetched; what is there is used without a network. The public AudioGen checkpoint,
whose weights are pickled tensors, is imported instead.
"""

from __future__ import annotations

import queue
import threading
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from audiogen_cli.errors import InputError, first_line
from audiogen_cli.files import cache_folder, check_folder, delete, note, remove_leftovers, replacing

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

PUBLIC_MODEL = "facebook/audiogen-medium"
PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth", ".th")
PLAIN = (".safetensors", ".json", ".md", ".txt")  # and LICENSE
FOLDERS = ("", "codec")  # of a repository, that a model folder consists of
PATIENCE = 4.0  # seconds to wait for the hub's first answer; the libraries try for minutes


def fetch_model(name: str) -> Path:
    """Return the folder of a model or adapter by its name on the hub, downloaded if it is not in the cache.

    Raises InputError if it is not there and cannot be fetched, or holds pickled weights only.
    """
    repository, _, revision = name.partition("@")
    if repository == PUBLIC_MODEL:
        return _import_public(name, revision)
    if (here := _in_cache(repository, revision)) and _is_whole(here):
        return here
    info = _look_up(name)
    _check_files(name, info)
    wanted = sorted(filter(_is_ours, _sizes(info)), key=lambda file: file == "config.json")  # last: all is there then
    _say(name, info, wanted)
    for file in wanted:
        download(name, file)
    if here := _in_cache(repository, revision):
        return here
    raise InputError(f"'{name}' changed on the hub while it was downloaded: run the command again")


def download(name: str, file: str) -> Path:
    """Download a file of `owner/name[@revision]` into the hub's cache. Raises InputError if that fails."""
    from huggingface_hub import constants, hf_hub_download

    repository, _, revision = name.partition("@")
    cache, endpoint = constants.HF_HUB_CACHE, constants.ENDPOINT
    try:
        return Path(hf_hub_download(repository, file, revision=revision or None, cache_dir=cache, endpoint=endpoint))
    except Exception as error:  # the hub's client raises dozens of kinds: no network, no space, …
        raise InputError(f"'{name}': {file} cannot be downloaded: {first_line(error).rstrip('.')}") from None


def ask(address: str) -> int | None:
    """Return the status that a server answers with, None without an answer in time: looking up its name may hang, too.

    The hub's own client may trust a certificate or hold a token that this question does without: 401 is left to it.
    """
    answers: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def wait() -> None:
        try:
            with urlopen(Request(address, method="HEAD"), timeout=PATIENCE) as answer:
                answers.put(answer.status)
        except HTTPError as error:
            answers.put(error.code if error.code in (401, 404) else None)
        except URLError as error:
            answers.put(401 if "certificate" in str(error.reason).lower() else None)
        except OSError:
            answers.put(None)

    threading.Thread(target=wait, daemon=True).start()
    try:
        return answers.get(timeout=PATIENCE)
    except queue.Empty:
        return None


def _import_public(name: str, revision: str) -> Path:
    """Convert the public checkpoint once, into a cache of ours, whichever process comes first."""
    from audiogen_cli.interop.import_audiocraft import import_checkpoint
    from audiogen_cli.lock import locked

    out = cache_folder() / "models" / f"{PUBLIC_MODEL.partition('/')[2]}@{revision or 'main'}"
    if not (out / "config.json").is_file():
        check_folder(out.parent)
        out.parent.mkdir(parents=True, exist_ok=True)
        with locked(out.with_name(f".{out.name}.lock")):
            if not (out / "config.json").is_file():
                remove_leftovers(out.parent.glob(".*.tmp"))
                delete(out)  # a part, of a version that did not rename it as a whole
                with replacing(out) as temporary:
                    import_checkpoint(name, temporary)
    return out


def announce_download(name: str, files: list[str]) -> None:
    """Say size and license of files of a repository before they are downloaded. Raises InputError as `fetch_model`."""
    _say(name, _look_up(name), files)


def _in_cache(repository: str, revision: str) -> Path | None:
    from huggingface_hub import constants, try_to_load_from_cache

    found = try_to_load_from_cache(
        repository, "config.json", cache_dir=constants.HF_HUB_CACHE, revision=revision or None
    )
    return Path(found).parent if isinstance(found, str) else None


def _is_whole(folder: Path) -> bool:
    """Return whether a downloaded model is all there: another tool may have been stopped after its `config.json`."""
    from audiogen_cli.model_folder import CODEC_FOLDER, WEIGHTS_FILE, read_document

    try:
        kind = read_document(folder).kind
    except InputError:
        return True  # whoever reads it says what is wrong with it
    codec = folder / CODEC_FOLDER
    parts = [codec / "config.json", codec / WEIGHTS_FILE] if kind == "lm" else []
    parts.append(folder / ("adapter_model.safetensors" if kind == "adapter" else WEIGHTS_FILE))
    return all(part.is_file() for part in parts)


def _look_up(name: str) -> ModelInfo:
    """Ask the hub about a repository. Raises InputError in one line for each reason why it does not tell."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    repository, _, revision = name.partition("@")
    missing = f"unknown model '{name}': no such folder, nor in the hub's cache"
    if constants.is_offline_mode():
        raise InputError(f"{missing}, and HF_HUB_OFFLINE is set")
    if ask(f"{constants.ENDPOINT}/{repository}/resolve/{revision or 'main'}/config.json") is None:
        raise InputError(f"{missing}, and {constants.ENDPOINT} cannot be reached")
    try:
        hub = HfApi(endpoint=constants.ENDPOINT)
        return hub.model_info(repository, revision=revision or None, timeout=30, files_metadata=True)
    except RevisionNotFoundError:
        raise InputError(f"'{repository}' on {constants.ENDPOINT} has no revision '{revision}'") from None
    except RepositoryNotFoundError:
        raise InputError(
            f"{missing}, and {constants.ENDPOINT} has no model of that name (a private one needs `hf auth login`)"
        ) from None
    except Exception as error:  # as for `download`
        raise InputError(f"{missing}, and {constants.ENDPOINT} does not give it: {first_line(error)}") from None


def _check_files(name: str, info: ModelInfo) -> None:
    files = _sizes(info)
    pickles = sorted(file for file in files if file.endswith(PICKLES))
    if any(file.endswith(".safetensors") for file in files) and "config.json" in files:
        return
    if pickles and not any(file.endswith(".safetensors") for file in files):
        raise InputError(
            f"'{name}' holds pickled weights only ({pickles[0]}), which can run code and are not loaded; if it is an "
            f"AudioGen checkpoint: audiogen import {name} --out FOLDER"
        )
    raise InputError(f"'{name}' is not a model folder of audiogen: config.json or *.safetensors is missing")


def _sizes(info: ModelInfo) -> dict[str, int]:
    return {each.rfilename: each.size or 0 for each in info.siblings or ()}


def _is_ours(file: str) -> bool:
    path = PurePosixPath(file)
    folder = "" if str(path.parent) == "." else str(path.parent)
    is_plain = path.suffix in PLAIN and not path.name.startswith("packed-")  # rounded weights are made here
    return folder in FOLDERS and (is_plain or path.name == "LICENSE")


def _say(name: str, info: ModelInfo, files: list[str]) -> None:
    size = sum(_sizes(info).get(file, 0) for file in files) / 1e6
    license = info.card_data.get("license") if info.card_data else None
    amount = f"{size / 1000:.1f} GB" if size >= 1000 else f"{size:.1f} MB"
    note(f"downloading {name} into the hub's cache: {amount}; license: {license or 'none is stated'}")
