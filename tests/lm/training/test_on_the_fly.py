"""Examples made on the fly from recordings."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.data.audio import read_audio
from audiogen_cli.data.augment import AugmentConfig
from audiogen_cli.data.captions import process_tags
from audiogen_cli.data.manifest import Clip
from audiogen_cli.data.windows import cut_windows
from audiogen_cli.errors import InputError
from audiogen_cli.lm.training.datasets import LengthBuckets, step_batches
from audiogen_cli.lm.training.on_the_fly import OnTheFlyDataset
from audiogen_cli.training.sampler import RankBatchSampler

RATE = 16_000


@pytest.fixture(scope="module")
def codec(tiny_codec: Path) -> AudioCodec:
    return AudioCodec.load(tiny_codec)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Five noises of 0.3 to 1.1 s, and one of 20.5 s, which is two windows (the rest is too short to be one)."""
    folder = tmp_path_factory.mktemp("sounds")
    made = []
    for number, seconds in enumerate((0.3, 0.5, 0.7, 0.9, 1.1, 20.5)):
        wav = np.random.default_rng(number).normal(0, 0.1, round(seconds * RATE))
        soundfile.write(folder / f"{number}.wav", wav, RATE)
        texts = (f"a{number}", f"b{number}")
        place = (f"t/{number}", "t", "train", f"{number}.wav", 0.0, seconds, RATE, 1)
        made.append(Clip(*place, (), (), texts, license="", root=folder))  # type: ignore[arg-type]
    return made


def test_a_model_without_text_processing_reads_captions_as_published(clips: list[Clip], codec: AudioCodec) -> None:
    named = [replace(clip, captions=(f"A dog, {clip.id}!",), tags=("Dog_bark", "Rain")) for clip in clips]
    raw = dataset_of(named, codec, mix=0.0, text_dropout=0.0, raw_texts=True)
    assert {raw[i].text for i in range(60)} == {f"A dog, {clip.id}!" for clip in clips} | {"Dog bark Rain"}
    assert dataset_of(named, codec, mix=0.0, text_dropout=0.0)[0].text in {
        text for clip in clips for text in clip.texts
    }  # as processed


def test_clips_that_have_only_tags_are_read_among_masks(clips: list[Clip], codec: AudioCodec) -> None:
    tags = [("Dogs",), ("Rain", "Dogs"), (), ("Rain", "Dogs", "Barking"), (), ()]
    named = [
        replace(clip, captions=() if own else ("A.",), tags=own, texts=(process_tags(own) or "caption",))
        for clip, own in zip(clips, tags, strict=True)
    ]
    one, two = (dataset_of(named, codec, mix=0.0, text_dropout=0.0, mask_tags=True) for _ in range(2))
    texts = [one[i].text for i in range(28)]
    assert texts == [two[i].text for i in reversed(range(28))][::-1]
    first = [str(text).replace("[MASK]", "").split() for text in texts[:7] if "[MASK]" in str(text)]
    assert [sorted(words) for words in first] == [["dog"], ["dog", "rain"], ["bark", "dog", "rain"]]
    assert texts.count("caption") == 16 and len(set(texts)) > 8
    mixed = dataset_of(named, codec, mix=1.0, text_dropout=0.0, mask_tags=True)
    assert any(str(mixed[i].text).count("dog") == 2 for i in range(28))


def dataset_of(clips: list[Clip], codec: AudioCodec, mix: float = 0.5, **changes: float) -> OnTheFlyDataset:
    settings = {"crop_frames": 15, "text_dropout": 0.1, "seed": 0, **changes}
    return OnTheFlyDataset(cut_windows(clips, RATE), codec, augment=AugmentConfig(mix=mix), **settings)  # type: ignore[arg-type]


def test_examples_are_functions_of_seed_and_number(clips: list[Clip], codec: AudioCodec) -> None:
    one, two = dataset_of(clips, codec), dataset_of(clips, codec)
    together = one.finish([one[i] for i in range(20, 40)])
    for place, i in enumerate(reversed(range(20, 40)), 1):  # the other way round, each alone
        alone = two.finish([two[i]])
        n_frames = int(alone.frames_mask.sum())
        assert n_frames == two.n_frames(i) <= 15
        assert (together.ids[-place], together.texts[-place]) == (alone.ids[0], alone.texts[0])
        assert torch.equal(together.codes[-place, :, :n_frames], alone.codes[0])
        assert int(together.frames_mask[-place].sum()) == n_frames
    assert {text is None for text in together.texts} == {True, False}
    other = dataset_of(clips, codec, seed=1)
    assert [other[i].spec.id for i in range(20)] != [one[i].spec.id for i in range(20)]


