"""Makers of tiny models and data: codecs, language models, text encoders, token shards, manifests.

`tests/conftest.py` makes the usual ones once per session. Call a maker only for a variant of your own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from audiogen_cli.codec.config import CodecConfig, SEANetConfig, SpectralConfig
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.data.audio import write_audio
from audiogen_cli.data.manifest import Clip
from audiogen_cli.data.shards import ShardMeta, ShardWriter, TokenRow
from audiogen_cli.lm.adapters import AdapterBase, save_adapter
from audiogen_cli.lm.config import LMConfig, TextConfig
from audiogen_cli.lm.decoder import find_decoder
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.probe import Probe, read_blocks
from audiogen_cli.lm.text.encoders import load_text_encoder
from audiogen_cli.model_folder import copy_model, fingerprint, save_model
from helpers.manifests import write_manifest

WORDS = ["[UNK]", "[PAD]", "dog", "bark", "##s", "rain", "a"]
N_Q, CODEBOOK_SIZE = 2, 16
CONFIG = LMConfig(
    dim=32,
    n_layers=2,
    n_heads=2,
    n_q=3,
    codebook_size=17,
    frame_rate=25.0,
    sample_rate=16_000,
    codec_fingerprint="",
    max_frames=20,
    text=TextConfig("static"),
    text_width=6,
    pattern="delay",
)


def make_model(**changes: object) -> AudioLanguageModel:
    """A model of CONFIG, its weights large enough for every part to matter."""
    torch.manual_seed(0)
    model = AudioLanguageModel(dataclasses.replace(CONFIG, **changes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def make_word_vectors(folder: Path, width: int = 6) -> Path:
    """A model2vec folder that knows WORDS."""
    from model2vec import StaticModel
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    table = np.random.default_rng(0).normal(size=(len(WORDS), width)).astype(np.float32)
    StaticModel(table, tokenizer).save_pretrained(folder)
    return folder


def make_t5(folder: Path, width: int = 8) -> Path:
    """An untrained T5 and its tokenizer, which knows dog, bark and rain."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    words = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", "dog", "bark", "rain"])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    T5EncoderModel(T5Config(vocab_size=6, d_model=width, d_kv=4, d_ff=16, num_layers=2, num_heads=2)).save_pretrained(
        folder
    )
    return folder


