"""From model folders to samples: lengths, continuation, company, refusals."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from worlds import CODEBOOK_SIZE, N_Q, make_codec, make_word_vectors

from audiogen_cli.errors import InputError
from audiogen_cli.interop.model_folder import copy_model, fingerprint, save_model
from audiogen_cli.lm.config import LMConfig, Sampling, TextConfig
from audiogen_cli.lm.generator import Generator, Request, choose_device, join
from audiogen_cli.lm.model import AudioLanguageModel

FREE = Sampling(top_p=0.95)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    codec, vectors = make_codec(root / "codec"), make_word_vectors(root / "vectors")
    config = LMConfig(
        dim=16,
        n_layers=1,
        n_heads=2,
        n_q=N_Q,
        codebook_size=CODEBOOK_SIZE,
        frame_rate=25.0,
        sample_rate=16_000,
        codec_fingerprint=fingerprint(codec),
        max_frames=10,
        text=TextConfig("static", str(vectors)),
        text_width=6,
        text_fingerprint=fingerprint(vectors),
        pattern="delay",
        sampling=Sampling(guidance=2.0),
    )
    torch.manual_seed(0)
    save_model(root / "lm", "lm", config, AudioLanguageModel(config).state_dict(), "only for tests")
    copy_model(codec, root / "lm" / "codec")
    return root / "lm"


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    return Generator.load(folder, device="cpu")


def run(generator: Generator, *requests: Request) -> list[np.ndarray]:
    return [wav for _, wav in sorted(generator.generate(requests), key=lambda pair: pair[0])]


def test_knows_its_model(generator: Generator, folder: Path) -> None:
    assert generator.sample_rate == 16_000 and generator.sampling.guidance == 2.0
    assert generator.licence == "only for tests" and generator.fingerprint == fingerprint(folder)
    assert generator.process("a dog is barking at the park") == "dog bark park"


@given(n_samples=st.integers(1, 30_000))
@example(n_samples=1)
@example(n_samples=640)
@example(n_samples=641)
@settings(max_examples=12, deadline=None)
def test_any_duration_is_exact(generator: Generator, n_samples: int) -> None:
    (wav,) = run(generator, Request("dog", 0, n_samples / 16_000))
    assert wav.shape == (n_samples,) and wav.dtype == np.float32 and np.isfinite(wav).all()


def test_same_request_same_samples_in_any_company(generator: Generator) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3000).astype(np.float32)
    requests = [
        Request("dog", 1, 0.5, FREE),
        Request("rain bark", 2, 0.9, FREE),
        Request(None, 3, 0.3, FREE),
        Request("rain", 4, 0.6, FREE, noise),
        Request("dog", 5, 0.5, FREE),
    ]
    together = run(generator, *requests)
    for request, wav in zip(requests, together, strict=True):
        assert np.array_equal(run(generator, request)[0], wav)
    assert not np.array_equal(together[0], together[4])  # another seed


@pytest.mark.parametrize("n_prompt", [1, 639, 640, 5000, 9000])  # up to beyond the trained window of 6400
def test_continuation_begins_with_exactly_the_prompt(generator: Generator, n_prompt: int) -> None:
    prompt = np.random.default_rng(0).uniform(-0.5, 0.5, n_prompt).astype(np.float32)
    for n_samples in (n_prompt, n_prompt + 1, n_prompt + 2000):
        (wav,) = run(generator, Request("dog", 0, n_samples / 16_000, FREE, prompt))
        assert len(wav) == n_samples
        assert np.array_equal(wav[:n_prompt], prompt)


def test_seam_is_continuous_and_the_rest_is_the_decoder_s() -> None:
    time = np.arange(4000) / 16_000
    prompt = np.sin(2 * np.pi * 440 * time[:2000]).astype(np.float32)
    decoded = (0.4 * np.sin(2 * np.pi * 440 * time + 0.7) + 0.2).astype(np.float32)
    joined = join(prompt, decoded, 320)
    assert np.abs(np.diff(joined[1990:2010])).max() < 0.18  # a 440 Hz sine of height 1 steps by 0.17 at most
    assert np.abs(decoded[2000] - prompt[1999]) > 0.18  # unmended it would have clicked
    assert np.array_equal(joined[2320:], decoded[2320:])


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("xyzzy", 0, 1.0), "holds no word that the model knows"),
        (Request("dog", 0, 0.0), "is no sound"),
        (Request("dog", 0, 0.1, prompt_audio=np.zeros(16_000, np.float32)), "shorter than the 1.00 s to continue"),
    ],
)
def test_impossible_requests_are_refused(generator: Generator, request_: Request, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(generator, Request("dog", 0, 0.1), request_)


def test_another_codec_is_refused_by_both_names(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "lm")
    other = make_codec(tmp_path / "other", seed=1)
    copy_model(other, tmp_path / "lm" / "codec")
    with pytest.raises(InputError, match=f"{fingerprint(folder / 'codec')[:12]}.*{fingerprint(other)[:12]}"):
        Generator.load(tmp_path / "lm", device="cpu")


def test_other_word_vectors_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "lm")
    make_word_vectors(tmp_path / "vectors", width=5)
    config = tmp_path / "lm" / "config.json"
    config.write_text(config.read_text().replace(str(folder.parent / "vectors"), str(tmp_path / "vectors")))
    with pytest.raises(InputError, match="other word vectors"):
        Generator.load(tmp_path / "lm", device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_named() -> None:
    assert choose_device("auto").type in ("cpu", "mps")
    with pytest.raises(InputError, match="device 'cuda' cannot be used here"):
        choose_device("cuda")
