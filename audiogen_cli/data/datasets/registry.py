"""The datasets that `audiogen prep --datasets` knows, by key, in the paper's order (and ESC-50)."""

from __future__ import annotations

from audiogen_cli.data.datasets.audiocaps import AudioCaps
from audiogen_cli.data.datasets.audioset import AudioSet
from audiogen_cli.data.datasets.clotho import Clotho
from audiogen_cli.data.datasets.dataset_folder import Source
from audiogen_cli.data.datasets.esc50 import Esc50
from audiogen_cli.data.datasets.fsd50k import Fsd50k
from audiogen_cli.data.datasets.libraries.bbc import Bbc
from audiogen_cli.data.datasets.libraries.freetousesounds import FreeToUseSounds
from audiogen_cli.data.datasets.libraries.paramount import Paramount
from audiogen_cli.data.datasets.libraries.sonniss import Sonniss
from audiogen_cli.data.datasets.libraries.wesoundeffects import WeSoundEffects
from audiogen_cli.data.datasets.vggsound import VggSound
from audiogen_cli.errors import InputError

_SOURCES: tuple[Source, ...] = (
    *(AudioSet(), Bbc(), AudioCaps(), Clotho(), VggSound(), Fsd50k()),
    *(FreeToUseSounds(), Sonniss(), WeSoundEffects(), Paramount(), Esc50()),
)
SOURCES: dict[str, Source] = {source.key: source for source in _SOURCES}


def find_source(key: str) -> Source:
    """Find the dataset called `key`. Raises InputError naming the known ones."""
    if key not in SOURCES:
        raise InputError(f"unknown dataset '{key}': choose from {', '.join(SOURCES)}; for your own sounds use --folder")
    return SOURCES[key]
