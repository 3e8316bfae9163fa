from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiogen_cli.data.audio import probe, read_audio, write_audio
from audiogen_cli.data.preparation import file_index as module
from audiogen_cli.data.preparation.file_index import FileIndex, IndexedFile, convert, index_file
from audiogen_cli.errors import AudiogenError, AudiogenWarning, InputError


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    """1.5 s of stereo at 44.1 kHz."""
    wav = 0.4 * np.sin(np.arange(66_150)[:, None] * np.array([0.05, 0.08]))
    soundfile.write(tmp_path / "a.wav", wav, 44_100)
    return tmp_path / "a.wav"


def test_known_facts_are_taken_until_the_file_changes(tone: Path) -> None:
    known = index_file(tone, None, embedded=False, copy=None)
    assert (known.sample_rate, known.channels, known.duration) == (44_100, 2, 1.5)
    assert index_file(tone, known, embedded=False, copy=None) is known
    os.utime(tone, ns=(0, known.mtime + 1))
    again = index_file(tone, known, embedded=False, copy=None)
    assert again is not known and again.mtime == known.mtime + 1
    with pytest.raises(InputError, match="no such file"):
        index_file(tone.with_name("b.wav"), known, embedded=False, copy=None)


@pytest.mark.parametrize("copied", [False, True])
def test_text_that_was_not_read_is_read_when_it_is_wanted(tmp_path: Path, copied: bool) -> None:
    copy, cache = (tmp_path / "copy.flac" if copied else None), FileIndex(tmp_path / "c", "x", tmp_path, copies=copied)
    for name, comment in (("a.flac", "a dog"), ("b.flac", "")):
        with soundfile.SoundFile(tmp_path / name, "w", 16_000, 1) as file:
            if comment:
                file.comment = comment
            file.write(np.zeros(800))
        cache.put({name: index_file(tmp_path / name, None, embedded=False, copy=copy)})
        made = copy.stat().st_mtime_ns if copy else 0
        known = cache.get([name])[name]
        cache.put({name: index_file(tmp_path / name, known, embedded=True, copy=copy)})
        read = cache.get([name])[name]
        assert (read.description, read.n_samples) == (comment, 800)
        assert index_file(tmp_path / name, read, embedded=True, copy=copy) is read
        assert index_file(tmp_path / name, read, embedded=False, copy=copy) is read
        assert copy is None or copy.stat().st_mtime_ns == made


