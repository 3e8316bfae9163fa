"""Which process reads which samples when, and samples made on the fly from recordings."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers.zoo import make_codec
from hypothesis import given
from hypothesis import strategies as st

from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.data.audio import read_audio
from audiogen_cli.data.manifest import Clip
from audiogen_cli.errors import InputError
from audiogen_cli.lm.training.datasets import Deal, ShareSampler, step_batches
from audiogen_cli.lm.training.on_the_fly import SoundSamples
from audiogen_cli.training.schedule import SampleOrder

RATE, HOP = 16_000, 640


class Lengths:
    """Samples that have nothing but a length."""

    def __init__(self, seed: int = 0) -> None:
        self.table = np.random.default_rng(seed).integers(1, 500, 1000)

    def n_frames(self, i: int) -> int:
        return int(self.table[i % 1000])


@given(
    processes=st.integers(1, 7),
    per_process=st.integers(1, 5),
    extra=st.integers(0, 6),
    micro_batch=st.integers(1, 6),
    bucket_steps=st.integers(1, 4),
    seed=st.integers(0, 100),
)
def test_every_sample_is_read_once_by_one_process(
    processes: int, per_process: int, extra: int, micro_batch: int, bucket_steps: int, seed: int
) -> None:
    batch_size = processes * per_process + min(extra, processes - 1)
    deal = Deal(Lengths(seed), batch_size, bucket_steps, seed)  # type: ignore[arg-type]
    seen: Counter[int] = Counter()
    for step in range(2 * bucket_steps):
        shares = [deal.share(step, rank, processes, micro_batch) for rank in range(processes)]
        assert all(share and all(0 < len(batch) <= micro_batch for batch in share) for share in shares)
        own = [sum(len(batch) for batch in share) for share in shares]
        assert sum(own) == batch_size and max(own) - min(own) <= 1
        seen.update(i for share in shares for batch in share for i in batch)
        assert deal.n_frames(step) == sum(deal.samples.n_frames(i) for i in deal.step(step))
    assert seen == Counter(range(2 * bucket_steps * batch_size))
    again = Deal(Lengths(seed), batch_size, bucket_steps, seed)  # type: ignore[arg-type]
    assert again.step(2 * bucket_steps - 1) == deal.step(2 * bucket_steps - 1)  # from anywhere, as a resumed run


def test_a_sample_is_the_same_whoever_reads_it() -> None:
    order = SampleOrder(50, 3)
    dealt = [Deal(Lengths(), 12).share(4, rank, 3, 2) for rank in range(3)]  # type: ignore[arg-type]
    rows = sorted(order[i] for share in dealt for batch in share for i in batch)
    assert rows == sorted(SampleOrder(50, 3)[i] for i in range(48, 60))


def test_sorting_several_steps_saves_padding() -> None:
    def wasted(bucket_steps: int) -> float:
        deal, frames, padded = Deal(Lengths(), 64, bucket_steps), 0, 0  # type: ignore[arg-type]
        for step in range(8):
            for rank in range(16):
                for batch in deal.share(step, rank, 16, 4):
                    lengths = [deal.samples.n_frames(i) for i in batch]
                    frames, padded = frames + sum(lengths), padded + max(lengths) * len(lengths)
        return 1 - frames / padded

    assert wasted(1) > 0.3
    assert wasted(8) < 0.1


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> AudioCodec:
    return AudioCodec.load(make_codec(tmp_path_factory.mktemp("codec")))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Five noises of 0.3 to 1.1 s, and one of 21 s, which is three windows (the last too short to be one)."""
    folder = tmp_path_factory.mktemp("sounds")
    made = []
    for number, seconds in enumerate((0.3, 0.5, 0.7, 0.9, 1.1, 20.5)):
        wav = np.random.default_rng(number).normal(0, 0.1, round(seconds * RATE))
        soundfile.write(folder / f"{number}.wav", wav, RATE)
        facts = (
            f"t/{number}",
            "t",
            "train",
            f"{number}.wav",
            0.0,
            seconds,
            RATE,
            1,
            (),
            (),
            (f"a{number}", f"b{number}"),
        )
        made.append(Clip(*facts, license="", root=folder))
    return made


def samples_of(clips: list[Clip], codec: AudioCodec, **changes: float) -> SoundSamples:
    settings = {"crop_frames": 15, "mix": 0.5, "text_dropout": 0.1, "seed": 0, **changes}
    return SoundSamples(clips, codec, **settings)  # type: ignore[arg-type]


