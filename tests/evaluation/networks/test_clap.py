"""The CLAP backend over a tiny random model of transformers, made here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.metrics.clap import clap_score
from audiogen_cli.evaluation.networks import clap
from audiogen_cli.evaluation.networks.base import MissingWeightsError, WeightSource
from audiogen_cli.evaluation.networks.clap import Clap

WORDS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "d", "o", "g", "r", "a", "i", "n", "Ġ"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "clap-tiny"
    text = {"vocab_size": len(WORDS), "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    audio = {"patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [2, 2], "hidden_size": 16}
    config = ClapConfig(
        text_config={**text, "intermediate_size": 8, "max_position_embeddings": 20, "pad_token_id": 1},
        audio_config={**audio, "num_hidden_layers": 2, "spec_size": 256, "window_size": 8},
        projection_dim=6,
    )
    ClapModel(config).save_pretrained(path)
    ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(path)
    (path / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(WORDS)}), "utf-8")
    (path / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}), "utf-8")
    return path


@pytest.fixture(scope="module")
def tiny_clap(folder: Path) -> Clap:
    return Clap(WeightSource(folder, device="cpu"))


def sounds() -> np.ndarray:
    return (0.1 * np.random.default_rng(0).normal(size=(2, 24_000))).astype(np.float32)


def test_it_is_what_transformers_forward_says(tiny_clap: Clap) -> None:
    inputs = tiny_clap.features(list(sounds()), sampling_rate=48_000, return_tensors="pt")
    tokens = tiny_clap.tokenizer(["dog", "rain"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = tiny_clap.model(**inputs, **tokens)
    output = tiny_clap(sounds(), 48_000)
    assert output.embeddings[:, 0] == pytest.approx(expected.audio_embeds.numpy(), abs=1e-5)
    assert tiny_clap.embed_texts(["dog", "rain"]) == pytest.approx(expected.text_embeds.numpy(), abs=1e-5)
    assert output.window_logits.shape == (2, 1, 0)


def test_embeddings_have_length_1_and_the_score_is_their_cosine(tiny_clap: Clap) -> None:
    embeddings = tiny_clap(sounds(), 48_000).embeddings[:, 0]
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(1, abs=1e-5)
    texts = tiny_clap.embed_texts(["dog", "rain"])
    cosine = [
        text @ sound / np.linalg.norm(text) / np.linalg.norm(sound)
        for text, sound in zip(texts, embeddings, strict=True)
    ]
    assert clap_score(texts, embeddings) == pytest.approx(cosine, abs=1e-6)


def test_a_clip_of_a_fused_model_does_not_depend_on_the_others(folder: Path, tmp_path: Path) -> None:
    """Of a batch without a longer one transformers, as laion_clap, takes one at random for longer than 10 s."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    path = shutil.copytree(folder, tmp_path / "clap-fused")
    config = ClapConfig.from_pretrained(folder)
    config.audio_config.enable_fusion = True
    torch.manual_seed(0)
    ClapModel(config).save_pretrained(path)
    ClapFeatureExtractor(truncation="fusion").save_pretrained(path)
    fused = Clap(WeightSource(path, device="cpu"))
    alone = np.concatenate([fused(wav, 48_000).embeddings for wav in sounds()])
    assert fused(sounds(), 48_000).embeddings == pytest.approx(alone, abs=1e-5)


def test_its_name_says_which_checkpoint(tiny_clap: Clap, folder: Path) -> None:
    assert tiny_clap.name == "clap_tiny"
    assert (tiny_clap.dim, tiny_clap.path) == (6, folder / "model.safetensors")
    assert len(tiny_clap.sha256) == 64


def test_a_longer_clip_is_refused(tiny_clap: Clap) -> None:
    with pytest.raises(ValueError, match="takes 10 s at most"):
        tiny_clap(np.zeros(500_000, np.float32), 48_000)


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a CLAP model folder"):
        Clap(WeightSource(tmp_path))


def test_absent_weights_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(clap, "DEFAULT", "nobody/never-made-this-model")
    with pytest.raises(MissingWeightsError, match=r"nobody/never-made-this-model .*AUDIOGEN_CLAP .*--download"):
        Clap()


def test_a_model_whose_download_was_stopped_is_not_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.delenv("AUDIOGEN_CLAP", raising=False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(MissingWeightsError, match="is not in its cache"):
        clap._find(WeightSource())
    (tmp_path / "model.safetensors").touch()
    assert clap._find(WeightSource())[0] == tmp_path
