"""Tokenizing with a pretended codec (rows, mixes, resuming) and with a small real one (batches, processes)."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.manifests import write_manifest
from helpers.processes import run_ranks
from helpers.zoo import chirp
from torch import Tensor, nn

from audiogen_cli.codec import tokenize as tokenizing
from audiogen_cli.codec.config import CodecConfig, SEANetConfig
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.codec.tokenize import RowIndex, tokenize
from audiogen_cli.data import shards
from audiogen_cli.data.audio import read_audio, write_audio
from audiogen_cli.data.augment import read_row
from audiogen_cli.data.manifest import Clip, load_manifests
from audiogen_cli.data.mixing import mix_rows
from audiogen_cli.data.shards import content_digest, load_shards, read_meta
from audiogen_cli.devices import join_processes
from audiogen_cli.errors import InputError

SAMPLE_RATE = 1_000


class LevelCodec(nn.Module):
    """A pretended codec: a frame's code is its mean level in 256 steps, plus the stream's number."""

    sample_rate, hop_length, frame_rate, n_q, codebook_size = SAMPLE_RATE, 100, 10.0, 2, 1024

    def __init__(self) -> None:
        super().__init__()
        self.fingerprint = "level"
        self.anchor = nn.Parameter(torch.zeros(()))
        self.batches: list[tuple[int, ...]] = []

    def encode(self, wav: Tensor) -> Tensor:
        self.batches.append(tuple(wav.shape))
        frames = nn.functional.pad(wav, (0, -wav.shape[-1] % self.hop_length)).unflatten(-1, (-1, self.hop_length))
        level = ((frames.mean(-1) + 1) * 128).round().long()
        return torch.cat([level, level + 1], dim=1)


def tone(level: float, seconds: float) -> np.ndarray:
    return np.full(round(seconds * SAMPLE_RATE), level, np.float32)


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    """Four clips at 1 kHz: two of 2 s, one of 3 s for training, one of 2 s to test."""
    made = []
    levels = {"a": (0.1, 2.0, "train"), "b": (0.2, 2.0, "train"), "c": (0.3, 3.0, "train"), "d": (0.4, 2.0, "test")}
    for name, (level, seconds, split) in levels.items():
        write_audio(tmp_path / f"{name}.wav", tone(level, seconds), SAMPLE_RATE)
        texts = (f"sound {name}", name)
        made.append(
            Clip(
                *(f"x/{name}", "x", split, f"{name}.wav"),  # type: ignore[arg-type]
                *(0.0, seconds, SAMPLE_RATE, 1, (), (name,), texts, "CC0", tmp_path),
            )
        )
    return made


def test_rows_hold_the_clips_codes_longest_first(clips: list[Clip], tmp_path: Path) -> None:
    codec: Any = LevelCodec()
    clips[1] = replace(clips[1], captions=("B.",))
    result = tokenize(clips, codec, tmp_path / "tokens", batch_size=2)
    rows = load_shards(tmp_path / "tokens").with_format("numpy")
    assert list(rows["id"][:]) == ["x/c", "x/a", "x/b", "x/d"]
    assert list(rows["n_frames"][:]) == [30, 20, 20, 20]
    codes = np.reshape(rows[0]["codes"], (2, 30))
    level = round(1.3 * 128)
    assert (codes[0] == level).all() and (codes[1] == level + 1).all()
    assert list(rows[1]["texts"]) == ["sound a", "a"] and len(rows[1]["sources"]) == 0
    assert [list(tags) for tags in rows["tags"][:]] == [["c"], ["a"], [], ["d"]]  # b has a caption
    assert result.meta == read_meta(tmp_path / "tokens")
    assert result.meta.counts == {"shards": 1, "rows": 4, "frames": 90, "train": 3, "val": 0, "test": 1}
    assert (result.meta.codec_fingerprint, result.meta.n_q, result.meta.frame_rate) == ("level", 2, 10.0)


def test_training_clips_get_mixed_copies(clips: list[Clip], tmp_path: Path) -> None:
    codec: Any = LevelCodec()
    tokenize(clips, codec, tmp_path / "tokens", mix_copies=2)
    rows = {row["id"]: row for row in load_shards(tmp_path / "tokens")}
    mixed = [f"x/{name}+mix{copy}" for name in "abc" for copy in (0, 1)]
    assert sorted(rows) == sorted([*("x/a", "x/b", "x/c", "x/d"), *mixed])
    for row_id in mixed:
        first, second = rows[row_id]["sources"]
        assert first == row_id.split("+")[0] and second != first and second != "x/d"
        assert rows[row_id]["texts"] == [f"sound {first[-1]} sound {second[-1]}", f"{first[-1]} {second[-1]}"]
        assert rows[row_id]["tags"] == [first[-1], second[-1]]
        assert rows[row_id]["n_frames"] == max(rows[first]["n_frames"], rows[second]["n_frames"])
        # the mix begins with the first sound alone (scaled) and changes where the second begins
        assert rows[row_id]["codes"] != rows[first]["codes"]
    with pytest.raises(InputError, match="at least two training clips"):
        tokenize(clips[:1], codec, tmp_path / "other", mix_copies=1)


def test_a_mix_does_not_depend_on_its_batch(clips: list[Clip]) -> None:
    rows = [(row, read_row(row, SAMPLE_RATE)) for row in RowIndex(clips, SAMPLE_RATE, mix_copies=2, seed=3)]
    assert sum(row.partner is not None for row, _ in rows) == 6
    together, lengths = mix_rows(rows, torch.device("cpu"))
    for row, wav, n_samples in zip(rows, together, lengths, strict=True):
        alone, _ = mix_rows([row], torch.device("cpu"))
        assert n_samples == row[0].n_samples and torch.equal(alone[0], wav[:, :n_samples])
        assert not wav[:, n_samples:].any()


def test_a_second_run_keeps_finished_shards(clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audiogen_cli.codec.tokenize.SHARD_ROWS", 3)
    codec: Any = LevelCodec()
    out = tmp_path / "tokens"
    write = shards.ShardWriter.write

    def die_at_the_second(self: Any, number: int, *args: Any) -> None:
        if number == 1:
            raise KeyboardInterrupt
        write(self, number, *args)

    monkeypatch.setattr(shards.ShardWriter, "write", die_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        tokenize(clips, codec, out, mix_copies=1)
    assert [path.name for path in sorted(out.iterdir())] == ["shard-00000.parquet"]

    monkeypatch.setattr(shards.ShardWriter, "write", write)
    first = (out / "shard-00000.parquet").stat().st_mtime_ns
    result = tokenize(clips, codec, out, mix_copies=1)
    assert result.kept == 1
    assert (out / "shard-00000.parquet").stat().st_mtime_ns == first
    undisturbed = tokenize(clips, codec, tmp_path / "undisturbed", mix_copies=1)
    assert undisturbed.meta == result.meta
    for path in sorted(out.glob("*.parquet")):
        assert path.read_bytes() == (tmp_path / "undisturbed" / path.name).read_bytes()
    codec.batches.clear()
    assert tokenize(clips, codec, out, mix_copies=1).kept == 3 and codec.batches == []


def test_shards_of_recordings_that_have_changed_are_made_again(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiogen_cli.codec.tokenize.SHARD_ROWS", 2)
    codec: Any = LevelCodec()
    out = tmp_path / "tokens"
    clips[3].audio_path.rename(tmp_path / "d")
    assert [row["id"] for row in tokenize(clips, codec, out).failed] == ["x/d"]
    before = content_digest(out)
    (tmp_path / "d").rename(clips[3].audio_path)  # mended
    write_audio(clips[1].audio_path, tone(0.7, 2.0), SAMPLE_RATE)  # of equal length
    os.utime(clips[1].audio_path, ns=(1, 1))
    result = tokenize(clips, codec, out)
    assert (result.kept, result.outdated, result.failed) == (1, 1, [])
    tokenize(clips, codec, tmp_path / "new")
    for path in (tmp_path / "new").iterdir():
        assert path.read_bytes() == (out / path.name).read_bytes()
    assert content_digest(out) == content_digest(tmp_path / "new") != before
    assert tokenize(clips, codec, out).kept == 2


def test_shards_whose_recordings_are_gone_are_kept(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of a disk that is not mounted: they may have taken days."""
    monkeypatch.setattr("audiogen_cli.codec.tokenize.SHARD_ROWS", 2)
    codec: Any = LevelCodec()
    out = tmp_path / "tokens"
    tokenize(clips, codec, out)
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    places = [clip.audio_path.rename(tmp_path / f"gone-{n}") for n, clip in enumerate(clips)]
    result = tokenize(clips, codec, out)
    assert (result.kept, result.outdated, result.failed) == (2, 0, [])
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    assert "2 finished shards are kept, but recordings of theirs are gone" in capsys.readouterr().err
    for place, clip in zip(places, clips, strict=True):
        place.rename(clip.audio_path)
    assert tokenize(clips, codec, out).kept == 2


