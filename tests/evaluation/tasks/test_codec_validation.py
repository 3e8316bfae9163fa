"""What a codec's validation reports, and the causes that it names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.zoo import chirp
from torch import Tensor

from audiogen_cli.codec.config import CodecConfig, QuantizerConfig, SEANetConfig
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.data.audio import read_audio, write_audio
from audiogen_cli.data.manifest import Clip
from audiogen_cli.evaluation.tasks import codec_validation
from audiogen_cli.evaluation.tasks.codec_validation import validate_codec

N_CLIPS, N_SAMPLES = 5, 8000


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Clip]:
    monkeypatch.setattr(codec_validation, "_metrics", lambda: ["si_snr", "mel_distance"])
    for i in range(N_CLIPS):
        write_audio(tmp_path / f"{i}.wav", 0.5 * chirp(i)[:N_SAMPLES], 16_000)
    shape = (0.0, N_SAMPLES / 16_000, 16_000, 1, (), ("tone",), ("tone",), "")
    return [Clip(f"t/{i}", "t", "val", f"{i}.wav", *shape, tmp_path) for i in range(N_CLIPS)]


class Exact(AudioCodec):
    """Every clip has codes of its own, and decodes to itself: late by `late` samples, `gain` times as loud."""

    def __init__(self, clips: list[Clip], late: int = 0, gain: float = 1.0, codes: int = 16) -> None:
        network = SEANetConfig(channels=2, strides=(8, 8), lstm_layers=0)
        super().__init__(CodecConfig(network=network, latent_dim=4, n_q=1, codebook_size=16))
        self.quantizer.started.fill_(True)
        read = [torch.from_numpy(gain * read_audio(clip.audio_path)) for clip in clips]
        self.wavs = [torch.roll(wav, late) + 0.01 * wav.std() * torch.randn_like(wav) for wav in read]
        self.encoded, self.codes = -1, codes

    def encode(self, wav: Tensor) -> Tensor:
        self.encoded += 1
        return torch.arange(-(-wav.shape[-1] // self.hop_length))[None, None] % self.codes

    def decode(self, codes: Tensor) -> Tensor:
        return self.wavs[self.encoded][None, None]


def test_an_exact_codec(clips: list[Clip], tmp_path: Path) -> None:
    report = validate_codec(Exact(clips, gain=0.5), clips, tmp_path / "saved")
    assert report.warnings == []
    assert report.metrics["level_db"] == pytest.approx(-6.02, abs=0.01)
    assert report.metrics["kbps"] == pytest.approx(250 * 4 / 1000)
    assert report.metrics["entropy_kbps"] == pytest.approx(1.0, abs=0.01)
    assert report.metrics["usage_0"] == 1
    assert report.metrics["perplexity_0"] == pytest.approx(16, abs=0.1)
    assert report.metrics["mel_distance_db"] == pytest.approx(6.02, abs=0.5)
    assert len(list((tmp_path / "saved").iterdir())) == 2 * codec_validation.SAVED_CLIPS
    pair = [read_audio(tmp_path / "saved" / f"t_0{end}.wav") for end in ("", "-original")]
    assert np.corrcoef(*pair)[0, 1] > 0.999


def test_ids_may_be_longer_than_the_name_of_a_file(clips: list[Clip], tmp_path: Path) -> None:
    clips = [replace(clip, id=f"t/{'é/' * 130}{i}") for i, clip in enumerate(clips)]
    validate_codec(Exact(clips), clips, tmp_path / "saved")
    assert len(list((tmp_path / "saved").iterdir())) == 2 * codec_validation.SAVED_CLIPS


def test_a_late_codec_is_distinguished_from_a_bad_one(clips: list[Clip], tmp_path: Path) -> None:
    report = validate_codec(Exact(clips, late=8), clips, tmp_path)
    assert "8 samples late" in report.warnings[0]
    assert report.metrics["si_snr_aligned"] > report.metrics["si_snr"] + 10


def test_a_codec_of_other_phases_is_not_called_late(clips: list[Clip], tmp_path: Path) -> None:
    codec = Exact(clips)
    codec.wavs = [torch.randn(len(wav)) * wav.std() for wav in codec.wavs]
    assert not validate_codec(codec, clips, tmp_path).warnings


def test_silence_and_a_single_code_are_named(clips: list[Clip], tmp_path: Path) -> None:
    warnings = validate_codec(Exact(clips, gain=1e-4, codes=1), clips, tmp_path).warnings
    assert warnings[0].startswith("stream 0 uses 6% of its codes, but in training 100%")
    assert "-80 dB beside its original" in warnings[1]


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        ("away", "latents run away from their codes; raise losses.commitment"),
        ("point", "the latents hardly differ from sound to sound; lower losses.commitment"),
        ("close", "the latents hardly differ from sound to sound; lower losses.commitment"),
        ("never revived", "dead codes are not revived; raise quantizer.dead_below from 0"),
        ("at rest", "codes stay where k-means put them; lower quantizer.decay from 1"),
    ],
)
def test_a_collapse_is_named_with_its_cause(clips: list[Clip], tmp_path: Path, cause: str, expected: str) -> None:
    codec = Exact(clips, codes=2)
    stream = next(iter(codec.quantizer))
    stream.cluster_size[1:] = 0.0
    if cause == "point":
        stream.codebook.copy_(torch.ones(4).expand_as(stream.codebook) + 1e-4 * torch.randn_like(stream.codebook))
    elif cause == "close":
        latent = codec.encoder(torch.from_numpy(read_audio(clips[-1].audio_path))[None, None])
        stream.start(latent[0].T.detach(), iterations=20)
        stream.cluster_size[1:] = 0.0
    else:
        stream.codebook.mul_(100)
    if cause in ("never revived", "at rest"):
        codec.quantizer.learning = QuantizerConfig(dead_below=0.0, decay=0.99 if cause == "never revived" else 1.0)
    (warning,) = validate_codec(codec, clips, tmp_path).warnings
    assert warning == f"stream 0 uses 12% of its codes: {warning.split(': ', 1)[1]}"
    assert expected in warning


def test_codebooks_that_have_not_started_are_all_there_is_to_say(clips: list[Clip], tmp_path: Path) -> None:
    codec = Exact(clips)
    codec.quantizer.started.fill_(False)
    report = validate_codec(codec, clips, tmp_path)
    assert report.metrics == {}
    assert report.warnings == [
        "the codebooks have not started after 0 steps: k-means wants 8 vectors per code and quantizer.start_step = 0"
    ]
