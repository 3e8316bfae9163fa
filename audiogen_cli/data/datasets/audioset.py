"""AudioSet (Gemmeke et al. 2017): lists of 10 s segments of YouTube videos, 527 classes; the audio was downloaded."""

from __future__ import annotations

from collections.abc import Iterator

from audiogen_cli.data.datasets.dataset_folder import DatasetFolder, Source, SourceItem, not_found
from audiogen_cli.data.datasets.youtube import VideoIndex, damaged_id
from audiogen_cli.data.manifest import Dropped, Split
from audiogen_cli.data.tables import stream_rows
from audiogen_cli.files import read_json

COLUMNS = ("YTID", "start_seconds", "end_seconds", "positive_labels")


class AudioSet(Source):
    """Any of Google's `*_segments.csv`, `class_labels_indices.csv` or `ontology.json`, and audio in any folder.

    Both training lists are `train`, eval is `test`. Tags are the labels' display names.
    """

    key = "audioset"
    license = "audio: its YouTube uploaders'; labels CC BY 4.0"
    terms = "the lists are CC BY 4.0 (ontology CC BY-SA 4.0); the audio stays its YouTube uploaders'."
    download = (
        "wget -P FOLDER http://storage.googleapis.com/us_audioset/youtube_corpus/v1/csv/"
        "{balanced_train_segments,unbalanced_train_segments,eval_segments,class_labels_indices}.csv"
        ' && pip install audioset-download && python -c "from audioset_download import Downloader; [Downloader('
        "'FOLDER', None, 8, part, False).download('wav') for part in ('balanced_train', 'unbalanced_train', 'eval')]\""
    )

    def items(self, tree: DatasetFolder) -> Iterator[SourceItem | Dropped]:
        """Yield one item per segment. Raises InputError if there is no list, or no names for its labels."""
        lists = tree.find_named("*_segments.csv")
        if not lists:
            raise not_found(
                tree, "AudioSet's *_segments.csv and class_labels_indices.csv (research.google.com/audioset/download)"
            )
        names = _label_names(tree) if tree.audio else {}
        index = VideoIndex(self.key, tree.audio)
        for path in lists:
            split = _split(path)
            for number, row in enumerate(_rows(tree, path), start=1):
                video = row["YTID"]
                if damaged := damaged_id(self.key, split, video, f"{path} row {number}"):
                    yield damaged
                    continue
                audio = index.match(video)
                yield SourceItem(
                    name=f"{video}_{_start(row['start_seconds'])}",
                    split=split,
                    path=audio or f"{video}.wav",
                    tags=tuple(names[label] for label in row["positive_labels"].split(",") if label in names),
                    missing=audio is None,
                    recording=video,
                )
        yield from index.unmatched()


def _rows(tree: DatasetFolder, path: str) -> Iterator[dict[str, str]]:
    """Yield the segments of a list. It has no header; comments begin with `# ` (and `#NAME?` is none of them)."""
    for row in stream_rows(tree.root / path, header=COLUMNS):
        if not row["YTID"].startswith("# "):
            yield row


def _split(path: str) -> Split:
    return "test" if "eval" in path.rpartition("/")[2].casefold() else "train"


def _start(seconds: str) -> str:
    """Shorten `30.000` to `30`, as spreadsheets write it, too."""
    try:
        return f"{float(seconds):g}"
    except ValueError:
        return seconds


def _label_names(tree: DatasetFolder) -> dict[str, str]:
    """Map label ids (mid) to display names."""
    if found := tree.find_named("class_labels_indices.csv"):
        rows = stream_rows(tree.root / found[0], ("mid", "display_name"))
        return {row["mid"]: row["display_name"] for row in rows}
    if found := tree.find_named("ontology.json"):
        return {entry["id"]: entry["name"] for entry in read_json(tree.root / found[0], "replace")}
    raise not_found(tree, "class_labels_indices.csv or ontology.json beside the lists, which name the labels")