def test_the_files_behind_rows_of_every_kind_count(clips: list[Clip]) -> None:
    def digests(**settings: int) -> list[str]:
        rows = RowIndex(clips, SAMPLE_RATE, **settings)
        return [rows.files_digest(range(number, number + 1)) for number in range(len(rows))]

    before = digests(copies=1, mix_copies=2)
    os.utime(clips[0].audio_path, ns=(1, 1))
    rows = RowIndex(clips, SAMPLE_RATE, copies=1, mix_copies=2)
    after = digests(copies=1, mix_copies=2)
    changed = {rows[number].id for number in range(len(rows)) if before[number] != after[number]}
    behind = {row.id for row in rows if "x/a" in (row.window.id, row.partner and row.partner.id)}
    assert changed == behind and len(behind) > 3


def test_shards_of_something_else_are_not_replaced(clips: list[Clip], tmp_path: Path) -> None:
    codec: Any = LevelCodec()
    tokenize(clips, codec, tmp_path / "tokens")
    before = (tmp_path / "tokens" / "shard-00000.parquet").read_bytes()
    for change in ({"clips": clips[:2]}, {"seed": 0, "mix_copies": 1}):
        with pytest.raises(InputError, match="another codec"):
            tokenize(**{"clips": clips, "codec": codec, "out": tmp_path / "tokens", **change})
    codec.fingerprint = "another"
    with pytest.raises(InputError, match="another codec"):
        tokenize(clips, codec, tmp_path / "tokens")
    assert (tmp_path / "tokens" / "shard-00000.parquet").read_bytes() == before


