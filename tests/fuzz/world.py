"""What the fuzzer damages: one small folder with a file of every format that audiogen reads, and who reads it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

Audiogen = Callable[..., object]

LM_RECIPE = """
model: {dim: 16, n_layers: 1, n_heads: 2}
text: {kind: static, name: vectors}
optim: {lr: 0.01, schedule: constant, warmup_steps: 2, batch_size: 2, micro_batch: 2}
sampling: {guidance: 2.0, top_p: 0.9}
previews: {every: 0, prompts: [a dog barks], duration: 0.2}
crop_seconds: 0.32
max_steps: 2
ema_decay: 0.5
log_every: 1
validate_every: 2
validate_samples: 2
save_every: 1
probe_samples: 2
license: CC0
"""
CODEC_RECIPE = """
codec: {network: {kind: seanet, channels: 2, strides: [4, 4, 5, 8], lstm_layers: 0, norm: none},
  latent_dim: 8, n_q: 2, codebook_size: 16}
discriminator: {channels: 2}
precision: 'no'
max_steps: 2
batch_size: 2
crop_seconds: 0.2
workers: 0
log_every: 1
validate_every: 100
save_every: 1
"""
CAPTIONS = "file,caption,split\na.wav,a dog barks,train\nb.wav,rain falls,val\n"
PROMPTS_CSV = "prompt,seed,duration,guidance,top_k,name\na dog barks,7,0.2,2.5,3,dog\nrain,8,0.2,1,0,rain\n"
PROMPTS_JSON = [
    {"prompt": "a dog barks", "seed": 3, "duration": 0.2, "top_p": 0.5, "name": "one", "note": [1]},
    {"prompt": "rain", "temperature": 0.5, "candidates": 1},
]
RESULTS = {
    "task": "generation", "split": None, "partial": False, "n": 3, "n_available": 3, "limit": None, "seed": 0,
    "metrics": {"fad_yamnet": 12.25, "kl_yamnet": 3.5}, "intervals": {"kl_yamnet": [3.0, 4.0]},
    "baselines": {"silence": {"fad_yamnet": 400.0, "kl_yamnet": None}}, "published": {},
    "details": {"clips": {"id": ["a", "b", "c"], "kl_yamnet": [1.0, 2.0, 3.0]},
                "class_hits": {"generated": {"dog": {"top1": 0.5, "top5": 1.0}}}},
    "warnings": ["few clips"], "skipped": [{"id": "d", "reason": "gone"}], "reference": "sounds", "generated": "sounds",
    "sampling": {"guidance": 3.0, "top_p": 0.25}, "versions": {"numpy": "1"},
}  # fmt: skip
CELLS = [
    {"prompt_seconds": seconds, "text": text, "scored": "whole", "fad_yamnet": 9.0, "kl_yamnet_src": 3.0,
     "kl_yamnet_rnd": 1.5, "intervals": {"kl_yamnet_src": [0.5, 3.5]}}
    for seconds in (0.5, 1.0) for text in ("src", "none", "rnd")
]  # fmt: skip
USAGE = {"entropy_bits": [3.5, 2.0], "perplexity": [11.3, 4.0], "used": [0.9, 0.5]}


@dataclass(frozen=True)
class Target:
    """A file to damage. runs: command lines that read it, relative to the world; `--out new` must not be there."""

    file: str
    kind: str
    runs: tuple[str, ...]
    weight: int = 1


GENERATE = "generate dog --model lm --duration 0.2 --seed 1 -o new.wav"
TOKENIZE = "tokenize --manifests manifests --codec codec --out new"
TRAIN = "train-lm --config lm.yaml --tokens tokens --out new --max-steps 1"
RESUME = "train-lm --config lm.yaml --tokens tokens --out run"
TRAIN_CODEC = "train-codec --config codec.yaml --manifests manifests --out new --max-steps 1"
RESUME_CODEC = "train-codec --config codec.yaml --manifests manifests --out codec-run"
PREP = "prep --folder sounds --name mine --captions captions.csv --out new --workers 1"
PREP_AGAIN = "prep --folder sounds --name mine --captions captions.csv --out prepared --workers 1"
SCORE = "eval --task listening --score ratings --out ratings"
EVAL = "eval --reference sounds --generated made --metrics fad --out new"
STATE = "checkpoints/step-000002"

TARGETS = (
    Target("manifests/esc50.parquet", "parquet", ("info manifests", "info manifests/esc50.parquet", TOKENIZE), 6),
    Target("manifests/esc50.parquet", "parquet", (TRAIN_CODEC,)),
    Target("manifests/esc50.dropped.jsonl", "jsonl", ("info manifests",)),
    Target("tokens/shard-00000.parquet", "parquet", ("info tokens", TRAIN), 6),
    Target("tokens/.cache/**/*.arrow", "bytes", (TRAIN,), 2),
    Target("tokens/meta.json", "json", ("info tokens", TRAIN), 4),
    Target("tokens/codec/config.json", "json", (TRAIN,)),
    Target("lm/config.json", "json", ("info lm", GENERATE, GENERATE), 8),
    Target("lm/model.safetensors", "safetensors", ("info lm", GENERATE), 3),
    Target("lm/probe.safetensors", "safetensors", (GENERATE + " --candidates 2",), 2),
    Target("lm/LICENSE", "bytes", ("info lm", GENERATE)),
    Target("lm/codec/config.json", "json", ("info lm", GENERATE), 3),
    Target("codec/config.json", "json", ("info codec", TOKENIZE), 5),
    Target("light/config.json", "json", ("info light", "tokenize --manifests manifests --codec light --out new"), 5),
    Target("codec/model.safetensors", "safetensors", ("info codec", TOKENIZE), 2),
    Target("vectors/model.safetensors", "safetensors", (TRAIN,)),
    Target("vectors/config.json", "json", (TRAIN,)),
    Target("vectors/tokenizer.json", "json", (TRAIN,)),
    Target("run/run.json", "json", (RESUME, "info run"), 3),
    Target("run/metrics.jsonl", "jsonl", (RESUME, "info run"), 2),
    Target(f"run/{STATE}/training.pt", "torch", (RESUME,), 4),
    Target(f"run/{STATE}/config.json", "json", (RESUME, "info run", f"info run/{STATE}"), 2),
    Target(f"run/{STATE}/model.safetensors", "safetensors", (RESUME,), 2),
    Target("codec-run/run.json", "json", (RESUME_CODEC, "info codec-run")),
    Target(f"codec-run/{STATE}/training.pt", "torch", (RESUME_CODEC,), 3),
    Target(f"codec-run/{STATE}/model.safetensors", "safetensors", (RESUME_CODEC,)),
    Target("lm.yaml", "yaml", (TRAIN,), 6),
    Target("codec.yaml", "yaml", (TRAIN_CODEC,), 4),
    Target("captions.csv", "csv", (PREP,), 3),
    Target("prepared/.cache/*.sqlite", "sqlite", (PREP_AGAIN,), 3),
    Target("prompts.csv", "prompts", ("generate --prompts prompts.csv --model lm --out-dir new --duration 0.2",), 3),
    Target("prompts.jsonl", "jsonl", ("generate --prompts prompts.jsonl --model lm --out-dir new --duration 0.2",), 4),
    Target("made/done.json", "json", ("info made/done.wav", "generate dog --model lm --out-dir made --duration 0.2")),
    Target("ratings/plan.json", "json", (SCORE,), 3),
    Target("ratings/ours.csv", "csv", (SCORE,), 3),
    Target("plain/plain.csv", "csv", ("eval --task listening --score plain/plain.csv --out new",), 3),
    Target("ratings/results.json", "json", (SCORE, "eval --report --out ratings"), 3),
    Target("results/generation/results.json", "json", ("eval --report --out results/generation",), 3),
    Target("results/codec/results.json", "json", ("eval --report --out results/codec",), 2),
    Target("results/continuation/results.json", "json", ("eval --report --out results/continuation",), 3),
    Target("results/generation/results.json", "json", ("eval --report --out results",), 3),
    Target("cache/embeddings/*/*/*.npz", "arrays", (EVAL,), 2),
    Target("export/state_dict.bin", "torch", ("import export --out new",), 3),
    Target("export/compression_state_dict.bin", "torch", ("import export --out new",), 3),
    Target("export/lm.yaml", "yaml", ("import export --out new",), 3),
    Target("sounds/a.wav", "bytes", ("info sounds/a.wav", PREP, "continue sounds/a.wav --model lm -o new.wav"), 2),
)


def make_world(folder: Path, audiogen: Audiogen, zoo: dict[str, Path]) -> Path:
    """Fill `folder` with all files of TARGETS. zoo: tests/conftest.py's models and data by name."""
    from helpers.zoo import chirp, make_probe

    from audiogen_cli.data.audio import write_audio
    from audiogen_cli.data.manifest import Dropped, new_dropped
    from audiogen_cli.lm.model import AudioLanguageModel

    shutil.copytree(zoo["manifests"], folder / "manifests")
    with new_dropped(folder / "manifests" / "esc50.dropped.jsonl") as add:
        add(Dropped("esc50/x", "train", "x.wav", "missing", "no such file"))
    for name in ("tokens", "codec", "light", "lm", "vectors"):
        shutil.copytree(zoo[name], folder / name, ignore=shutil.ignore_patterns(".cache"))
    shutil.copytree(zoo["codec"], folder / "tokens" / "codec")
    make_probe(AudioLanguageModel.load(folder / "lm")).save(folder / "lm")
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        for place in ("sounds", "made"):
            write_audio(folder / place / f"{name}.wav", chirp(seed, 1.0), 16_000)
    write_audio(folder / "made" / "done.wav", chirp(1, 0.2), 16_000)
    (folder / "captions.csv").write_text(CAPTIONS)
    (folder / "prompts.csv").write_text(PROMPTS_CSV)
    (folder / "prompts.jsonl").write_text("".join(json.dumps(each) + "\n" for each in PROMPTS_JSON))
    (folder / "lm.yaml").write_text(LM_RECIPE)
    (folder / "codec.yaml").write_text(CODEC_RECIPE)
    _write_results(folder)
    _write_ratings(folder)
    _write_export(folder / "export")
    audiogen("generate", "dog", "--model", "lm", "--seed", "1", "--duration", "0.2", "--json", "-o", "made/done.wav")
    for command in (RESUME, RESUME_CODEC, PREP_AGAIN, SCORE, EVAL):
        audiogen(*command.split())
    shutil.rmtree(folder / "new", ignore_errors=True)
    return folder


