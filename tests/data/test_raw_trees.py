"""All eleven datasets as their publishers lay them out, with their traps, through one run of prep."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest
from helpers.manifests import read_manifest
from helpers.raw_trees import BUILDERS, EXPECTED, build_raw, sound, table

from audiogen_cli.data.datasets.registry import SOURCES
from audiogen_cli.data.manifest import Clip
from audiogen_cli.data.preparation.prep import prepare
from audiogen_cli.errors import InputError


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_raw(tmp_path_factory.mktemp("data") / "raw")


@pytest.fixture(scope="module")
def out(raw: Path) -> Path:
    prepare(list(SOURCES), raw, raw.parent / "manifests", workers=1)
    return raw.parent / "manifests"


def clips_of(out: Path, key: str) -> dict[str, Clip]:
    """The clips of a manifest by their id without the dataset."""
    return {clip.id.removeprefix(f"{key}/"): clip for clip in read_manifest(out / f"{key}.parquet").clips}


def test_every_known_dataset_has_a_tree() -> None:
    assert set(BUILDERS) == set(EXPECTED) == set(SOURCES)


@pytest.mark.parametrize("key", SOURCES)
def test_every_clip_is_in_the_manifest_or_dropped_with_a_reason(out: Path, key: str) -> None:
    splits, reasons = EXPECTED[key]
    found, lost = defaultdict(list), defaultdict(list)
    for name, clip in clips_of(out, key).items():
        found[clip.split].append(name)
    for line in (out / f"{key}.dropped.jsonl").read_text().splitlines():
        item = json.loads(line)
        assert item["detail"]
        lost[item["reason"]].append(item["id"].removeprefix(f"{key}/"))
    assert {split: sorted(names) for split, names in found.items()} == {
        split: sorted(names) for split, names in splits.items()
    }
    assert dict(lost) == reasons


def test_clips_lie_where_the_manifest_says(out: Path) -> None:
    clips = [clip for key in SOURCES for clip in read_manifest(out / f"{key}.parquet").clips]
    assert all(clip.audio_path.is_file() and clip.duration == pytest.approx(0.1, abs=0.1) for clip in clips)
    assert all(clip.license and clip.texts for clip in clips)
    assert len({clip.id for clip in clips}) == len(clips)


@pytest.mark.parametrize(
    "key, name, texts",
    [
        ("audioset", "--aaILOrkII_200", ("gunshot gunfire",)),
        ("audioset", "--4gqARaEJE_0", ("domestic animal pet dog",)),
        ("bbc", "07036067", ("french café atmosphere busy popular cafe",)),
        ("bbc", "07076044", ("mm projector run",)),
        ("audiocaps", "-5weqk40jaI_17", ("strong wind microphone simultaneously heavy rain",)),
        (
            "audiocaps",
            "7fmOlUlwoNg_20",
            ("constant rattle noise", "drill", "loud buzz", "speech drill", "engine"),
        ),
        ("vggsound", "--Lj4Y_96f0_000120", ("bee wasp etc buzz",)),
        ("fsd50k", "64760", ("electric guitar guitar music", "electric guitar")),
        ("fsd50k", "231935", ("bird vocalization bird call bird song bird",)),
        ("fsd50k", "345111", ("motor vehicle road vehicle",)),
        ("freetousesounds", EXPECTED["freetousesounds"][0]["train"][0], None),
        ("freetousesounds", EXPECTED["freetousesounds"][0]["train"][1], ("musical instrument kalimba", "kalimba")),
        ("wesoundeffects", "We Sound Effects Bundle 2020/Doors/Wood_Slam_01.wav", ("door wood slam",)),
        ("esc50", "4-100038-A-14", ("chirp bird",)),
    ],
)
def test_texts(out: Path, key: str, name: str, texts: tuple[str, ...] | None) -> None:
    ocean = ("ambience seaside ocean", "japan ambience seaside tajima island gravel stone")
    assert clips_of(out, key)[name].texts == (texts or ocean)


def test_texts_of_libraries_come_from_folders_and_names(out: Path) -> None:
    assert [clip.texts for clip in clips_of(out, "sonniss").values()] == [
        ("european ambiance bird outside wide",),
        ("ocean and stream coast coast mono",),
        ("prepare piano piano string low calm pedal impact",),
        ("vehicle door door opel zafira open close driver door",),
    ]
    assert [clip.texts for clip in clips_of(out, "paramount").values()] == [
        ("absorb",),
        ("deep space boomer",),
        ("human laughwoman",),
        ("vehicle urban traffic ambience",),
        ("weather ice crack",),
        ("weather thunder crack roll",),
    ]


def test_licences_are_those_of_the_clip_where_they_are_known(out: Path) -> None:
    clotho, fsd50k = clips_of(out, "clotho"), clips_of(out, "fsd50k")
    assert clotho["development/Ambience Birds.wav"].license == "http://creativecommons.org/licenses/by-nc/3.0/"
    assert clotho["development/KOOKABURRA..WAV.wav"].license == SOURCES["clotho"].license
    assert fsd50k["64760"].license == "http://creativecommons.org/licenses/sampling+/1.0/"
    assert "no AI training" in next(iter(clips_of(out, "sonniss").values())).license


def test_the_order_of_caption_rows_does_not_matter(raw: Path, out: Path, tmp_path: Path) -> None:
    build_raw(tmp_path / "raw", "audiocaps")
    path = tmp_path / "raw/audiocaps/audiocaps-master/dataset/test.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *sorted(rows, reverse=True)]) + "\n")
    prepare(["audiocaps"], tmp_path / "raw", tmp_path / "out", workers=1)
    clip, shuffled = (clips_of(folder, "audiocaps")["7fmOlUlwoNg_20"] for folder in (out, tmp_path / "out"))
    assert sorted(clip.captions) == sorted(shuffled.captions) and len(clip.captions) == 5


def test_evaluation_clips_are_held_out_even_if_only_their_lists_are_there(tmp_path: Path) -> None:
    build_raw(tmp_path / "raw", "audioset", "vggsound", "audiocaps")
    (audioset,) = prepare(["audioset"], tmp_path / "raw", tmp_path / "out", workers=1)
    assert audioset.dropped["held out"] == 1 and not audioset.warnings
    for path in (tmp_path / "raw/audiocaps").rglob("test.csv"):
        path.unlink()
    (audioset,) = prepare(["audioset"], tmp_path / "raw", tmp_path / "out", workers=1)
    assert "NOT held out: audiocaps's evaluation clips" in audioset.warnings[0]  # half of them is not enough
    (tmp_path / "raw/audiocaps/audiocaps-master/dataset/val.csv").unlink()
    (audioset,) = prepare(["audioset"], tmp_path / "raw", tmp_path / "out", workers=1)
    assert "held out" not in audioset.dropped
    (warning,) = audioset.warnings
    assert "NOT held out: audiocaps's evaluation clips" in warning
    assert read_manifest(audioset.manifest).metadata["options"]["not_held_out"] == ["audiocaps"]


def test_lists_that_do_not_name_recordings_are_asked_for(tmp_path: Path) -> None:
    build_raw(tmp_path / "raw", "clotho", "fsd50k")
    for path in (tmp_path / "raw/clotho").rglob("clotho_metadata_*.csv"):
        path.unlink()
    (fsd50k,) = prepare(["fsd50k"], tmp_path / "raw", tmp_path / "out", workers=1)
    assert "NOT held out: clotho's" in fsd50k.warnings[0] and "clotho_metadata_*.csv" in fsd50k.warnings[0]


def test_freesounds_recordings_are_in_no_two_datasets_splits(tmp_path: Path) -> None:
    build_raw(tmp_path / "raw", "clotho", "fsd50k", "esc50")
    header = "file_name,keywords,sound_id,license\n"
    table(tmp_path / "raw/clotho/clotho_metadata_evaluation.csv", f"{header}FREEZER_DOOR_OPEN_CLOSE.wav,x,64760,CC0\n")
    table(tmp_path / "raw/clotho/clotho_metadata_development.csv", f"{header}KOOKABURRA..WAV.wav,x,9032,CC0\n")
    clotho, fsd50k, esc50 = prepare(["clotho", "fsd50k", "esc50"], tmp_path / "raw", tmp_path / "out", workers=1)
    assert (clotho.dropped["held out"], fsd50k.dropped["held out"]) == (1, 1) and "held out" not in esc50.dropped
    assert "fsd50k/64760" not in {clip.id for clip in read_manifest(fsd50k.manifest).clips}
    assert not fsd50k.warnings  # the paper scores on AudioCaps


def test_renamed_lists_of_audioset_keep_their_split(tmp_path: Path) -> None:
    build_raw(tmp_path / "raw", "audioset")
    path = tmp_path / "raw/audioset/metadata/eval_segments.csv"
    path.rename(path.with_name("audioset_eval_segments.csv"))
    (report,) = prepare(["audioset"], tmp_path / "raw", tmp_path / "out", workers=1)
    splits, _ = EXPECTED["audioset"]
    assert report.clips["test"] == len(splits["test"])


def test_laions_audiocaps_has_a_text_beside_each_sound(tmp_path: Path) -> None:
    build_raw(tmp_path / "raw", "audioset")
    copies = {
        "train/-5weqk40jaI": "Strong wind\nnot a caption",
        "AudioCaps/test/Y7fmOlUlwoNg": "\ufeffA drill",
        "valid/vfY_TJq7n_U": "Ducks",
        "train/UDGBjjwyaqE": "Multiple clanging",
        "raw/3eJ9RynJzP8": "The wind is blowing",
    }
    for name, caption in copies.items():
        table(tmp_path / f"raw/audiocaps/{name}.txt", caption)
        sound(tmp_path / f"raw/audiocaps/{name}.wav")
    (tmp_path / "raw/audiocaps/train/UDGBjjwyaqE.wav").unlink()
    audiocaps, audioset = prepare(["audiocaps", "audioset"], tmp_path / "raw", tmp_path / "out", workers=1)
    clips = clips_of(tmp_path / "out", "audiocaps")
    assert {name: (clip.split, clip.captions) for name, clip in clips.items()} == {
        "-5weqk40jaI": ("train", ("Strong wind",)),
        "7fmOlUlwoNg": ("test", ("A drill",)),
        "vfY_TJq7n_U": ("val", ("Ducks",)),
    }
    assert audiocaps.dropped == {"missing": 1, "no split": 1}
    assert audioset.dropped["held out"] == 1 and not audioset.warnings


def test_a_folder_of_archives_is_told_from_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "clotho").mkdir()
    (tmp_path / "clotho/clotho_audio_development.7z").write_bytes(b"7z")
    with pytest.raises(InputError, match=r"clotho_audio_development.7z is there: unpack it"):
        prepare(["clotho"], tmp_path, tmp_path / "out")


def test_missing_clips_beside_an_archive_are_a_hint(raw: Path, tmp_path: Path) -> None:
    (report,) = prepare(["clotho"], raw, tmp_path, workers=1)
    assert report.warnings == ["clotho: 1 clips are missing; is clotho_audio_evaluation.7z unpacked?"]


@pytest.mark.parametrize("key", SOURCES)
def test_an_absent_or_empty_folder_says_what_is_expected(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError, match=rf"{key}: no such folder; expected .+") as absent:
        prepare([key], tmp_path, tmp_path / "out")
    (tmp_path / key).mkdir()
    with pytest.raises(InputError, match=rf"{key}: expected .+") as empty:
        prepare([key], tmp_path, tmp_path / "out")
    assert "\n" not in f"{absent.value}{empty.value}" and not (tmp_path / "out").exists()


def test_names_that_are_not_utf_8_are_dropped_and_said(tmp_path: Path) -> None:
    build_raw(tmp_path, "wesoundeffects")
    sound(tmp_path / "x.wav")
    (tmp_path / "x.wav").rename(Path(str(tmp_path / "wesoundeffects/caf") + "\udce9.wav"))
    (report,) = prepare(["wesoundeffects"], tmp_path, tmp_path / "out", workers=1)
    assert report.dropped == {"bad name": 1}
