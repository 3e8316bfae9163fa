from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import raw_trees
from helpers.manifests import read_manifest

from audiogen_cli.data.audio import read_audio, write_audio
from audiogen_cli.data.datasets.dataset_folder import SourceItem
from audiogen_cli.data.manifest import Clip, Dropped, dropped_file, read_dropped
from audiogen_cli.data.preparation.build_clip import ClipRules, build_clips
from audiogen_cli.data.preparation.prep import PrepReport, prepare
from audiogen_cli.errors import InputError


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """Four sounds of 0.5 s, one damaged file and one that is not audio."""
    folder = tmp_path / "sounds"
    for name in ("bark.wav", "rain/heavy.flac", "val/wind/1.wav", "a man giving a speech.wav"):
        write_audio(folder / name, np.full(8_000, 0.1))
    (folder / "broken.wav").write_bytes(b"RIFF")
    (folder / "notes.txt").write_text("not audio")
    return folder


def test_every_item_is_kept_or_dropped_with_a_reason(sounds: Path, tmp_path: Path) -> None:
    (report,) = prepare([], tmp_path, tmp_path / "out", folder=sounds, name="mine", workers=1)
    manifest = read_manifest(tmp_path / "out" / "mine.parquet")
    assert [(clip.id, clip.split, clip.texts) for clip in manifest.clips] == [
        ("mine/bark.wav", "train", ("bark",)),
        ("mine/rain/heavy.flac", "train", ("rain", "rain heavy")),
        ("mine/val/wind/1.wav", "val", ("wind",)),
    ]
    assert all((clip.duration, clip.sample_rate, clip.channels) == (0.5, 16_000, 1) for clip in manifest.clips)
    dropped = {item.path: item.reason for item in read_dropped(dropped_file(report.manifest))}
    assert dropped == {"a man giving a speech.wav": "speech", "broken.wav": "unreadable"}
    assert (report.items, report.clips, report.dropped) == (
        5,
        {"train": 2, "val": 1, "test": 0},
        {"speech": 1, "unreadable": 1},
    )
    assert report.hours["train"] == pytest.approx(1 / 3600)
    assert manifest.root == sounds.resolve() and manifest.metadata["options"]["keep_speech"] is False


def test_strange_entries_are_dropped_with_a_reason(tmp_path: Path) -> None:
    sounds, long = tmp_path / "sounds", f"{'b' * 248}.wav"
    for name in ("dog.wav", long):
        write_audio(sounds / name, np.full(8_000, 0.1))
    (sounds / "loop.wav").symlink_to("loop.wav")
    (sounds / "folder").symlink_to("folder")
    os.mkfifo(sounds / "pipe.wav")
    os.mkfifo(sounds / "pipe.csv")
    (report,) = prepare([], tmp_path, tmp_path / "out", folder=sounds, copies=True, workers=1)
    assert [clip.path for clip in read_manifest(report.manifest).clips] == ["dog.wav.flac"]
    dropped = {item.path: item.detail for item in read_dropped(dropped_file(report.manifest))}
    assert dropped.keys() == {"loop.wav", "pipe.wav", long}
    assert "symbolic links" in dropped["loop.wav"] and "neither a file" in dropped["pipe.wav"]
    assert "File name too long: 257 bytes" in dropped[long]


