"""Find the files of clips cut from YouTube by their video's id, whatever downloader wrote them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from audiogen_cli.data.datasets.dataset_folder import AudioIndex, stem
from audiogen_cli.data.manifest import Dropped

ID_LENGTH = 11
_ID = re.compile(r"[\w-]{11}", re.ASCII)
_PREFIXES = ("", "Y", "v")  # `Y` guards an id that begins with a dash; `v` is hubaak/Download_VGGSound's


class VideoIndex(AudioIndex):
    """Files called `<id>…`, `Y<id>…` or `v<id>…`: found by the id, which may itself hold `_` and `-`.

    A stem of digits only is looked up as a whole (audiocaps-download calls files by their caption's number).
    """

    def __init__(self, dataset: str, paths: Iterable[str]) -> None:
        super().__init__(dataset, paths, lambda path: stem(path)[:ID_LENGTH])

    def find(self, key: str) -> list[str]:
        """List the files of a video, or of a caption's number."""
        if len(key) != ID_LENGTH:
            return super().find(key)
        return [
            path
            for name in (prefix + key for prefix in _PREFIXES)
            for path in super(VideoIndex, self).find(name[:ID_LENGTH])
            # What follows the id is a separator: `Yabcdefghijk` is no file of a video `Yabcdefghij`.
            if stem(path).startswith(name) and not stem(path)[len(name) :][:1].isalnum()
        ]


def damaged_id(dataset: str, split: str, video: str, where: str) -> Dropped | None:
    """Return the reason to drop a row whose id is no YouTube id, or None. where: file and row, for the message."""
    if _ID.fullmatch(video):
        return None
    detail = f"{where}: '{video}' is no YouTube id"
    if video == "#NAME?":
        detail = f"{where}: a spreadsheet made #NAME? of an id that begins with a dash; get the original list again"
    return Dropped(f"{dataset}/{video} ({where})", split, "", "damaged id", detail)