def test_an_epoch_has_every_window_once_and_mixes_the_share_asked_for(clips: list[Clip], codec: AudioCodec) -> None:
    dataset = dataset_of(clips, codec, mix=0.3)
    assert len(dataset) == 7
    for epoch in range(3):
        windows = [dataset[i].spec.window.id for i in range(7 * epoch, 7 * epoch + 7)]
        assert sorted(windows) == ["t/0", "t/1", "t/2", "t/3", "t/4", "t/5#0", "t/5#1"]
    drawn = [dataset._draw(i) for i in range(2000)]
    mixed = [draw for draw in drawn if draw.partner is not None]
    assert len(mixed) / len(drawn) == pytest.approx(0.3, abs=0.04)
    clip_of = dataset.windows.clip_of
    assert all(clip_of[draw.window] != clip_of[draw.partner] for draw in mixed)
    assert sum(draw.without_text for draw in drawn) / len(drawn) == pytest.approx(0.1, abs=0.03)


def test_a_mixs_text_is_both_texts_and_an_unmixed_ones_codes_are_the_codecs(
    clips: list[Clip], codec: AudioCodec
) -> None:
    dataset = dataset_of(clips, codec, text_dropout=0.0, crop_frames=1000)
    for i in range(12):
        read = dataset[i]
        window, text = read.spec.window, read.text
        assert text is not None and text.split()[0] in [f"{letter}{window.clip.id[2:]}" for letter in "ab"]
        assert len(text.split()) == (1 if read.spec.partner is None else 2)
        if read.spec.partner is None:
            wav = read_audio(window.clip.audio_path, RATE, window.start, window.n_samples / RATE)
            expected = codec.encode(torch.from_numpy(wav)[None, None])
            assert torch.equal(dataset.finish([read]).codes, expected)


def test_a_recording_that_cannot_be_read_is_left_out_of_the_loss(
    clips: list[Clip], codec: AudioCodec, tmp_path: Path
) -> None:
    (tmp_path / "1.wav").write_bytes(b"RIFF")
    for number in (0, 2, 3, 4, 5):
        (tmp_path / f"{number}.wav").symlink_to(clips[number].audio_path)
    dataset = dataset_of([replace(clip, root=tmp_path) for clip in clips], codec, mix=0.0)
    batch = dataset.finish([dataset[i] for i in range(7)])
    assert len(batch.failures) == 1 and "1.wav" in batch.failures[0]
    assert [not mask.any() for mask in batch.frames_mask] == [id == "t/1" for id in batch.ids]
    alone = dataset.finish([dataset[batch.ids.index("t/1")]])
    assert alone.failures == batch.failures and not alone.frames_mask.any()
    assert "1.wav" in dataset.validation_example(1).failure and not dataset.validation_example(2).failure


def test_a_partner_that_cannot_be_read_gives_way_to_another(
    clips: list[Clip], codec: AudioCodec, tmp_path: Path
) -> None:
    (tmp_path / "1.wav").write_bytes(b"RIFF")
    for number in (0, 2, 3, 4, 5):
        (tmp_path / f"{number}.wav").symlink_to(clips[number].audio_path)
    plain = dataset_of(clips, codec, mix=1.0, text_dropout=0.0)
    dataset = dataset_of([replace(clip, root=tmp_path) for clip in clips], codec, mix=1.0, text_dropout=0.0)
    n_replaced = 0
    for i in range(70):
        whole, read, again = plain[i], dataset[i], dataset[i]
        window, partner = whole.spec.window.id, whole.spec.partner
        assert partner is not None and read.spec.partner is not None
        assert (read.spec.id, read.text) == (again.spec.id, again.text)
        assert bool(read.failure) == (window == "t/1") and read.spec.window.id == window
        assert (read.spec.partner.id == partner.id) == (partner.id != "t/1") or window == "t/1"
        if partner.id == "t/1":
            n_replaced += 1
            assert read.text is not None and read.text.split()[1][1:] == read.spec.partner.clip.id[2:]
    assert n_replaced > 3


def test_one_clip_cannot_be_mixed(clips: list[Clip], codec: AudioCodec) -> None:
    for only in (clips[:1], clips[5:]):
        with pytest.raises(InputError, match="set mix=0"):
            dataset_of(only, codec)
        assert len(dataset_of(only, codec, mix=0.0)) == (1 if only == clips[:1] else 2)


def test_workers_read_what_the_process_itself_would(clips: list[Clip], codec: AudioCodec) -> None:
    def codes(workers: int) -> list[torch.Tensor]:
        dataset = dataset_of(clips, codec)
        sampler = RankBatchSampler(LengthBuckets(dataset, 4).step, range(1, 3), micro_batch=2)
        return [batch.codes for step in step_batches(dataset, sampler, workers) for batch in step]

    for one, other in zip(codes(0), codes(1), strict=True):
        assert torch.equal(one, other)
    assert pickle.loads(pickle.dumps(dataset_of(clips, codec))).codec is None
