from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.manifests import read_manifest, write_manifest

from audiogen_cli.data import manifest
from audiogen_cli.data.manifest import Clip, Clips, Dropped, dropped_file, load_manifests, new_dropped, read_dropped
from audiogen_cli.errors import AudiogenError, InputError

COLUMNS = [
    *("id", "dataset", "split", "path", "start", "duration"),
    *("sample_rate", "channels", "captions", "tags", "texts", "license"),
]


def clip(name: str = "a", dataset: str = "dogs", **values: object) -> Clip:
    made = Clip(
        id=f"{dataset}/{name}",
        dataset=dataset,
        split="train",
        path=f"audio/{name}.wav",
        start=0.5,
        duration=2.25,
        sample_rate=44_100,
        channels=2,
        captions=("A dog barks",),
        tags=(),
        texts=("dog bark",),
        license="CC0",
    )
    return replace(made, **values)  # type: ignore[arg-type]


def metadata(root: Path) -> dict[str, object]:
    return {"dataset": "dogs", "root": root, "options": {"keep_speech": False}}


def test_a_manifest_round_trips_with_exactly_the_promised_columns(tmp_path: Path) -> None:
    clips = [clip("a"), clip("b", captions=(), tags=("dog", "bark"), split="test")]
    write_manifest(tmp_path / "m" / "dogs.parquet", clips, metadata(tmp_path))
    found = read_manifest(tmp_path / "m" / "dogs.parquet")
    assert found.clips == clips
    assert found.clips[0].audio_path == tmp_path / "audio" / "a.wav"
    assert found.metadata == {
        "format_version": 1,
        "dataset": "dogs",
        "root": str(tmp_path),
        "options": {"keep_speech": False},
    }
    schema = pq.read_schema(tmp_path / "m" / "dogs.parquet")
    assert schema.names == COLUMNS
    assert schema.field("texts").type == pa.list_(pa.string())
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["dogs.parquet"]


