"""Embedding: each content once, cached for later runs, batches of one length, failures in their place."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fakes import FakeNetwork, write_clips
from helpers.zoo import chirp

from audiogen_cli.data.audio import write_audio
from audiogen_cli.evaluation.audio_sources import AudioSource, FileAudio, NoiseAudio, Recording
from audiogen_cli.evaluation.networks import embed
from audiogen_cli.evaluation.networks.base import NetworkOutput
from audiogen_cli.evaluation.networks.cache import ClipEmbedding, EmbeddingCache
from audiogen_cli.evaluation.networks.embed import embed_clips
from audiogen_cli.files import cache_folder


def quiet(done: int, total: int) -> None:
    """Takes progress and shows nothing."""


def embedded(network: FakeNetwork, clips: list[AudioSource]) -> list[Any]:
    return embed_clips(network, clips, quiet)


@pytest.fixture
def files(tmp_path: Path) -> list[AudioSource]:
    write_clips(tmp_path / "clips", {f"{i}": i for i in range(7)}, duration=1.0)
    return [FileAudio(Recording(tmp_path / "clips" / f"{i}.wav")) for i in range(7)]


def test_results_are_those_of_each_clip_alone_in_order(files: list[AudioSource]) -> None:
    network = FakeNetwork()
    for sound, result in zip(files, embedded(network, files), strict=True):
        wav, rate = sound.read()
        alone = FakeNetwork()(wav, rate)
        assert (result.embeddings == alone.embeddings[0]).all()
        assert (result.logits == alone.logits[0]).all()
        assert result.probabilities == pytest.approx(alone.probabilities[0])
    assert network.batches == [(3, 16000), (3, 16000), (1, 16000)]


def test_lengths_are_not_mixed(files: list[AudioSource], tmp_path: Path) -> None:
    write_clips(tmp_path / "long", {f"{i}": i for i in range(3)}, duration=1.5)
    network = FakeNetwork()
    longer = [FileAudio(Recording(tmp_path / "long" / f"{i}.wav")) for i in range(3)]
    mixed = [sound for pair in zip(files[:3], longer, strict=True) for sound in pair]
    assert [len(result.embeddings) for result in embedded(network, mixed)] == [4, 6] * 3
    assert sorted(network.batches) == [(3, 16000), (3, 24000)]


def test_many_lengths_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "MAX_WAITING", 4)
    network = FakeNetwork()
    results = embedded(network, [NoiseAudio(8000 + 4000 * i) for i in range(9)])
    assert [len(result.embeddings) for result in results] == [2 + i for i in range(9)]


class ClasslessNetwork(FakeNetwork):
    """As VGGish and CLAP: embeddings alone."""

    classes = ()

    def classify(self, wav: np.ndarray) -> NetworkOutput:
        found = super().classify(wav)
        return NetworkOutput(found.window_logits[..., :0], found.embeddings)


@pytest.mark.parametrize("kind", [FakeNetwork, ClasslessNetwork])
def test_a_second_run_classifies_nothing(kind: type[FakeNetwork], files: list[AudioSource]) -> None:
    first, again = kind(), kind()
    before, after = embedded(first, files), embedded(again, files)
    assert first.batches and not again.batches
    for one, two in zip(before, after, strict=True):
        assert (one.embeddings == two.embeddings).all() and (one.logits == two.logits).all()
        assert one.near_silent == two.near_silent


def test_the_content_counts_not_the_name(files: list[AudioSource], tmp_path: Path) -> None:
    embedded(FakeNetwork(), files)
    (tmp_path / "copy.wav").write_bytes((tmp_path / "clips" / "0.wav").read_bytes())
    network = FakeNetwork()
    embedded(network, [FileAudio(Recording(tmp_path / "copy.wav"))])
    assert not network.batches
    write_audio(tmp_path / "copy.wav", chirp(99, 1.0), 16_000)  # the same name, another sound
    embedded(network, [FileAudio(Recording(tmp_path / "copy.wav"))])
    assert network.batches == [(1, 16000)]


def test_another_window_version_or_weights_is_another_content(files: list[AudioSource], tmp_path: Path) -> None:
    embedded(FakeNetwork(), files)
    network = FakeNetwork()
    embedded(network, [FileAudio(Recording(tmp_path / "clips" / "0.wav", 0.05, 0.1))])
    network.sha256 = "1" * 64
    embedded(network, files[:1])
    network.version = 2  # type: ignore[misc]
    embedded(network, files[:1])
    assert len(network.batches) == 3


def test_equal_sources_are_embedded_once() -> None:
    network = FakeNetwork()
    silence, noise = NoiseAudio(16000), NoiseAudio(16000, 1, 0.1)
    results = embedded(network, [silence, noise, silence, silence])
    assert network.batches == [(2, 16000)]
    assert [result.near_silent for result in results] == [True, False, True, True]


def test_failures_stand_in_their_place(files: list[AudioSource], tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "broken.wav").write_bytes(b"RIFF, or not")
    write_clips(tmp_path, {"short": 0}, duration=0.05)
    names = ("empty", "nowhere", "broken", "short")
    results = embedded(
        FakeNetwork(), [files[0], *(FileAudio(Recording(tmp_path / f"{name}.wav")) for name in names), files[1]]
    )
    assert isinstance(results[0], ClipEmbedding) and isinstance(results[5], ClipEmbedding)
    for result, words in zip(
        results[1:5], ("is empty (0 bytes)", "No such file", "broken.wav", "fake needs 0.1 s"), strict=True
    ):
        assert words in result


def test_a_damaged_or_unwritable_cache_costs_time_only(
    files: list[AudioSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = embedded(FakeNetwork(), files[:1])
    for path in cache_folder().rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    network = FakeNetwork()
    assert (embedded(network, files[:1])[0].embeddings == before[0].embeddings).all()
    assert len(network.batches) == 1
    with monkeypatch.context() as patch:  # as in another user's folder; for root all are open
        patch.setattr(Path, "is_file", lambda path: (_ for _ in ()).throw(PermissionError(13, "denied")))
        assert EmbeddingCache(Path("/root"), "network", "0" * 64, 1, 2).get("key") is None
    monkeypatch.setenv("AUDIOGEN_CACHE", "/proc/none")
    assert (embedded(FakeNetwork(), files[:1])[0].embeddings == before[0].embeddings).all()


def test_two_runs_may_write_the_same(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, "network", "0" * 64, 1, 2)
    clip = ClipEmbedding(np.ones((3, 2), np.float32), np.ones(4, np.float32), np.full(4, 0.25), False)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda index: cache.put(f"key {index % 5}", clip), range(60)))
    assert all((kept := cache.get(f"key {index}")) and (kept.embeddings == 1).all() for index in range(5))
    assert cache.get("key 5") is None
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 5


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() != Path("/x")
    monkeypatch.setenv("AUDIOGEN_CACHE", "/x")
    assert cache_folder() == Path("/x")
    monkeypatch.delenv("AUDIOGEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/y")
    assert cache_folder() == Path("/y/audiogen")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "audiogen"
