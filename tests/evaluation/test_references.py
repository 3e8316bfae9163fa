"""Which clips are compared: pairing by name, limits, hashes, and what each wrong input says."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.fakes import write_clips
from helpers.zoo import chirp

from audiogen_cli.data.audio import write_audio
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.audio_sources import Recording
from audiogen_cli.evaluation.references import (
    Reference,
    find_audio,
    hash_references,
    limit_clips,
    load_references,
    pair,
    unmatched,
)


def references(folder: Path, n: int = 20) -> list[Reference]:
    return [
        Reference(f"set/{i:02d}", f"{i:02d}", Recording(folder / f"{i:02d}.wav"), text=f"{i % 4}") for i in range(n)
    ]


def test_a_split_gives_its_first_texts_and_categories(clip_manifests: Path) -> None:
    found, skipped = load_references("esc50-test", clip_manifests, None)
    assert not skipped
    assert [clip.name for clip in found[:2]] == ["5-0-A-0", "5-1-A-0"]
    assert [(clip.text, clip.category) for clip in found[:2]] == [("dog", "dog"), ("clock alarm", "clock_alarm")]
    assert len(found[0].recording.read()) == 8000


@pytest.mark.parametrize("split", ["esc50", "esc50-dev", "-test", "test"])
def test_unknown_split(clip_manifests: Path, split: str) -> None:
    with pytest.raises(InputError, match=f"'{split}': give <dataset>-<split>"):
        load_references(split, clip_manifests, None)


def test_audio_of_a_split_from_a_folder(clip_manifests: Path, tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "again", {f"5-{i}-A-0": i for i in range(1, 12)})
    found, skipped = load_references("esc50-test", clip_manifests, folder)
    assert {clip.recording.path.parent for clip in found} == {folder}
    assert [item.id for item in skipped] == ["esc50/5-0-A-0"]


def test_pairs_go_by_name_not_by_position(tmp_path: Path) -> None:
    folder = write_clips(tmp_path, {f"{i:02d}": i for i in range(1, 20)})
    pairs, skipped = pair(references(folder), folder)
    assert all(reference.name == path.stem for reference, path in pairs)
    assert [item.id for item in skipped] == ["set/00"]
    assert str(folder) in skipped[0].reason


def test_a_clip_named_with_its_audio_suffix_has_the_file_without_it_too(tmp_path: Path) -> None:
    names = ["bell.ogg", "both.MP3", "x.y", "video.mp4"]
    clips = [Reference(f"mine/{name}", name, Recording(tmp_path / name)) for name in names]
    write_clips(tmp_path, {"bell": 0, "both": 1, "both.MP3": 2, "x": 3, "x.y": 4, "video": 5})
    pairs, skipped = pair(clips, tmp_path)
    assert [path.name for _, path in pairs] == ["bell.wav", "both.MP3.wav", "x.y.wav", "video.wav"] and not skipped
    assert unmatched(clips, tmp_path) == ["both", "x"]


def test_a_file_that_may_be_one_of_two_clips_is_neithers(tmp_path: Path) -> None:
    names = [f"{i}" for i in range(30)] + ["a.ogg", "a.wav", "30", "30.ogg"]
    clips = [Reference(f"mine/{name}", name, Recording(tmp_path / name)) for name in names]
    write_clips(tmp_path, {**{f"{i}": i for i in range(31)}, "a": 40})
    pairs, skipped = pair(clips, tmp_path)
    assert [path.stem for _, path in pairs] == [*names[:30], "30"]
    assert [item.id for item in skipped] == ["mine/a.ogg", "mine/a.wav", "mine/30.ogg"]
    assert "a.wav may be another clip's: call this one's 'a.ogg.wav'" in skipped[0].reason
    assert unmatched(clips, tmp_path) == ["a"]
    with pytest.raises(InputError, match="no file is named"):  # a limit makes no other pairs
        pair(clips[-1:], tmp_path, clips)
    write_clips(tmp_path, {"a.ogg": 41})  # now the other one is the second clip's
    assert [path.name for _, path in pair(clips, tmp_path)[0]][30:32] == ["a.ogg.wav", "a.wav"]


def test_a_folder_of_other_names_is_refused(tmp_path: Path) -> None:
    folder = write_clips(tmp_path, {"other": 0})
    with pytest.raises(InputError, match=r"'00\.wav'.*'other\.wav'"):
        pair(references(folder), folder)


def test_too_many_missing_files_are_refused(tmp_path: Path) -> None:
    folder = write_clips(tmp_path, {f"{i:02d}": i for i in range(15)})
    with pytest.raises(InputError, match="5 of 20 clips have no file of their own"):
        pair(references(folder), folder)


def test_names_are_equal_in_both_unicode_forms(tmp_path: Path) -> None:
    decomposed, composed = "nin\u0303o", "ni\u00f1o"
    write_clips(tmp_path, {decomposed: 0})
    pairs, skipped = pair([Reference("set/1", composed, Recording(tmp_path / "x.wav"))], tmp_path)
    assert len(pairs) == 1 and not skipped


def test_folders_without_audio(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        find_audio(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("not audio")
    with pytest.raises(InputError, match="no audio files"):
        find_audio(tmp_path)


def test_one_name_with_two_suffixes_is_refused(tmp_path: Path) -> None:
    write_clips(tmp_path, {"a": 0})
    write_audio(tmp_path / "a.flac", chirp(1), 16000)
    with pytest.raises(InputError, match=r"a\.flac and a\.wav are both 'a'"):
        find_audio(tmp_path)


def test_a_limit_takes_turns_between_texts_and_keeps_the_order() -> None:
    everything = references(Path("x"))
    limited = limit_clips(everything, 8)
    assert sorted(clip.text for clip in limited) == ["0", "0", "1", "1", "2", "2", "3", "3"]
    assert limited == [clip for clip in everything if clip in limited]
    assert {clip.id for clip in limit_clips(everything, 4)} < {clip.id for clip in limited}
    assert limit_clips(everything, 99) == everything


def test_a_limit_on_clips_without_texts() -> None:
    everything = [Reference(str(i), str(i), Recording(Path("x"))) for i in range(9)]
    assert len(limit_clips(everything, 4)) == 4


def test_the_hash_knows_files_and_windows_but_not_the_order(tmp_path: Path) -> None:
    write_clips(tmp_path, {f"{i:02d}": i for i in range(3)})
    clips = references(tmp_path, 3)
    before = hash_references(clips)
    assert hash_references(clips[::-1]) == before
    other_window = [Reference("set/00", "00", Recording(clips[0].recording.path, 0.5)), *clips[1:]]
    assert hash_references(other_window) != before
    write_clips(tmp_path / "changed", {f"{i:02d}": i + 1 for i in range(3)})
    assert hash_references(references(tmp_path / "changed", 3)) != before
