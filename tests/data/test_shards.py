from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiogen_cli.data.shards import ShardMeta, ShardWriter, TokenRow, load_shards, read_meta
from audiogen_cli.errors import AudiogenError, InputError

META = ShardMeta("f" * 64, n_q=2, codebook_size=1024, frame_rate=50.0, sample_rate=16_000, counts={})


def row(name: str = "a", n_frames: int = 3, split: str = "train", dataset: str = "dogs", first: int = 0) -> TokenRow:
    codes = (first + np.arange(2 * n_frames)).reshape(2, n_frames)
    return TokenRow(f"{dataset}/{name}", dataset, split, ("dog bark", "bark"), codes)


def write(folder: Path, shards: list[list[TokenRow]], meta: ShardMeta = META) -> ShardMeta:
    writer = ShardWriter(folder, meta, [f"key {number}" for number in range(len(shards))])
    for number, rows in enumerate(shards):
        writer.write(number, rows)
    return writer.finish()


def test_shards_have_the_promised_columns_and_meta(tmp_path: Path) -> None:
    write(tmp_path, [[row("a"), row("b", 5, "val")], [row("c")]])
    table = pq.read_table(tmp_path / "shard-00000.parquet")
    assert table.schema.names == ["id", "dataset", "split", "texts", "codes", "n_frames", "sources", "captions", "tags"]
    assert table.schema.field("codes").type == pa.list_(pa.uint16())
    assert table["codes"][0].as_py() == [0, 1, 2, 3, 4, 5]  # C order: stream after stream
    meta = json.loads((tmp_path / "meta.json").read_text())
    assert meta == {
        "format_version": 1,
        "codec_fingerprint": "f" * 64,
        "n_q": 2,
        "codebook_size": 1024,
        "frame_rate": 50.0,
        "sample_rate": 16_000,
        "counts": {"shards": 2, "rows": 3, "frames": 11, "train": 2, "val": 1, "test": 0},
    }
    assert read_meta(tmp_path).counts == meta["counts"]


@settings(max_examples=8, deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5), seed=st.integers(0, 2**32))
def test_codes_round_trip(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], seed: int) -> None:
    folder = tmp_path_factory.mktemp("shards")
    generator = np.random.default_rng(seed)
    codes = [generator.integers(0, 65536, (2, size)) for size in sizes]
    rows = [TokenRow(str(i), "d", "train", ("t",), code, ("x", "y")) for i, code in enumerate(codes)]
    write(folder, [rows[:2], rows[2:]], ShardMeta("f", 2, 65536, 50.0, 16_000, {}))
    loaded = load_shards(folder)
    assert loaded["n_frames"][:] == sizes and loaded["sources"][:] == [["x", "y"]] * len(sizes)
    for code, found in zip(codes, loaded.with_format("numpy"), strict=True):
        np.testing.assert_array_equal(np.reshape(found["codes"], (2, -1)), code)


def test_rows_are_chosen_by_split_and_keep_their_order(tmp_path: Path) -> None:
    write(tmp_path, [[row("a"), row("b", split="val")], [row("c", dataset="cats"), row("d")]])
    assert load_shards(tmp_path, ["train"])["id"][:] == ["dogs/a", "cats/c", "dogs/d"]
    with pytest.raises(InputError, match="no rows of test; see audiogen info"):
        load_shards(tmp_path, ["test"])


def test_a_new_shard_is_seen_and_the_cache_stays_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tokens"
    write(folder, [[row("a", first=0)]])
    assert load_shards(folder)["codes"][0][0] == 0
    for path in folder.glob("*.parquet"):
        path.unlink()
    write(folder, [[row("a", first=7)]])
    assert load_shards(folder)["codes"][0][0] == 7
    assert sorted(path.name for path in folder.iterdir()) == [".cache", "meta.json", "shard-00000.parquet"]


def test_only_shards_made_the_same_way_are_kept(tmp_path: Path) -> None:
    write(tmp_path, [[row("a")], [row("b")]])
    assert ShardWriter(tmp_path, META, ["key 0", "key 1", "key 2"]).is_finished(1)
    with pytest.raises(InputError, match=r"other clips.*shard-00001"):
        ShardWriter(tmp_path, META, ["key 0", "another"])
    with pytest.raises(InputError, match="shard-00001"):
        ShardWriter(tmp_path, META, ["key 0"])


