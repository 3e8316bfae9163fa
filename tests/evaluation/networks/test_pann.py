"""Cnn14 with tiny random weights against a plain float64 computation; what wrong and missing files say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.plain import batch_norm, conv2d, hann, linear, pool, power_spectrum, weights_of

from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.networks.base import MissingWeightsError, WeightSource
from audiogen_cli.evaluation.networks.pann import Cnn14, Cnn14At16k, Cnn14At32k
from audiogen_cli.evaluation.networks.registry import load_network

CHANNELS = (2, 3, 4)


def tiny() -> Cnn14:
    torch.manual_seed(0)
    network = Cnn14(CHANNELS, n_classes=5)
    for name, tensor in network.state_dict().items():  # batch norms that do something
        if "running" in name:
            tensor.uniform_(0.5, 1.5)
    return network


class TinyPann(Cnn14At32k):
    dim = CHANNELS[-1]

    def build(self) -> Cnn14:
        return tiny()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save(tmp_path / "Cnn14_mAP=0.431.pth", tiny(), Cnn14At32k.filters())


def save(path: Path, network: Cnn14, filters: np.ndarray) -> Path:
    state = {**network.state_dict(), "logmel_extractor.melW": torch.from_numpy(filters)}
    state["spectrogram_extractor.stft.conv_real.weight"] = torch.zeros(3, 1, 4)
    torch.save({"model": state, "iteration": 7}, path)
    return path


def expected_output(wav: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits [5] and embedding [4] of a clip [N] at 32 kHz, by the paper's description."""
    w = weights_of(tiny().eval())
    wav = np.pad(wav - wav.mean(), (0, max(0, 32_000 - len(wav))))
    power = power_spectrum(wav, hann(1024, periodic=True), 1024, 320)
    decibels = 10 * np.log10(np.maximum(power @ Cnn14At32k.filters().astype(np.float64), 1e-10))
    x = batch_norm(decibels, w, "bn0", axis=1)[None]
    for block in range(1, len(CHANNELS) + 1):
        for layer in (1, 2):
            name = f"conv_block{block}"
            x = np.maximum(batch_norm(conv2d(x, w[f"{name}.conv{layer}.weight"]), w, f"{name}.bn{layer}"), 0)
        x = pool(x, "mean") if block < len(CHANNELS) else x
    x = x.mean(2)
    embedding = np.maximum(linear(x.max(1) + x.mean(1), w, "fc1"), 0)
    return linear(embedding, w, "fc_audioset"), embedding


@pytest.mark.parametrize("n_samples", [33_000, 8000], ids=["a second", "padded"])
def test_golden(checkpoint: Path, n_samples: int) -> None:
    wav = (0.1 * np.random.default_rng(1).normal(size=n_samples) + 0.05).astype(np.float32)
    output = TinyPann(WeightSource(checkpoint, device="cpu"))(wav, 32_000)
    logits, embedding = expected_output(wav.astype(np.float64))
    assert output.window_logits.shape == (1, 1, 5)
    assert output.logits[0] == pytest.approx(logits, abs=1e-4)
    assert output.embeddings[0, 0] == pytest.approx(embedding, abs=1e-4)


def test_the_published_network_has_the_published_size() -> None:
    with torch.device("meta"):
        network = Cnn14()
    assert sum(tensor.numel() for tensor in network.parameters()) == 80_753_615


def test_names_and_rates() -> None:
    assert (Cnn14At32k.name, Cnn14At32k.sample_rate, Cnn14At32k.distance) == ("pann_cnn14_32k", 32_000, "fd")
    assert (Cnn14At16k.name, Cnn14At16k.sample_rate, Cnn14At16k.filters().shape) == (
        "pann_cnn14_16k",
        16_000,
        (257, 64),
    )


def test_the_file_is_found_where_other_tools_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Path
) -> None:
    (tmp_path / "panns_data").mkdir()
    checkpoint.rename(tmp_path / "panns_data" / "Cnn14_mAP%3D0.431.pth")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert TinyPann().path.parent.name == "panns_data"


def test_the_variable_comes_before_the_cache(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> None:
    monkeypatch.setenv("AUDIOGEN_PANN", str(checkpoint))
    assert TinyPann().path == checkpoint
    monkeypatch.setenv("AUDIOGEN_PANN", "/nowhere.pth")
    with pytest.raises(InputError, match=r"the weights of pann are not at /nowhere\.pth"):
        TinyPann()


def test_a_missing_file_is_named_with_its_release_size_and_place() -> None:
    with pytest.raises(MissingWeightsError) as error:
        load_network("pann")
    for words in ("Cnn14_mAP=0.431.pth", "327 MB", "Zenodo record 3987831", "weights", "AUDIOGEN_PANN", "--download"):
        assert words in str(error.value)


def test_a_download_lands_in_the_cache_and_leaves_nothing_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Path
) -> None:
    from dataclasses import replace

    from audiogen_cli.errors import AudiogenError
    from audiogen_cli.evaluation.networks.weights import weights_folder

    monkeypatch.setattr(TinyPann, "file", replace(TinyPann.file, url=checkpoint.as_uri()))
    assert TinyPann(WeightSource(download=True)).path == weights_folder() / "Cnn14_mAP=0.431.pth"
    monkeypatch.setattr(TinyPann, "file", replace(TinyPann.file, name="other.pth", url=(tmp_path / "no").as_uri()))
    with pytest.raises(AudiogenError, match=r"fetch it by hand to .*other\.pth"):
        TinyPann(WeightSource(download=True))
    assert [path.name for path in weights_folder().iterdir()] == ["Cnn14_mAP=0.431.pth"]


def test_files_that_are_something_else(tmp_path: Path, checkpoint: Path) -> None:
    rubbish = tmp_path / "rubbish.pth"
    rubbish.write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="cannot be read as weights"):
        TinyPann(WeightSource(rubbish))
    torch.save({"weights": {}}, rubbish)
    with pytest.raises(InputError, match="no entry 'model'"):
        TinyPann(WeightSource(rubbish))
    with pytest.raises(InputError, match="holds another network's weights"):
        TinyPann(WeightSource(save(rubbish, Cnn14((2, 3), 5), Cnn14At32k.filters())))
    with pytest.raises(InputError, match="another mel filterbank"):
        TinyPann(WeightSource(save(rubbish, tiny(), Cnn14At32k.filters() * 1.1)))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"model": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(InputError, match="cannot be read as weights"):
        TinyPann(WeightSource(tmp_path / "trap.pth"))
    assert not (tmp_path / "sprung").exists()
