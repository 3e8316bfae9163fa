"""Files of pretrained networks: release, search, download and strict loading."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import urlopen

from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.evaluation.networks.base import MissingWeightsError, WeightSource
from audiogen_cli.files import cache_folder, is_there, replacing

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class WeightFile:
    """One published file. name: in its release; variable: the environment variable that may hold a path to it."""

    network: str
    name: str
    release: str
    url: str
    megabytes: int  # about
    variable: str
    elsewhere: tuple[str, ...] = ()  # folders where other tools put it, `~` and `$NAME` allowed

    def find(self, source: WeightSource) -> Path:
        """Find the file: the given one, the variable's, the cache's, another tool's, or download it.

        Raises InputError if a given file is not there, MissingWeightsError if none is and none may be fetched.
        """
        for given in (source.path, os.environ.get(self.variable)):
            if given:
                if not Path(given).expanduser().is_file():
                    raise InputError(f"the weights of {self.network} are not at {given}: no such file")
                return Path(given).expanduser()
        for path in self.candidates():
            if is_there(path):
                return path
        if source.download:
            return download(self.url, weights_folder() / self.name)
        raise MissingWeightsError(
            f"the weights of {self.network} are not here: put {self.name} (about {self.megabytes} MB, {self.release})"
            f" into {weights_folder()}, set {self.variable}=FILE, or add --download"
        )

    def candidates(self) -> list[Path]:
        """List the paths to search, in order. Some tools save `=` as `%3D`."""
        folders = [weights_folder(), *(Path(os.path.expandvars(folder)).expanduser() for folder in self.elsewhere)]
        names = dict.fromkeys([self.name, self.name.replace("=", "%3D")])
        return [folder / name for folder in folders for name in names]


def weights_folder() -> Path:
    """Return the folder of downloads, searched for files fetched by hand, too."""
    return cache_folder() / "weights"


def download(url: str, path: Path) -> Path:
    """Fetch a file to `path`, whole or not at all. Raises AudiogenError if the network or the disk refuses."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urlopen(url, timeout=60) as response, replacing(path) as temporary:
            with temporary.open("wb") as file:
                shutil.copyfileobj(response, file, 1 << 20)
            expected = response.headers.get("Content-Length")
            if expected and temporary.stat().st_size != int(expected):
                raise AudiogenError(f"{url}: the download broke off; try again")
    except (URLError, OSError, TimeoutError) as error:
        raise AudiogenError(f"{url} could not be fetched ({error}); fetch it by hand to {path}") from None
    return path


def read_checkpoint(path: Path) -> Any:
    """Read a PyTorch checkpoint, tensors and plain containers only. Raises InputError if it is damaged."""
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling fails in too many ways to list
        raise InputError(f"{path} cannot be read as weights ({str(error).splitlines()[0][:120]})") from None


def load_strictly(
    module: nn.Module, state: Any, path: Path, ignored: Callable[[str], bool] = lambda name: False
) -> None:
    """Load a state dict into `module`. Raises InputError unless every name and shape fits, ignored names aside."""
    if not isinstance(state, dict):
        raise InputError(f"{path} holds no state dict, but a {type(state).__name__}")
    tensors: dict[str, Tensor] = {name: tensor for name, tensor in state.items() if not ignored(name)}
    try:
        module.load_state_dict(tensors)
    except (RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{path} holds another network's weights: {reason[:160]}") from None