def make_clip(folder: Path) -> Path:
    """Save an untrained CLIP text transformer of 9 positions, width 8, and its tokenizer, which knows dog and rain."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(WordLevel({"<s>": 0, "</s>": 1, "<unk>": 2, "dog": 3, "rain": 4}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="</s>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    CLIPTextModel(CLIPTextConfig(vocab_size=5, max_position_embeddings=9, **sizes, **ids)).save_pretrained(folder)
    return folder


def make_codec(folder: Path, seed: int = 0) -> Path:
    """Save an untrained SEANet codec: 16 kHz, 25 frames per second, 2 codebooks of 16 entries."""
    torch.manual_seed(seed)
    network = SEANetConfig(channels=2, strides=(4, 4, 5, 8), norm="none", lstm_layers=0)
    codec = AudioCodec(CodecConfig(network=network, latent_dim=8, n_q=N_Q, codebook_size=CODEBOOK_SIZE))
    codec.save(folder, "codec's licence")
    return folder


def make_light_codec(folder: Path) -> Path:
    """Save an untrained light (spectral) codec: 16 kHz, 25 frames per second, 2 codebooks of 16 entries."""
    torch.manual_seed(0)
    network = SpectralConfig(frames_per_code=4)
    AudioCodec(CodecConfig(network=network, latent_dim=8, n_q=N_Q, codebook_size=CODEBOOK_SIZE)).save(folder, "CC0\n")
    return folder


def make_rows(lengths: Sequence[int], split: str = "train") -> list[TokenRow]:
    """Clips that can be learnt: every stream counts upwards, from a place that the text decides."""
    rows = []
    for i, length in enumerate(lengths):
        word = ["dog", "rain", "bark"][i % 3]
        codes = (np.arange(length) + 5 * (i % 3) + np.arange(N_Q)[:, None]) % CODEBOOK_SIZE
        rows.append(TokenRow(f"t/{split}{i}", "t", split, (word,), codes, captions=(f"The {word}!",)))
    return rows


def make_shards(folder: Path, codec: Path, rows: Sequence[TokenRow]) -> Path:
    """Token shards of `rows`, as if `codec` had made them."""
    meta = ShardMeta(fingerprint(codec), N_Q, CODEBOOK_SIZE, 25.0, 16_000, {})
    writer = ShardWriter(folder, meta, ["one"])
    writer.write(0, rows)
    writer.finish()
    return folder


def make_probe(model: AudioLanguageModel) -> Probe:
    """A random probe for a model."""
    generator = torch.Generator().manual_seed(0)
    n_features = 2 * len(read_blocks(model.config.n_layers)) * model.config.dim
    sizes = ((model.config.text_width, n_features), (model.config.text_width,), (model.config.text_width,))
    return Probe(*(torch.randn(size, generator=generator) / len(size) for size in sizes))


def make_lm(folder: Path, codec: Path, text: TextConfig, license: str, **changes: object) -> Path:
    """Save an untrained language model with a copy of its codec. changes: fields of LMConfig."""
    network, encoder = AudioCodec.load(codec), load_text_encoder(text)
    config = LMConfig(
        **{
            "dim": 16,
            "n_layers": 2,
            "n_heads": 2,
            "n_q": N_Q,
            "codebook_size": CODEBOOK_SIZE,
            "frame_rate": network.frame_rate,
            "sample_rate": network.sample_rate,
            "codec_fingerprint": fingerprint(codec),
            "max_frames": 125,
            "text": text,
            "text_width": encoder.width,
            "text_fingerprint": encoder.fingerprint,
            **changes,
        }
    )
    torch.manual_seed(0)
    save_model(folder, "lm", config, find_decoder(config).build(config).state_dict(), license)
    copy_model(codec, folder / "codec")
    return folder


def make_adapter(folder: Path, model: Path, license: str, seed: int = 0, **settings: object) -> Path:
    """Save an untrained adapter, of rank 2, that changes all of a model's attention."""
    torch.manual_seed(seed)
    weights = {}
    for name, weight in AudioLanguageModel.load(model).named_parameters():
        if name.endswith("attention.out.weight"):
            module = name.removesuffix(".weight")
            weights[f"{module}.lora_A.weight"] = torch.randn(2, weight.shape[1])
            weights[f"{module}.lora_B.weight"] = torch.randn(weight.shape[0], 2)
    settings = {"r": 2, "lora_alpha": 4, "peft_type": "LORA", **settings}
    save_adapter(folder, weights, settings, AdapterBase(fingerprint(model), str(model)), license)
    return folder


def chirp(seed: int, duration: float = 1.0, sample_rate: int = 16_000) -> np.ndarray:
    """A sound that differs for every seed: two gliding tones and a little noise, [N] float32."""
    generator = np.random.default_rng(seed)
    t = np.arange(round(duration * sample_rate)) / sample_rate
    tones = sum(np.sin(2 * np.pi * (low + rise * t) * t) for low, rise in generator.uniform(100, 1500, (2, 2)))
    return np.asarray(0.2 * tones + 0.01 * generator.normal(size=len(t)), np.float32)


def make_manifests(folder: Path) -> Path:
    """Write `raw/*.wav` and `manifests/esc50.parquet`; return the manifest folder.

    24 clips of 0.5 s, 16 kHz, of three classes in turn: 8 for training, 4 for validation, 12 for testing.
    """
    clips = []
    for split, fold, n_clips in (("train", 1, 8), ("val", 4, 4), ("test", 5, 12)):
        for index in range(n_clips):
            name, category = f"{fold}-{index}-A-0", ("dog", "clock alarm", "rain")[index % 3]
            write_audio(folder / "raw" / f"{name}.wav", chirp(100 * (5 - fold) + index, 0.5), 16_000)
            texts = (category, "another text")
            place = (f"esc50/{name}", "esc50", split, f"{name}.wav")
            clips.append(Clip(*place, 0.0, 0.5, 16_000, 1, captions=(), tags=(category,), texts=texts, license=""))
    path = folder / "manifests" / "esc50.parquet"
    write_manifest(path, clips, {"dataset": "esc50", "root": str(folder / "raw"), "options": {}})
    return path.parent
