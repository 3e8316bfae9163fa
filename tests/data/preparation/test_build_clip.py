from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from audiogen_cli.data.datasets.dataset_folder import SourceItem
from audiogen_cli.data.manifest import Clip, Dropped
from audiogen_cli.data.preparation.build_clip import ClipRules, build_clips


def described(path: Path, comment: str) -> None:
    with soundfile.SoundFile(path, "w", 8_000, 1) as file:
        if comment:
            file.comment = comment
        file.write(np.zeros(800))


def test_embedded_text_takes_the_place_of_a_guess(tmp_path: Path) -> None:
    described(tmp_path / "a.flac", "Waves hitting the shore")
    described(tmp_path / "b.flac", "")
    items = [
        SourceItem(name, "train", f"{name}.flac", captions=("guess",), tags=("sea",), embedded=True)
        for name in ("a", "b")
    ]
    results, learnt = build_clips(items, ClipRules("x", tmp_path), {})
    assert [clip.texts for clip in results if isinstance(clip, Clip)] == [("sea", "wave hit shore"), ("sea", "guess")]
    assert results[0].captions == ("Waves hitting the shore",)  # type: ignore[union-attr]
    assert learnt["a.flac"].description == "Waves hitting the shore"


def test_embedded_text_that_mentions_speech_is_dropped_from_training(tmp_path: Path) -> None:
    described(tmp_path / "a.flac", "A speech in a hall")
    item = SourceItem("a", "train", "a.flac", tags=("hall",), embedded=True)
    (dropped,), _ = build_clips([item], ClipRules("x", tmp_path), {})
    assert isinstance(dropped, Dropped) and (dropped.reason, dropped.detail) == ("speech", "A speech in a hall")
    (kept,), _ = build_clips([item], ClipRules("x", tmp_path, keep_speech=True), {})
    assert isinstance(kept, Clip)


def test_a_licence_is_the_items_own_or_its_datasets(tmp_path: Path) -> None:
    described(tmp_path / "a.flac", "")
    items = [
        SourceItem("a", "test", "a.flac", tags=("dog",)),
        SourceItem("b", "test", "a.flac", tags=("dog",), license="CC0"),
    ]
    results, _ = build_clips(items, ClipRules("x", tmp_path, license="CC BY"), {})
    assert [clip.license for clip in results if isinstance(clip, Clip)] == ["CC BY", "CC0"]
