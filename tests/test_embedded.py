"""The model shipped in the package: small, licensed, loadable with no download, and audible."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from audiogen_cli.lm.generation.generator import Generator
from audiogen_cli.lm.generation.requests import GenerationRequest
from audiogen_cli.model_folder import EMBEDDED_MODEL

RESOURCES = EMBEDDED_MODEL.parent
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator.load()


def test_weights_fit_the_package():
    weights = [*RESOURCES.rglob("*.safetensors")]
    assert len(weights) == 4  # language model, its probe, codec, word vectors
    assert sum(path.stat().st_size for path in weights) <= 32 * MEGABYTE


@pytest.mark.parametrize("folder", [EMBEDDED_MODEL, EMBEDDED_MODEL / "codec"])
def test_the_licence_names_itself_and_the_recordings(folder):
    licence = (folder / "LICENSE").read_text()
    assert licence.startswith("CC BY-NC 4.0")
    assert "Piczak" in licence and "github.com/karolpiczak/ESC-50" in licence


# Packages that take as long as torch to import, and that generating with word vectors does not need.
UNNEEDED = {"scipy", "sympy", "torch._dynamo", "torch._inductor", "triton", "transformers", "huggingface_hub"}
UNNEEDED |= {"model2vec", "joblib", "accelerate", "datasets", "pyarrow", "pandas", "rich", "torchaudio", "nltk"}
AND_LIST_MODULES = """
import atexit, pathlib, runpy, sys
atexit.register(lambda: pathlib.Path("modules.txt").write_text(" ".join(sys.modules)))
runpy.run_module("audiogen_cli", run_name="__main__")
"""


def test_the_main_job(command_environment, tmp_path):
    command = [sys.executable, "-c", AND_LIST_MODULES, "generate", "a dog barks", "-o", "out.wav", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    wav, rate = soundfile.read(tmp_path / "out.wav")
    assert (rate, wav.shape) == (16_000, (80_000,))
    assert 0.01 < np.abs(wav).max() <= 1.0
    assert not record["near_silent"]
    assert "CC BY-NC 4.0" in record["licence"]
    assert "--model facebook/audiogen-medium" in done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith("generating (")]  # on a slow machine
    assert "CC BY-NC 4.0" in done.stderr and len(said) <= 4
    assert "forbids selling: CC BY-NC 4.0" in done.stderr
    modules = (tmp_path / "modules.txt").read_text().split()
    assert "torch" in modules and not UNNEEDED & {*modules}


def test_the_same_seed_gives_the_same_file(audiogen, tmp_path):
    for name in ("a.wav", "b.wav"):
        assert audiogen("generate", "rain", "--seed", "7", "--duration", "0.2", "-o", name).returncode == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_alone_or_in_a_batch_a_seed_sounds_the_same(generator):
    prompts = ("rain", "church bells ring in the distance", "a dog barks")
    sampling = replace(generator.sampling, candidates=4)
    requests = [GenerationRequest(prompt, 7 + i, 0.3 + 0.2 * i, sampling) for i, prompt in enumerate(prompts)]
    together = dict(generator.generate(requests))
    for i, request in enumerate(requests):
        ((_, alone),) = generator.generate([request])
        assert np.array_equal(alone, together[i])


def test_seeds_and_prompts_change_the_sound(generator):
    requests = [
        GenerationRequest(prompt, seed, 0.2, generator.sampling)
        for prompt, seed in (("rain", 1), ("rain", 2), ("a cow moos", 1))
    ]
    first, other_seed, other_prompt = (samples for _, samples in sorted(generator.generate(requests)))
    assert not np.array_equal(first, other_seed)
    assert not np.array_equal(first, other_prompt)


@pytest.mark.parametrize("rate,channels", [(44_100, 2), (8000, 1), (16_000, 1)])
def test_continuing_keeps_the_recording(audiogen, tmp_path, rate, channels):
    from audiogen_cli.data.audio import read_audio

    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(rate // 2) / rate)
    soundfile.write(tmp_path / "clip.wav", np.stack([tone] * channels, 1), rate)
    done = audiogen("continue", "clip.wav", "rain", "--duration", "0.7", "--seed", "1", "-o", "longer.wav")
    assert done.returncode == 0, done.stderr
    kept = read_audio(tmp_path / "clip.wav")
    longer, longer_rate = soundfile.read(tmp_path / "longer.wav", dtype="int16")
    assert (longer_rate, len(longer)) == (16_000, 11_200)
    assert np.array_equal(longer[: len(kept)], np.round(kept * 32768).astype(np.int16))
    assert np.abs(longer[len(kept) :]).max() > 0
