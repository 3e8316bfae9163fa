"""AudioCaps v1 (Kim et al. 2019): captions of AudioSet segments; one in training, five in validation and test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from audiogen_cli.data.datasets.dataset_folder import SPLIT_NAMES, DatasetFolder, Source, SourceItem, not_found, stem
from audiogen_cli.data.datasets.youtube import ID_LENGTH, VideoIndex, damaged_id
from audiogen_cli.data.manifest import SPLITS, Dropped, Split
from audiogen_cli.data.tables import first_row, stream_rows

PUBLISHED = ("audiocap_id", "youtube_id", "start_time", "caption")
_TEXT_FILE = re.compile(r"Y?([\w-]{11})", re.ASCII)
_V2 = re.compile(r"2[._]0|v2", re.IGNORECASE)


@dataclass
class _Captioned:
    """A clip with the captions of all its rows. numbers: the rows' audiocap_id."""

    start: str
    captions: list[str] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)


class AudioCaps(Source):
    """`train.csv`, `val.csv`, `test.csv` as published or in WavCaps' form, in any folder, and audio in any folder.

    Of the lists of v1 and 2.0, both in the repository, the paper's v1 is read. Without any
    list: LAION's copy, `<id>.wav` with its caption in `<id>.txt`, in folders that say the split. A caption in no such
    folder is dropped, for it might be one of the test set's.
    """

    key = "audiocaps"
    license = "captions: academic use only; audio: its YouTube uploaders'"
    terms = "its captions are for academic purposes only; the audio stays its YouTube uploaders'."
    download = (
        "git clone https://github.com/cdjkim/audiocaps FOLDER && pip install audiocaps-download && python -c"
        " \"from audiocaps_download import Downloader; Downloader('FOLDER', 8).download('wav')\""
    )

    def items(self, tree: DatasetFolder) -> Iterator[SourceItem | Dropped]:
        """Yield one item per clip, its captions in the order of the rows, which need not be adjacent."""
        lists = _lists(tree)
        if not lists and (captioned := list(_text_files(tree))):
            yield from self._captioned_items(tree, captioned)
            return
        if not lists:
            raise not_found(
                tree,
                "AudioCaps' train.csv, val.csv, test.csv (audiocap_id,youtube_id,…; github.com/cdjkim/audiocaps),"
                " or <id>.txt beside each <id>.wav",
            )
        index = VideoIndex(self.key, tree.audio)
        for split, path in lists.items():
            clips: dict[str, _Captioned] = {}
            for number, (video, start, caption, identifier) in enumerate(_rows(tree.root / path), start=1):
                if damaged := damaged_id(self.key, split, video, f"{path} row {number}"):
                    yield damaged
                    continue
                clip = clips.setdefault(video, _Captioned(start))
                clip.captions.append(caption)
                clip.numbers.append(identifier)
            for video, clip in clips.items():
                audio = index.match(video, *filter(None, clip.numbers))
                yield SourceItem(
                    name=f"{video}_{clip.start}" if clip.start else video,
                    split=split,
                    path=audio or f"{split}/{video}.wav",
                    captions=tuple(dict.fromkeys(filter(None, clip.captions))),
                    missing=audio is None,
                    recording=video,
                )
        yield from index.unmatched()

    def _captioned_items(self, tree: DatasetFolder, captioned: list[tuple[str, str]]) -> Iterator[SourceItem | Dropped]:
        index = VideoIndex(self.key, tree.audio)
        for video, path in captioned:
            split, audio = _split_of(path), index.match(video)
            if split is None:
                why = "no list, and no folder called train, val or test, says its split"
                yield Dropped(f"{self.key}/{video}", "", audio or path, "no split", why)
                continue
            caption = (tree.root / path).read_text("utf-8-sig", "replace").strip().partition("\n")[0].strip()
            captions, where = (caption,) if caption else (), audio or f"{path[:-4]}.wav"
            yield SourceItem(video, split, where, captions, missing=audio is None, recording=video)
        yield from index.unmatched()


def _lists(tree: DatasetFolder) -> dict[Split, str]:
    """Find the list of each split: v1 before 2.0, the publisher's form before WavCaps'."""
    ranked: dict[Split, list[tuple[bool, bool, bool, str]]] = {}
    for path in tree.other:
        folder, _, name = path.rpartition("/")
        split = next((split for split in SPLITS if name.casefold() == f"{split}.csv"), None)
        columns = first_row(tree.root / path) if split else []
        if split and columns[:1] in (["audiocap_id"], ["file_name"]):
            rank = (columns[0] != "audiocap_id", bool(_V2.search(folder)), not _has_crlf(tree.root / path), path)
            ranked.setdefault(split, []).append(rank)
    return {split: min(ranked[split])[-1] for split in SPLITS if split in ranked}


def _text_files(tree: DatasetFolder) -> Iterator[tuple[str, str]]:
    """Yield (video, path) of every file called `<id>.txt` or `Y<id>.txt`."""
    for path in tree.other:
        name = path.rpartition("/")[2]
        if name.casefold().endswith(".txt") and (match := _TEXT_FILE.fullmatch(name[:-4])):
            yield match.group(1), path


def _split_of(path: str) -> Split | None:
    """Return the split that the innermost folder called after one names."""
    folders = path.casefold().split("/")[:-1]
    return next((SPLIT_NAMES[name] for name in reversed(folders) if name in SPLIT_NAMES), None)


def _has_crlf(path: Path) -> bool:
    """Return whether lines end with CRLF, as those of v1 do; 2.0 has LF."""
    with path.open("rb") as file:
        return file.readline().endswith(b"\r\n")


def _rows(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield (video, start, caption, audiocap_id) of each caption; WavCaps' form has neither start nor number."""
    published = first_row(path)[:1] == ["audiocap_id"]
    for row in stream_rows(path, PUBLISHED if published else ("file_name",)):
        if published:
            yield row["youtube_id"], row["start_time"], row["caption"], row["audiocap_id"]
            continue
        video = stem(row["file_name"])[-ID_LENGTH:]  # `Y<id>.wav`
        yield from ((video, "", caption, "") for column, caption in row.items() if column.startswith("caption"))