def test_what_cannot_be_read_is_left_out_reported_and_remembered(clips: list[Clip], tmp_path: Path) -> None:
    clips[1].audio_path.write_text("not audio any more")
    codec: Any = LevelCodec()
    for _ in range(2):  # the second run finds it in the shard
        result = tokenize(clips, codec, tmp_path / "tokens")
        assert [failure["id"] for failure in result.failed] == ["x/b"]
        assert "cannot be read as audio" in result.failed[0]["reason"]
    assert load_shards(tmp_path / "tokens")["id"][:] == ["x/c", "x/a", "x/d"]
    write_audio(clips[1].audio_path, np.zeros(2 * SAMPLE_RATE), SAMPLE_RATE)
    assert not tokenize(clips, codec, tmp_path / "tokens").failed  # looked at again, for it has changed


def test_what_can_be_read_now_is_left_out_no_more(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiogen_cli.codec.tokenize.SHARD_ROWS", 2)

    def read_without_ffmpeg(row: Any, sample_rate: int) -> Any:
        if row.id == "x/b":
            raise InputError("needs the ffmpeg command")
        return read_row(row, sample_rate)

    codec: Any = LevelCodec()
    with monkeypatch.context() as patch:
        patch.setattr("audiogen_cli.codec.tokenize.read_row", read_without_ffmpeg)
        for _ in range(2):
            assert [row["id"] for row in tokenize(clips, codec, tmp_path / "tokens").failed] == ["x/b"]
        assert tokenize(clips, codec, tmp_path / "tokens").kept == 2
    result = tokenize(clips, codec, tmp_path / "tokens")  # the file is the same as before
    assert (result.kept, result.outdated, result.failed) == (1, 1, [])
    assert load_shards(tmp_path / "tokens")["id"][:] == ["x/c", "x/a", "x/b", "x/d"]


def test_a_copy_that_was_cut_is_left_out_by_name(clips: list[Clip], tmp_path: Path) -> None:
    copy = clips[1].audio_path.with_suffix(".flac")
    write_audio(copy, chirp(1, 2.0))
    copy.write_bytes(copy.read_bytes()[:9_000])
    codec: Any = LevelCodec()
    result = tokenize([clips[0], replace(clips[1], path=copy.name)], codec, tmp_path / "tokens")
    assert [failure["id"] for failure in result.failed] == ["x/b"] and str(copy) in result.failed[0]["reason"]


def test_processes_share_the_shards_and_the_main_one_finishes(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiogen_cli.codec.tokenize.SHARD_ROWS", 1)
    codec: Any = LevelCodec()

    class Share:
        num_processes = 2

        def __init__(self, rank: int) -> None:
            self.process_index, self.is_main_process = rank, rank == 0

    second: Any = Share(1)
    main: Any = Share(0)
    assert tokenize(clips, codec, tmp_path / "tokens", state=second).kept == 0
    assert not (tmp_path / "tokens" / "meta.json").exists()
    assert tokenize(clips, codec, tmp_path / "tokens", state=main).meta.counts["rows"] == 4


@pytest.fixture
def seanet(tmp_path: Path) -> AudioCodec:
    """A small codec of the paper's kind, with codes that lie near each other."""
    torch.manual_seed(0)
    codec = AudioCodec(CodecConfig(network=SEANetConfig(channels=4), latent_dim=8, n_q=2, codebook_size=1024))
    for stream in codec.quantizer:
        stream.codebook.mul_(0.01)
    codec.save(tmp_path / "codec", "none")
    return AudioCodec.load(tmp_path / "codec")


def noise_clips(folder: Path, lengths: list[int]) -> list[Clip]:
    clips = []
    for number, n_samples in enumerate(lengths):
        write_audio(folder / f"{number}.wav", np.random.default_rng(number).uniform(-0.5, 0.5, n_samples))
        clips.append(
            Clip(
                *(f"x/{number}", "x", "train", f"{number}.wav"),  # type: ignore[arg-type]
                *(0.0, n_samples / 16_000, 16_000, 1, (), (), ("noise",), "", folder),
            )
        )
    return clips


def test_codes_are_those_of_each_row_alone_whatever_the_batch_size(seanet: AudioCodec, tmp_path: Path) -> None:
    clips = noise_clips(tmp_path, [8_001, 8_001, 5_000, 8_001, 777])
    threads = torch.get_num_threads()
    metas = [tokenize(clips, seanet, tmp_path / str(size), 1, size).meta for size in (1, 3, 16)]
    assert metas[0] == metas[1] == metas[2] and metas[0].codec_fingerprint == seanet.fingerprint
    first, *others = ((tmp_path / str(size) / "shard-00000.parquet").read_bytes() for size in (1, 3, 16))
    assert others == [first, first]
    row = load_shards(tmp_path / "1").with_format("numpy")[0]
    expected = seanet.encode(torch.from_numpy(read_audio(clips[0].audio_path))[None, None])[0].numpy()
    assert expected.shape == (2, math.ceil(8_001 / seanet.hop_length)) and row["id"] == "x/0"
    # on one thread or on all: the same but for near ties
    assert (np.reshape(row["codes"], expected.shape) == expected).mean() > 0.99
    assert torch.get_num_threads() == threads


def test_two_processes_write_what_one_writes(tiny_codec: Path, tmp_path: Path) -> None:
    clips = noise_clips(tmp_path / "raw", [800, 801])
    write_manifest(tmp_path / "m" / "x.parquet", clips, {"dataset": "x", "root": tmp_path / "raw", "options": {}})
    audiogen = [sys.executable, "-m", "audiogen_cli", "tokenize", "--mix", "256", "--device", "cpu"]  # two shards
    audiogen += ["--manifests", str(tmp_path / "m"), "--codec", str(tiny_codec), "--out", str(tmp_path / "2")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen([*audiogen, "--processes", "2"], env=environment, stdout=subprocess.PIPE)
    tokenize(load_manifests(tmp_path / "m"), AudioCodec.load(tiny_codec), tmp_path / "1", 256)
    assert started.communicate()[0].decode() == f"{tmp_path / '2'}\n" and started.returncode == 0
    names = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert names == ["meta.json", "shard-00000.parquet", "shard-00001.parquet"]
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def tokenize_here(clips: list[Clip], codec: Path, out: Path) -> None:
    """Tokenize in shards of two rows; print how many all processes have kept and made again."""
    state = join_processes()
    tokenizing.SHARD_ROWS = 2
    result = tokenize(clips, AudioCodec.load(codec), out, state=state)
    print(result.kept, result.outdated)


@pytest.mark.parametrize("n", [2, 4])
def test_resumed_with_all_the_rest_on_one_process_it_ends_as_undisturbed(
    n: int, tiny_codec: Path, tmp_path: Path
) -> None:
    clips, out = noise_clips(tmp_path, [800 + 100 * number for number in range(16)]), tmp_path / "tokens"
    run_ranks(tokenize_here, clips, tiny_codec, out, n=1)
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    for number in range(1, 8, n):
        (out / f"shard-{number:05d}.parquet").unlink()
    os.utime(clips[0].audio_path, ns=(1, 1))  # of the last shard
    said = run_ranks(tokenize_here, clips, tiny_codec, out, n=n)
    kept = 8 - 8 // n
    assert said == [f"{kept - (n > 2)} {n > 2:d}\n"] * n
    for name in whole.keys() - {"shard-00007.parquet"}:
        assert (out / name).read_bytes() == whole[name]