def test_a_full_folder_for_temporary_files_is_said(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    with pytest.raises(InputError, match=r"temporary files cannot be written to .* set TMPDIR"):
        prepare([], tmp_path, tmp_path / "out", folder=sounds, workers=1)


def test_speech_may_be_kept(sounds: Path, tmp_path: Path) -> None:
    (report,) = prepare([], tmp_path, tmp_path / "out", folder=sounds, name="mine", keep_speech=True, workers=1)
    assert report.dropped == {"unreadable": 1}
    assert "man give speech" in {text for clip in read_manifest(report.manifest).clips for text in clip.texts}


def test_speech_is_dropped_from_training_only(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", np.zeros(1_600))
    items = [
        SourceItem("1", "train", "a.wav", captions=("A dog", "a Speech")),
        SourceItem("2", "test", "a.wav", captions=("A dog", "a Speech")),
        SourceItem("3", "train", "a.wav", tags=("Male_speech_and_man_speaking",)),
        SourceItem("4", "train", "a.wav", captions=("a speechless dog",)),
    ]
    results, _ = build_clips(items, ClipRules("x", tmp_path), {})
    assert [type(result) for result in results] == [Dropped, Clip, Dropped, Clip]
    assert all(result.reason == "speech" for result in results if isinstance(result, Dropped))


def test_a_recording_of_less_than_one_sample_is_too_short(tmp_path: Path) -> None:
    for name, n, rate in (("a", 1, 44_100), ("b", 2, 96_000), ("c", 1, 16_000), ("d", 2, 44_100)):
        write_audio(tmp_path / f"{name}.wav", np.zeros(n), rate)
    items = [SourceItem(name, "train", f"{name}.wav", tags=("dog",)) for name in "abcd"]
    results, _ = build_clips(items, ClipRules("x", tmp_path), {})
    assert [getattr(result, "reason", "") for result in results] == ["too short", "too short", "", ""]


def test_windows_are_cut_to_what_the_file_holds(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", np.zeros(16_000))
    items = [
        SourceItem("1", "test", "a.wav", tags=("dog",), start=0.25, duration=0.5),
        SourceItem("2", "test", "a.wav", tags=("dog",), start=0.75, duration=10.0),
        SourceItem("3", "test", "a.wav", tags=("dog",), start=1.0, duration=10.0),
        SourceItem("4", "test", "a.wav", tags=("!",)),
        SourceItem("5", "test", "b.wav", tags=("dog",), missing=True),
    ]
    results, _ = build_clips(items, ClipRules("x", tmp_path), {})
    assert [(clip.start, clip.duration) for clip in results if isinstance(clip, Clip)] == [(0.25, 0.5), (0.75, 0.25)]
    assert [item.reason for item in results if isinstance(item, Dropped)] == ["too short", "no text", "missing"]


def test_given_captions_replace_file_names(sounds: Path, tmp_path: Path) -> None:
    captions = tmp_path / "captions.csv"
    captions.write_text("file,caption,split\nbark.wav,Two dogs barking,test\nabsent.wav,Nothing,\n")
    (report,) = prepare([], tmp_path, tmp_path / "out", folder=sounds, captions=captions, workers=1)
    clip = read_manifest(report.manifest).clips[0]
    assert (clip.split, clip.captions, clip.texts) == ("test", ("Two dogs barking",), ("two dog bark",))
    assert report.dataset == "sounds"
    assert report.warnings == [
        f"{captions}: 1 entries name no clip, or more than one: absent.wav",
        f"{captions}: 4 clips have no entry, and for text what their names say:"
        " a man giving a speech.wav, broken.wav, rain/heavy.flac, ...",
    ]


def test_captions_that_name_nothing_are_refused(sounds: Path, tmp_path: Path) -> None:
    captions = tmp_path / "captions.csv"
    captions.write_text("file,caption\nabsent.wav,Nothing\n")
    with pytest.raises(InputError, match=r"names no clip of mine \(absent.wav"):
        prepare([], tmp_path, tmp_path / "out", folder=sounds, name="mine", captions=captions)
    assert not (tmp_path / "out").exists()


def test_a_process_pool_gives_the_same_manifest(sounds: Path, tmp_path: Path) -> None:
    for number in range(70):  # more than one chunk
        (sounds / f"dog bark{number}.wav").symlink_to(sounds / "bark.wav")
    seen: list[tuple[int, int]] = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        prepare([], tmp_path, out, sounds, "mine", workers=workers, progress=lambda *counts: seen.append(counts))
    assert read_manifest(tmp_path / "1" / "mine.parquet") == read_manifest(tmp_path / "2" / "mine.parquet")
    assert seen[-1] == (75, 75)


def test_a_second_run_opens_only_new_and_changed_files(sounds: Path, tmp_path: Path) -> None:
    def run() -> PrepReport:
        (report,) = prepare([], tmp_path, tmp_path / "out", folder=sounds, name="mine", workers=1)
        return report

    assert run().probed == 3
    first = read_manifest(tmp_path / "out" / "mine.parquet")
    assert run().probed == 0 and read_manifest(tmp_path / "out" / "mine.parquet") == first
    write_audio(sounds / "bark.wav", np.full(4_000, 0.1))
    write_audio(sounds / "meow.wav", np.full(4_000, 0.1))
    (sounds / "rain/heavy.flac").unlink()
    assert run().probed == 2
    clips = {clip.path: clip.duration for clip in read_manifest(tmp_path / "out" / "mine.parquet").clips}
    assert clips == {"bark.wav": 0.25, "meow.wav": 0.25, "val/wind/1.wav": 0.5}


def test_copies_are_what_a_converted_manifest_names(sounds: Path, tmp_path: Path) -> None:
    write_audio(sounds / "bark.wav", np.full(22_050, 0.1), 44_100)
    for probed in (3, 0):
        (report,) = prepare([], tmp_path, tmp_path / "out", folder=sounds, name="mine", copies=True, workers=1)
        assert report.probed == probed and report.dropped == {"speech": 1, "unreadable": 1}
    manifest = read_manifest(report.manifest)
    assert manifest.root == (tmp_path / "out" / "mine.audio").resolve()
    assert [clip.path for clip in manifest.clips] == ["bark.wav.flac", "rain/heavy.flac.flac", "val/wind/1.wav.flac"]
    assert all((clip.sample_rate, clip.duration) == (16_000, 0.5) for clip in manifest.clips)
    assert all(len(read_audio(clip.audio_path)) == 8_000 for clip in manifest.clips)


def test_a_header_that_claims_the_impossible_costs_its_clip_alone(sounds: Path, tmp_path: Path) -> None:
    wav = bytearray((sounds / "bark.wav").read_bytes())
    wav[27] |= 2  # the rate of RIFF's `fmt `, in bytes 24 to 27
    (sounds / "bark.wav").write_bytes(wav)
    (report,) = prepare([], tmp_path, tmp_path / "out", folder=sounds, name="mine", workers=1)
    assert report.dropped["unreadable"] == 2 and len(read_manifest(report.manifest).clips) == 2


def test_copies_below_the_folder_are_no_clips_of_it(sounds: Path) -> None:
    for _ in range(2):
        (report,) = prepare([], sounds, sounds / "data", folder=sounds, name="mine", copies=True, workers=1)
        assert sum(report.clips.values()) == 3
        report.manifest.unlink()  # as if the first run had been killed


def test_copies_are_those_of_the_folder_that_was_named_last(tmp_path: Path) -> None:
    for name, level in (("a", 0.1), ("b", 0.5)):
        for path in raw_trees.build_raw(tmp_path / name, "esc50").rglob("*-A-*.*"):
            write_audio(path, np.full(8_000, level))
    for name, level in (("a", 0.1), ("b", 0.5), ("a", 0.1)):
        (report,) = prepare(["esc50"], tmp_path / name, tmp_path / "out", copies=True, workers=1)
        peaks = {round(float(read_audio(clip.audio_path).max()), 3) for clip in read_manifest(report.manifest).clips}
        assert peaks == {level}


def test_given_captions_count_more_than_embedded_text(tmp_path: Path) -> None:
    folder = tmp_path / "raw" / "sonniss" / "A - Dogs"
    folder.mkdir(parents=True)
    for name in ("a.flac", "b.flac"):
        with soundfile.SoundFile(folder / name, "w", 8_000, 1) as file:
            file.comment = "Big dogs"
            file.write(np.zeros(800))
    (tmp_path / "captions.csv").write_text("file,caption\na.flac,Two cats\n")
    (report,) = prepare(["sonniss"], tmp_path / "raw", tmp_path, captions=tmp_path / "captions.csv", workers=1)
    assert [clip.texts for clip in read_manifest(report.manifest).clips] == [("dog", "two cat"), ("dog", "big dog")]
    (report,) = prepare(
        ["sonniss"], tmp_path / "raw", tmp_path, workers=1
    )  # without them the text in a.flac, unread so far
    assert [clip.texts for clip in read_manifest(report.manifest).clips] == [("dog", "big dog")] * 2
    (tmp_path / "captions.csv").write_text("tag,caption\ndogs,Two cats\n")
    (report,) = prepare(["sonniss"], tmp_path / "raw", tmp_path, captions=tmp_path / "captions.csv", workers=1)
    assert [clip.texts[-1] for clip in read_manifest(report.manifest).clips] == ["two cat"] * 2


def test_licenses_of_captions_are_warned_of_where_only_those_of_recordings_were_asked_for(
    sounds: Path, tmp_path: Path
) -> None:
    raw_trees.clotho(tmp_path / "raw" / "clotho")
    raw_trees.esc50(tmp_path / "raw" / "esc50")

    def warnings(*licenses: str) -> list[str]:
        keys, out = ["clotho", "esc50"], tmp_path / "out"
        reports = prepare(keys, tmp_path / "raw", out, sounds, "mine", licenses=licenses, workers=1)
        return [warning for report in reports for warning in report.warnings if "--license" in warning]

    (warning,) = warnings("cc-by-nc")  # a clip of Clotho, all of ESC-50
    assert warning.startswith("clotho: ") and "captions: Tampere University, non-commercial" in warning
    assert not warnings() and not warnings("cc0")  # none of Clotho's


def test_one_dataset_without_a_clip_does_not_stop_the_others(sounds: Path, tmp_path: Path) -> None:
    (tmp_path / "raw" / "wesoundeffects").mkdir(parents=True)
    (tmp_path / "raw" / "wesoundeffects" / "bang.wav").write_bytes(b"")
    first, second = prepare(["wesoundeffects"], tmp_path / "raw", tmp_path / "out", sounds, "mine", workers=1)
    assert "1 unreadable" in first.failure and not second.failure
    assert [path.name for path in (tmp_path / "out").glob("*.parquet")] == ["mine.parquet"]


def test_a_dataset_without_any_usable_clip_fails_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "bark.wav").write_bytes(b"RIFF")
    (report,) = prepare([], tmp_path, tmp_path / "out", folder=tmp_path / "sounds", name="mine", workers=1)
    assert report.failure.startswith("mine: no clip is usable (1 unreadable); see ")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".cache", "mine.dropped.jsonl"]


@pytest.mark.parametrize(
    "datasets, folder, name, reason",
    [
        ([], None, None, "nothing to prepare: give --datasets"),
        (["esc51"], None, None, "unknown dataset 'esc51'"),
        (["esc50"], None, None, r"raw/esc50: no such folder; expected ESC-50's meta/esc50.csv"),
        ([], "sounds", "esc50", "key of a known dataset"),
        ([], "sounds", "a/b", "no / "),
        ([], "absent", None, "no such folder"),
    ],
)
def test_bad_calls_are_refused_before_any_work(
    sounds: Path, tmp_path: Path, datasets: list[str], folder: str | None, name: str | None, reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        prepare(datasets, tmp_path / "raw", tmp_path / "out", folder=tmp_path / folder if folder else None, name=name)
    assert not (tmp_path / "out").exists()


@pytest.mark.shared
def test_esc50_with_captions_for_its_tags(esc50: Path, tmp_path: Path) -> None:
    root = tmp_path / "raw" / "esc50"
    (root / "meta").mkdir(parents=True)
    (root / "audio").mkdir()
    rows = (esc50 / "meta" / "esc50.csv").read_text().splitlines()
    for row in rows[1:6]:
        (file,) = (esc50 / "audio").glob(f"{Path(row.split(',')[0]).stem}.*")
        (root / "audio" / file.name).symlink_to(file)
    (root / "meta" / "esc50.csv").write_text("\n".join(rows[:6]) + "\n5-1-A-0.wav,5,0,dog,True,1,A\n")
    (tmp_path / "captions.csv").write_text("tag,caption\ndog,a dog is barking\n")
    (report,) = prepare(["esc50"], tmp_path / "raw", tmp_path / "out", captions=tmp_path / "captions.csv", workers=1)
    clips = read_manifest(report.manifest).clips
    assert clips[0].texts == ("dog", "dog bark") and clips[0].duration == 5.0
    assert len(clips) == 5 and report.dropped == {"missing": 1}


def val_files(folder: Path, out: Path, **settings: object) -> list[str]:
    (report,) = prepare([], out, out, folder=folder, name="mine", workers=1, **settings)  # type: ignore[arg-type]
    return [clip.path for clip in read_manifest(report.manifest).clips if clip.split == "val"]


def test_a_share_of_the_files_is_split_off_the_same_way_every_time(tmp_path: Path) -> None:
    folder = tmp_path / "sounds"
    for number in range(19):
        write_audio(folder / f"dog {number:02d}/bark.wav", np.full(800, 0.1))
    for path in ("train/kept.wav", "test/kept.wav"):
        write_audio(folder / path, np.full(800, 0.1))
    chosen = val_files(folder, tmp_path / "1", val_share=0.2)
    assert len(chosen) == 4 and "train/kept.wav" not in chosen
    for path in list(folder.glob("dog*/bark.wav")):  # the same recording in another format is no other source
        write_audio(path.with_suffix(".flac"), np.full(800, 0.1))
    again = val_files(folder, tmp_path / "2", val_share=0.2)
    assert set(again) == {path.replace(".wav", suffix) for path in chosen for suffix in (".wav", ".flac")}
    captions = tmp_path / "captions.csv"
    captions.write_text(f"file,caption,split\n{chosen[0]},a dog,train\n")
    assert chosen[0] not in val_files(folder, tmp_path / "3", val_share=0.2, captions=captions)
    (report,) = prepare([], tmp_path, tmp_path / "3", folder=folder, name="mine", workers=1)
    assert report.warnings == [
        f"{report.manifest}: was made with --captions {captions} --val 0.2 before, and is made without now"
    ]
    with pytest.raises(InputError, match="--val goes with --folder"):
        prepare(["esc50"], tmp_path, tmp_path / "4", val_share=0.1)


def test_at_least_one_file_is_split_off_and_never_the_last(tmp_path: Path) -> None:
    write_audio(tmp_path / "sounds" / "dog.wav", np.full(800, 0.1))
    assert val_files(tmp_path / "sounds", tmp_path / "out", val_share=0.5) == []
    write_audio(tmp_path / "sounds" / "cat.wav", np.full(800, 0.1))
    assert len(val_files(tmp_path / "sounds", tmp_path / "out", val_share=0.01)) == 1


def test_the_manifest_of_another_folder_with_the_same_name_is_not_replaced(tmp_path: Path) -> None:
    for owner in ("a", "b"):
        write_audio(tmp_path / owner / "audio" / "bark.wav", np.full(800, 0.1))
    for copies in (False, True):
        prepare([], tmp_path, tmp_path / "out", folder=tmp_path / "a" / "audio", workers=1, copies=copies)
        with pytest.raises(InputError, match=r"audio\.parquet .*a/audio.*--name"):
            prepare([], tmp_path, tmp_path / "out", folder=tmp_path / "b" / "audio", workers=1)
        with pytest.raises(InputError, match="c/audio: no such folder"):
            prepare([], tmp_path, tmp_path / "out", folder=tmp_path / "c" / "audio", workers=1)
    (tmp_path / "a").rename(tmp_path / "moved")
    (report,) = prepare([], tmp_path, tmp_path / "out", folder=tmp_path / "b" / "audio", workers=1)
    (warning,) = report.warnings
    assert "replaces the manifest of" in warning and "which is gone" in warning
