"""A tiny world for the language model's tests: word vectors, a codec, and token shards."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from audiogen_cli.codec.config import CodecConfig, SEANetConfig
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.data.shards import ShardMeta, ShardWriter, TokenRow
from audiogen_cli.lm.config import LMConfig, Sampling, TextConfig
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.probe import Probe, read_blocks
from audiogen_cli.model_folder import copy_model, fingerprint, save_model

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


def make_codec(folder: Path, seed: int = 0) -> Path:
    """An untrained codec of 25 frames a second, two streams of 16 codes."""
    torch.manual_seed(seed)
    network = SEANetConfig(channels=2, strides=(4, 4, 5, 8), norm="none", lstm_layers=0)
    codec = AudioCodec(CodecConfig(network=network, latent_dim=8, n_q=N_Q, codebook_size=CODEBOOK_SIZE))
    codec.save(folder, "codec's licence")
    return folder


def make_rows(lengths: Sequence[int], split: str = "train") -> list[TokenRow]:
    """Clips that can be learnt: every stream counts upwards, from a place that the text decides."""
    rows = []
    for i, length in enumerate(lengths):
        word = ["dog", "rain", "bark"][i % 3]
        codes = (np.arange(length) + 5 * (i % 3) + np.arange(N_Q)[:, None]) % CODEBOOK_SIZE
        rows.append(TokenRow(f"t/{split}{i}", "t", split, (word,), codes))
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


def make_lm(root: Path) -> Path:
    """The folder of a tiny language model with random weights, its codec and its word vectors beside it."""
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