def _write_results(folder: Path) -> None:
    details = {"cells": CELLS, "pairs": {"a": "b"}, "published": []}
    kinds = {
        "generation": RESULTS,
        "codec": RESULTS | {"task": "codec", "details": {"code_usage": USAGE}},
        "continuation": RESULTS | {"task": "continuation", "details": details, "metrics": {}, "intervals": {}},
    }
    for name, results in kinds.items():
        (folder / "results" / name).mkdir(parents=True)
        (folder / "results" / name / "results.json").write_text(json.dumps(results))


def _write_ratings(folder: Path) -> None:
    random = np.random.default_rng(0)
    systems = {"aa": "reference", "bb": "model", "cc": "anchor35"}
    items = [
        {"item": f"i{number}", "id": f"x/{number}", "text": "a dog", "duration": 1.0, "pages": {"ovl": systems}}
        for number in range(3)
    ]
    plan = {"format_version": 1, "test": "t", "split": None, "seed": 0, "items": items}
    for name in ("ratings", "plain"):
        (folder / name).mkdir()
    (folder / "ratings" / "plan.json").write_text(json.dumps(plan))
    ours, plain = ["test,rater,item,question,stimulus,score,seconds,complete"], ["rater,item,system,score"]
    for rater in ("ann", "bob", "cem"):
        for item in ("i0", "i1", "i2"):
            for blind, low in (("aa", 90), ("bb", 50), ("cc", 10)):
                score = low + int(random.integers(0, 10))
                ours.append(f"t,{rater},{item},ovl,{blind},{score},9,1")
                plain.append(f"{rater},{item},{systems[blind]},{score}")
    (folder / "ratings" / "ours.csv").write_text("\n".join(ours) + "\n")
    (folder / "plain" / "plain.csv").write_text("\n".join(plain) + "\n")