def test_a_copy_is_made_once(tone: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copies" / "deep" / "a.wav.flac"
    known = index_file(tone, None, embedded=False, copy=copy)
    assert (known.sample_rate, known.channels, known.n_samples) == (16_000, 1, 24_000)
    info = soundfile.info(copy)
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (16_000, 1, 24_000, "PCM_16")
    np.testing.assert_allclose(read_audio(copy), read_audio(tone), atol=1 / 32768)
    written = copy.stat().st_mtime_ns
    assert index_file(tone, known, embedded=False, copy=copy) is known and copy.stat().st_mtime_ns == written
    copy.unlink()
    assert index_file(tone, known, embedded=False, copy=copy) == known and copy.is_file()


@pytest.mark.parametrize("left", [0, 20, 0.4, -1], ids=["nothing", "a part of the header", "a part", "all but a byte"])
def test_a_copy_that_was_cut_is_made_again(tone: Path, tmp_path: Path, left: float) -> None:
    copy = tmp_path / "a.wav.flac"
    known = index_file(tone, None, embedded=False, copy=copy)
    whole = copy.read_bytes()
    copy.write_bytes(whole[: left if isinstance(left, int) else int(left * len(whole))])
    assert index_file(tone, known, embedded=False, copy=copy) == known and copy.read_bytes() == whole


@pytest.mark.parametrize("longest", [0.5, 0.4, 1.5])
def test_a_long_file_is_converted_window_by_window(
    tone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, longest: float
) -> None:
    monkeypatch.setattr(module, "LONGEST_READ", longest)
    assert convert(tone, tmp_path / "a.flac", 1.5) == 24_000
    np.testing.assert_allclose(read_audio(tmp_path / "a.flac"), read_audio(tone), atol=1 / 32768)


def test_a_file_damaged_within_gives_no_copy(tone: Path, tmp_path: Path) -> None:
    write_audio(tmp_path / "b.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 16_000))
    (tmp_path / "b.flac").write_bytes((tmp_path / "b.flac").read_bytes()[:9_000])
    assert probe(tmp_path / "b.flac").n_samples == 16_000  # the header promises more than there is
    with pytest.raises(InputError, match="damaged"):
        index_file(tmp_path / "b.flac", None, embedded=False, copy=tmp_path / "copy.flac")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "b.flac"]


def test_a_cache_remembers_by_root_and_kind(tmp_path: Path) -> None:
    facts = {f"{number}.wav": IndexedFile(1, 2, 8_000, 1, 3, "a 'dog'", ("x", "y;z"), 2) for number in range(100)}
    cache = FileIndex(tmp_path / "cache", "x", Path("/raw"), copies=False)
    cache.put(facts)
    cache.close()
    cache = FileIndex(tmp_path / "cache", "x", Path("/raw"), copies=False)
    assert cache.get(["5.wav", "absent.wav"]) == {"5.wav": facts["5.wav"]}
    assert cache.get(list(facts)) == facts and cache.get([]) == {}
    cache.close()
    for root, copies in (("/other", False), ("/raw", True)):
        other = FileIndex(tmp_path / "cache", "x", Path(root), copies)
        assert other.get(["5.wav"]) == {}
        other.close()


def test_a_cache_in_use_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FileIndex(tmp_path, "x", Path("/raw"), copies=False)
    cache.put({"a": IndexedFile(1, 2, 3, 4, 5)})
    monkeypatch.setattr(module, "WAIT", 0.01)
    other = FileIndex(tmp_path, "x", Path("/raw"), copies=False)
    with pytest.raises(AudiogenError, match=r"cannot be used \(database is locked\)"):
        other.put({"b": IndexedFile(1, 2, 3, 4, 5)})
    cache.close()


def run_sql(*statements: str) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        database = sqlite3.connect(path)
        for statement in statements:
            database.execute(statement)
        database.commit()
        database.close()

    return run


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"no database" * 100),
        lambda path: path.write_bytes(path.read_bytes()[:5_000]),
        lambda path: path.write_bytes(path.read_bytes()[:200]),
        lambda path: path.write_bytes(path.read_bytes()[:4_096] + b"\xff" * (path.stat().st_size - 4_096)),
        run_sql("DROP TABLE facts", "CREATE TABLE facts (path TEXT)"),
        run_sql("UPDATE facts SET n_samples = 'many'"),
        run_sql("UPDATE facts SET n_samples = NULL"),
        run_sql("UPDATE facts SET sample_rate = 0"),
        run_sql("UPDATE facts SET keywords = '{'"),
        run_sql("UPDATE facts SET keywords = '7'"),
        run_sql("UPDATE facts SET description = x'ff'"),
    ],
)
def test_a_damaged_cache_is_made_anew_and_that_is_said(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    facts = {f"{number}.wav": IndexedFile(1, 2, 8_000, 1, 3, "a dog", ("x",)) for number in range(200)}
    cache = FileIndex(tmp_path, "x", Path("/raw"), copies=False)
    cache.put(facts)
    cache.close()
    damage(cache.path)
    with pytest.warns(AudiogenWarning, match=r"sqlite: damaged \(.*\); made anew"):
        cache = FileIndex(tmp_path, "x", Path("/raw"), copies=False)
        assert cache.get(["5.wav"]) == {}
    cache.put(facts)
    cache.close()
    cache = FileIndex(tmp_path, "x", Path("/raw"), copies=False)
    assert cache.get(list(facts)) == facts
    cache.close()
