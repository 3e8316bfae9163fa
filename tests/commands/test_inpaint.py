"""`audiogen inpaint` with a tiny untrained model: what stays, what changes, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.pcm import read_samples, write_noise

from audiogen_cli.data.audio import probe, read_audio
from audiogen_cli.lm.generation.inpainting import bridge_regions, hide_regions

RATE = 16_000


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Write 1.03 s (no whole number of frames) of 16-bit noise at the model's rate."""
    return write_noise(tmp_path / "noise.wav", 16_480, loudest=9000)


@pytest.mark.parametrize(
    ("options", "regions"),
    [
        (("rain", "--from", "0.3", "--to", "0.6"), [(4800, 9600)]),
        (("--region", "0-0.2"), [(0, 3200)]),
        (("--region", "0.9-1.03"), [(14_400, 16_480)]),
        (("dog", "--region", "0.7-0.8", "--region", "0.1-0.2", "--passes", "2"), [(1600, 3200), (11_200, 12_800)]),
        (("--region", "0.2-0.3", "--region", "0.3-0.4"), [(3200, 6400)]),
    ],
)
def test_all_but_the_regions_stays_bit_for_bit(
    audiogen, noise: Path, tmp_path: Path, tiny_diffusion: Path, options: tuple[str, ...], regions: list
) -> None:
    done = audiogen("inpaint", noise, *options, "--model", tiny_diffusion, "--seed", "1", "-o", "out.wav", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["seed"] == 1 and record["prompt_audio"] == str(noise) and len(record["regions"]) >= len(regions)
    before, after = read_samples(noise), read_samples(tmp_path / "out.wav")
    assert len(after) == len(before)
    inside = np.zeros(len(before), bool)
    for begin, end in regions:
        inside[begin:end] = True
        assert (before[begin:end] != after[begin:end]).mean() > 0.9
    assert np.array_equal(before[~inside], after[~inside])
    again = audiogen("inpaint", noise, *options, "--model", tiny_diffusion, "--seed", "1", "-o", "again.wav")
    assert again.returncode == 0 and np.array_equal(read_samples(tmp_path / "again.wav"), after)


def test_the_old_sound_of_a_region_has_no_influence(
    audiogen, noise: Path, tmp_path: Path, tiny_diffusion: Path
) -> None:
    other = read_samples(noise).copy()
    other[4800:9600] = 0
    soundfile.write(tmp_path / "other.wav", other, RATE)
    for name in (noise, tmp_path / "other.wav"):
        options = ("--region", "0.3-0.6", "--model", tiny_diffusion, "--seed", "1", "-o", f"{name.stem}-out.wav")
        assert audiogen("inpaint", name, *options).returncode == 0
    assert np.array_equal(read_samples(tmp_path / "noise-out.wav"), read_samples(tmp_path / "other-out.wav"))


def test_any_rate_and_channels_go_in_the_models_rate_comes_out(audiogen, tmp_path: Path, tiny_diffusion: Path) -> None:
    wav = np.random.default_rng(0).uniform(-0.3, 0.3, (22_050, 2)).astype(np.float32)
    soundfile.write(tmp_path / "stereo.flac", wav, 44_100)
    done = audiogen("inpaint", "stereo.flac", "--region", "0.2-0.5", "--model", tiny_diffusion, "-o", "out.wav")
    assert done.returncode == 0, done.stderr
    info, kept = probe(tmp_path / "out.wav"), read_audio(tmp_path / "stereo.flac", RATE)
    assert (info.sample_rate, info.channels, info.n_samples) == (RATE, 1, len(kept))
    np.testing.assert_allclose(read_audio(tmp_path / "out.wav")[:3200], kept[:3200], atol=0.6 / 32768)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (("--region", "0.6-0.3"), "ends before it begins"),
        (("--region", "0.3-0.3"), "ends before it begins"),
        (("--from", "0.6", "--to", "1.5"), "lasts 1.03 s"),
        (("--from", "-0.1", "--to", "0.5"), "not within"),
        (("--from", "nan", "--to", "0.5"), "numbers of seconds"),
        (("--region", "0.1-0.5", "--region", "0.4-0.6"), "overlaps"),
        (("--region", "0.1-0.12"), "shorter than a frame"),
        (("--region", "1,5"), "--region 1.5-3.0"),
        (("--from", "0.2"), "--from and --to"),
        ((), "which part"),
        (("", "--region", "0.1-0.5"), "prompt is empty"),
    ],
)
def test_bad_regions_end_with_one_line_and_2(
    audiogen, noise: Path, tmp_path: Path, tiny_diffusion: Path, options: tuple[str, ...], fragment: str
) -> None:
    done = audiogen("inpaint", noise, *options, "--model", tiny_diffusion, "-o", "out.wav")
    said = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert (done.returncode, done.stdout, len(said)) == (2, "", 1) and fragment in said[0]
    assert not (tmp_path / "out.wav").exists()


def test_raw_samples_are_refused_before_the_work(audiogen, noise: Path, tiny_diffusion: Path) -> None:
    done = audiogen("inpaint", noise, "--region", "0.1-0.5", "--model", tiny_diffusion, "-o", "-")
    assert (done.returncode, done.stderr) == (2, "error: say where to write: -o FILE\n")


def test_an_autoregressive_model_names_what_it_takes(audiogen, noise: Path, tiny_lm: Path) -> None:
    done = audiogen("inpaint", noise, "--region", "0.1-0.5", "--model", tiny_lm, "-o", "out.wav")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "decoder: diffusion" in done.stderr and "recipes/diffsound.yaml" in done.stderr


def test_a_codec_finds_neither_the_old_sound_nor_silence_in_a_region() -> None:
    audio = np.arange(1, 41, dtype=np.float32)
    bridged = bridge_regions(audio, [(0, 4), (20, 30), (38, 40)])
    assert bridged[:4].tolist() == [8, 7, 6, 5]
    assert bridged[20] == 20 and bridged[29] == 31 and bridged[38:].tolist() == [38, 37]
    assert np.array_equal(
        np.delete(bridged, [*range(4), *range(20, 30), 38, 39]), np.delete(audio, [*range(4), *range(20, 30), 38, 39])
    )
    assert np.array_equal(bridge_regions(audio, [(0, 40)]), np.zeros(40))


def test_every_frame_that_reaches_into_a_region_is_hidden() -> None:
    import torch

    codes = hide_regions(torch.zeros(2, 6), [(9, 21), (50, 55)], 10, -1)
    assert codes[1].tolist() == [-1, -1, -1, 0, 0, -1]
