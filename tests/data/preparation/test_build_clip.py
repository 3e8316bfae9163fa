from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiogen_cli.data import audio
from audiogen_cli.data.datasets.dataset_folder import SourceItem
from audiogen_cli.data.manifest import Clip, Dropped
from audiogen_cli.data.preparation.build_clip import ClipRules, build_clips
from audiogen_cli.data.preparation.file_index import IndexedFile
from audiogen_cli.errors import AudiogenWarning


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


def test_of_a_recording_that_was_cut_short_clips_are_kept_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiogen_cli.data.audio._warned", set())
    for name, seconds in (("short.wav", 5), ("long.wav", 30)):
        soundfile.write(tmp_path / name, np.zeros(8_000 * seconds), 8_000)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[: -2 * 8_000 * seconds // 2])
    lengths = [("short.wav", 0.0, None), ("short.wav", 0.0, 2.0), ("long.wav", 0.0, None), ("long.wav", 10.0, None)]
    items = [
        SourceItem(str(number), "train", path, (), ("sea",), "", start, duration)
        for number, (path, start, duration) in enumerate(lengths)
    ]
    known: dict[str, IndexedFile] = {}
    for _ in range(2):
        with pytest.warns(AudiogenWarning, match=r"long\.wav: damaged or cut short: 120000 samples") as said:
            results, learned = build_clips(items, ClipRules("x", tmp_path), known)
        assert len(said) == 1
        whole, part, long, rest = results
        assert isinstance(whole, Dropped) and isinstance(rest, Dropped) and whole.reason == rest.reason == "unreadable"
        assert whole.detail == f"{tmp_path}/short.wav: damaged or cut short: 20000 samples are missing"
        assert isinstance(part, Clip) and isinstance(long, Clip) and (part.duration, long.duration) == (2.0, 30.0)
        known |= learned
        audio._warned.clear()