def test_unfinished_or_absent_shards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no token shards here"):
        read_meta(tmp_path)
    writer = ShardWriter(tmp_path, META, ["key 0", "key 1"])
    writer.write(0, [row("a")])
    with pytest.raises(AudiogenError, match=r"shard-00001\.parquet is missing"):
        writer.finish()
    with pytest.raises(InputError, match="unfinished"):
        load_shards(tmp_path)
    writer.write(1, [row("b")])
    writer.finish()
    assert len(load_shards(tmp_path)) == 2
    (tmp_path / "shard-00001.parquet").unlink()
    with pytest.raises(InputError, match="1 shards of 2"):
        load_shards(tmp_path)
    (tmp_path / "meta.json").write_text('{"format_version": 99}')
    with pytest.raises(InputError, match="newer audiogen"):
        read_meta(tmp_path)
    (tmp_path / "meta.json").write_text("{}")
    with pytest.raises(InputError, match="not the description of token shards"):
        read_meta(tmp_path)


@pytest.mark.parametrize("codes", [np.zeros((3, 4), int), np.full((2, 4), 1024), np.full((2, 4), -1), np.zeros(4, int)])
def test_codes_that_do_not_fit_the_codec_are_refused(tmp_path: Path, codes: np.ndarray) -> None:
    writer = ShardWriter(tmp_path, META, ["key"])
    with pytest.raises(ValueError, match="codes must"):
        writer.write(0, [TokenRow("a", "d", "train", ("t",), codes)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("codes", [0, 1, 2, 3, 4, 1024], "holds a code beyond the 1024"),
        ("codes", [0, 1, 2], "does not hold n_frames codes of 2 streams"),
        ("codes", [], "does not hold n_frames codes"),
        ("n_frames", 0, "is less than 1"),
        ("n_frames", -1, "is less than 1"),
        ("n_frames", 2**31 - 1, ""),
        ("texts", [], "is empty"),
        ("texts", ["dog", ""], "holds an empty text"),
        ("split", "all", "is none of train, val, test"),
    ],
)
def test_values_that_no_shard_holds_are_refused_with_row_and_column(tmp_path, column, value, fault) -> None:
    write(tmp_path, [[row("a")], [row("b"), row("c")]])
    shard = tmp_path / "shard-00001.parquet"
    table = pq.read_table(shard, partitioning=None)
    values = [*table[column].to_pylist()[:1], value]
    changed = pa.array(values, table.schema.field(column).type)
    pq.write_table(table.set_column(table.schema.names.index(column), table.schema.field(column), changed), shard)
    with pytest.raises(InputError, match=rf"shard-00001\.parquet: row 2: column '({column}|codes)' {fault}"):
        load_shards(tmp_path)


@pytest.mark.parametrize("damage", [lambda data: data[:200], lambda data: b"", lambda data: bytes(len(data))])
def test_damaged_mapped_files_are_made_again(tmp_path, capsys, damage) -> None:
    write(tmp_path, [[row("a"), row("b")]])
    load_shards(tmp_path)
    (mapped,) = (tmp_path / ".cache").rglob("*.arrow")
    data = mapped.read_bytes()
    mapped.unlink()  # it is mapped still
    mapped.write_bytes(damage(data))
    assert load_shards(tmp_path)["codes"][1] == [0, 1, 2, 3, 4, 5]
    assert "was damaged and has been made again" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change", [{"n_q": 3}, {"codebook_size": 4}, {"counts": {}}, {"n_q": "two"}, {"frame_rate": float("nan")}, {"x": 1}]
)
def test_a_description_of_other_shards_is_refused(tmp_path, change) -> None:
    write(tmp_path, [[row("a")]])
    document = json.loads((tmp_path / "meta.json").read_text())
    (tmp_path / "meta.json").write_text(json.dumps(document | change))
    with pytest.raises(InputError, match=r"column 'codes'|meta\.json"):
        load_shards(tmp_path)


def test_shards_without_any_row_are_refused(tmp_path: Path) -> None:
    assert write(tmp_path, [[], []]).counts["rows"] == 0
    with pytest.raises(InputError, match="hold no rows"):
        load_shards(tmp_path)