def _write_export(folder: Path) -> None:
    from helpers import exported

    exported.write_checkpoint(folder)
    (folder / "lm.yaml").write_text(exported.CONFIG)  # damaged as a file, then put where it belongs


def put_back(folder: Path, target: Target) -> None:
    """Put a damaged configuration into the checkpoint that holds it as a text."""
    if target.file == "export/lm.yaml":
        import torch

        package = torch.load(folder / "export" / "state_dict.bin", weights_only=True)
        package["xp.cfg"] = (folder / "export" / "lm.yaml").read_text("utf-8", "replace")
        torch.save(package, folder / "export" / "state_dict.bin")


def copy_world(world: Path, folder: Path) -> None:
    """Copy a world; hard links where nothing is changed in place."""
    own = {".sqlite", ".jsonl", ".json", ".csv", ".yaml", ".bin"}

    def copy(source: str, target: str) -> None:
        if Path(source).suffix in own or source.endswith("LICENSE"):
            shutil.copy2(source, target)
        else:
            os.link(source, target)

    shutil.copytree(world, folder, copy_function=copy)


def find_target(folder: Path, target: Target) -> Path:
    """Return the damaged file of a target, a copy of its own."""
    path = min(folder.glob(target.file))
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    return path


__all__ = ["TARGETS", "Target", "copy_world", "find_target", "make_world", "put_back", "replace"]