def test_sounds_are_functions_of_seed_and_number(clips: list[Clip], codec: AudioCodec) -> None:
    one, two = samples_of(clips, codec), samples_of(clips, codec)
    together = one.finish([one[i] for i in range(20, 40)])
    for place, i in enumerate(reversed(range(20, 40)), 1):  # the other way round, each alone
        alone = two.finish([two[i]])
        n_frames = int(alone.frames_mask.sum())
        assert n_frames == two.n_frames(i) <= 15
        assert (together.ids[-place], together.texts[-place]) == (alone.ids[0], alone.texts[0])
        assert torch.equal(together.codes[-place, :, :n_frames], alone.codes[0])
        assert int(together.frames_mask[-place].sum()) == n_frames
    assert {text is None for text in together.texts} == {True, False}
    other = samples_of(clips, codec, seed=1)
    assert [other[i].plan.id for i in range(20)] != [one[i].plan.id for i in range(20)]


def test_an_epoch_hears_every_window_once_and_mixes_the_share_asked_for(clips: list[Clip], codec: AudioCodec) -> None:
    samples = samples_of(clips, codec, mix=0.3)
    assert len(samples) == 7
    for epoch in range(3):
        windows = [samples[i].plan.window.id for i in range(7 * epoch, 7 * epoch + 7)]
        assert sorted(windows) == ["t/0", "t/1", "t/2", "t/3", "t/4", "t/5#0", "t/5#1"]
    drawn = [samples._draw(i) for i in range(2000)]
    mixed = [draw for draw in drawn if draw.partner is not None]
    assert len(mixed) / len(drawn) == pytest.approx(0.3, abs=0.04)
    assert all(samples._clip_of[draw.window] != samples._clip_of[draw.partner] for draw in mixed)
    assert sum(draw.silent for draw in drawn) / len(drawn) == pytest.approx(0.1, abs=0.03)


def test_a_mixs_text_is_both_texts_and_an_unmixed_ones_codes_are_the_codecs(
    clips: list[Clip], codec: AudioCodec
) -> None:
    samples = samples_of(clips, codec, text_dropout=0.0, crop_frames=1000)
    for i in range(12):
        sound = samples[i]
        names = [f"{letter}{window.clip.id[2:]}" for letter in "ab" for window in [sound.plan.window]]
        assert sound.text is not None and sound.text.split()[0] in names
        assert len(sound.text.split()) == (1 if sound.plan.partner is None else 2)
        if sound.plan.partner is None:
            window = sound.plan.window
            wav = read_audio(window.clip.audio_path, RATE, window.start, window.n_samples / RATE)
            expected = codec.encode(torch.from_numpy(wav)[None, None])
            assert torch.equal(samples.finish([sound]).codes, expected)


def test_a_recording_that_cannot_be_read_is_left_out_of_the_loss(
    clips: list[Clip], codec: AudioCodec, tmp_path: Path
) -> None:
    (tmp_path / "1.wav").write_bytes(b"RIFF")
    for number in (0, 2, 3, 4, 5):
        (tmp_path / f"{number}.wav").symlink_to(clips[number].audio_path)
    broken = [replace(clip, root=tmp_path) for clip in clips]
    samples = samples_of(broken, codec, mix=0.0)
    batch = samples.finish([samples[i] for i in range(7)])
    assert len(batch.failed) == 1 and "1.wav" in batch.failed[0]
    assert [not mask.any() for mask in batch.frames_mask] == [id == "t/1" for id in batch.ids]
    with pytest.raises(InputError, match=r"none of 1 recordings can be read: .*1\.wav"):
        samples.finish([samples[batch.ids.index("t/1")]])


def test_one_clip_cannot_be_mixed(clips: list[Clip], codec: AudioCodec) -> None:
    with pytest.raises(InputError, match="set mix=0"):
        samples_of(clips[:1], codec)
    assert len(samples_of(clips[:1], codec, mix=0.0)) == 1


def test_workers_read_what_the_process_itself_would(clips: list[Clip], codec: AudioCodec) -> None:
    def codes(workers: int) -> list[torch.Tensor]:
        sampler = ShareSampler(Deal(samples_of(clips, codec), 4), 2, 0, 1, range(1, 3))
        return [batch.codes for step in step_batches(sampler, workers) for batch in step]

    for one, other in zip(codes(0), codes(1), strict=True):
        assert torch.equal(one, other)
    assert pickle.loads(pickle.dumps(samples_of(clips, codec))).codec is None