@pytest.mark.parametrize(
    "clips, reason",
    [
        ([clip(), clip()], "two clips are called dogs/a"),
        ([clip(texts=())], "has no text"),
        ([clip(texts=("",))], "has no text"),
        ([clip(split="dev")], "is in split 'dev'"),
    ],
)
def test_clips_that_break_the_format_are_not_written(tmp_path: Path, clips: list[Clip], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        write_manifest(tmp_path / "dogs.parquet", clips, metadata(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_disk_that_refuses_leaves_the_old_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dogs.parquet"
    write_manifest(path, [clip()], metadata(tmp_path))

    def refuse(file: pq.ParquetWriter, table: pa.Table) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", refuse)
    with pytest.raises(AudiogenError, match="No space left"):
        write_manifest(path, [clip("b")], metadata(tmp_path))
    assert read_manifest(path).clips == [clip()]
    assert [found.name for found in tmp_path.iterdir()] == ["dogs.parquet"]


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with pytest.raises(InputError, match="no such manifest"):
        read_manifest(path)
    path.write_text("id,dataset")
    with pytest.raises(InputError, match="not a readable Parquet file"):
        read_manifest(path)
    pq.write_table(pa.table({"id": ["a"]}), path)
    with pytest.raises(InputError, match="schema metadata lacks format_version"):
        read_manifest(path)
    texts = {"format_version": "1", "dataset": "x", "root": "/", "options": "{}"}
    pq.write_table(pa.table({"id": ["a"]}).replace_schema_metadata(texts), path)
    with pytest.raises(InputError, match="its columns differ in captions"):
        read_manifest(path)
    pq.write_table(pa.table({"id": ["a"]}).replace_schema_metadata({**texts, "format_version": "2"}), path)
    with pytest.raises(InputError, match="newer audiogen"):
        read_manifest(path)


def test_manifests_are_chosen_by_dataset_and_split(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    for dataset in ("cats", "dogs"):
        clips = [clip("a", dataset), clip("b", dataset, split="val")]
        write_manifest(folder / f"{dataset}.parquet", clips, {**metadata(tmp_path), "dataset": dataset})
    assert [item.id for item in load_manifests(folder)] == ["cats/a", "cats/b", "dogs/a", "dogs/b"]
    assert [item.id for item in load_manifests(folder, ["dogs"], ["val"])] == ["dogs/b"]
    chosen = load_manifests(folder).select("val")
    assert isinstance(chosen, Clips)  # still on disk
    assert list(chosen) == [chosen[0], chosen[1]] == list(load_manifests(folder, splits=["val"]))
    assert [item.id for item in load_manifests(folder, ["dogs"]).select("val")] == ["dogs/b"]
    assert not load_manifests(folder).select("test")
    assert [item.id for item in load_manifests(folder / "cats.parquet", splits=["train"])] == ["cats/a"]
    with pytest.raises(InputError, match=r"'birds'.*cats, dogs"):
        load_manifests(folder, ["birds"])
    with pytest.raises(InputError, match="no clips in split test"):
        load_manifests(folder, splits=["test"])
    with pytest.raises(InputError, match="unknown split 'dev'"):
        load_manifests(folder, splits=["dev"])
    with pytest.raises(InputError, match="no manifests"):
        load_manifests(tmp_path)


def test_loaded_clips_are_a_sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "GROUP_ROWS", 3)
    made = [clip(str(number), split=("train", "val")[number % 2]) for number in range(8)]
    write_manifest(tmp_path / "dogs.parquet", made, metadata(tmp_path))
    clips = load_manifests(tmp_path, splits=["train"])
    assert list(clips) == [clips[number] for number in range(4)] == made[::2]
    assert len(clips) == 4 and clips[-1] == made[6] and clips[1:3] == made[2:6:2]
    assert clips[3].audio_path == tmp_path / "audio" / "6.wav"
    assert list(pickle.loads(pickle.dumps(clips))) == made[::2]  # for a loader's processes
    with pytest.raises(IndexError):
        clips[4]


def test_one_id_in_two_manifests_is_refused(tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        write_manifest(tmp_path / f"{name}.parquet", [clip("a")], metadata(tmp_path))
    with pytest.raises(InputError, match="two clips have one id"):
        load_manifests(tmp_path)


def test_clips_are_written_group_by_group_and_nothing_if_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "GROUP_ROWS", 2)
    path = tmp_path / "dogs.parquet"
    clips = [clip(str(number)) for number in range(5)]
    write_manifest(path, clips, metadata(tmp_path))
    assert pq.ParquetFile(path).num_row_groups == 3 and read_manifest(path).clips == clips
    write_manifest(path, [], metadata(tmp_path))
    assert read_manifest(path).clips == clips


def test_a_root_that_is_gone_is_said_at_once(tmp_path: Path) -> None:
    write_manifest(tmp_path / "dogs.parquet", [clip()], metadata(tmp_path / "gone"))
    with pytest.raises(InputError, match=r"folder .*gone is gone"):
        load_manifests(tmp_path)


def test_dropped_items_are_one_object_a_line(tmp_path: Path) -> None:
    dropped = [Dropped("dogs/a", "train", "audio/a.wav", "missing", "not there"), Dropped("dogs/b", "val", "b", "x")]
    path = dropped_file(tmp_path / "dogs.parquet")
    with new_dropped(path) as drop:
        for item in dropped:
            drop(item)
    assert path.name == "dogs.dropped.jsonl"
    assert [json.loads(line)["reason"] for line in path.read_text().splitlines()] == ["missing", "x"]
    assert list(read_dropped(path)) == dropped


@pytest.mark.parametrize(
    "column, values, what",
    [
        ("duration", pa.array([1.0, float("nan")]), "row 2: column 'duration' holds a number out of range"),
        ("duration", pa.array([1.0, None]), "row 2: column 'duration' is empty"),
        ("duration", pa.array([0.0, 1.0]), "row 1: column 'duration' holds a number out of range"),
        ("start", pa.array([-1.0, float("inf")]), "row 1: column 'start' holds a number out of range"),
        ("start", pa.array(["0", "0"]), "column 'start' holds string, not double"),
        ("split", pa.array(["dev", "train"]), "row 1: column 'split' is none of train, val, test"),
        ("captions", pa.array(["a", "b"]), "column 'captions' holds string, not list"),
        ("texts", pa.array([["a"], []], pa.list_(pa.string())), "row 2: column 'texts' is empty"),
        ("texts", pa.array([["a"], ["b", None]], pa.list_(pa.string())), "row 2: column 'texts' holds an empty text"),
        ("texts", pa.array([[1], [2]]), "column 'texts' holds list<element: int64>, not list"),
    ],
)
def test_values_that_no_manifest_holds_are_refused_with_row_and_column(
    tmp_path: Path, column: str, values: pa.Array, what: str
) -> None:
    path = tmp_path / "dogs.parquet"
    write_manifest(path, [clip("a"), clip("b")], metadata(tmp_path))
    table = pq.read_table(path)
    names = table.schema.names
    pq.write_table(table.set_column(names.index(column), column, values), path)
    for read in (read_manifest, load_manifests):
        with pytest.raises(InputError) as caught:
            read(path)
        assert what in str(caught.value)


def test_a_new_manifest_is_seen_and_a_read_only_folder_has_its_cache_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIOGEN_CACHE", str(tmp_path / "user"))
    path = tmp_path / "m" / "dogs.parquet"
    write_manifest(path, [clip("a")], metadata(tmp_path))
    assert [item.id for item in load_manifests(path)] == ["dogs/a"] and (tmp_path / "m" / ".cache").is_dir()
    monkeypatch.setattr("os.access", lambda *_: False)
    write_manifest(path, [clip("b")], metadata(tmp_path))
    assert [item.id for item in load_manifests(path)] == ["dogs/b"] and (tmp_path / "user" / "mapped").is_dir()
