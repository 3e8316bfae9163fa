"""The numbers of the embedded model's card: does a model of the 50 ESC-50 classes say what it is asked to?

    pip install '.[eval]'
    python recipes/esc50/measure.py OUT/manifests --model OUT/lm-refined [--clips 4] [--only hits mixtures]

Real clips, the codec's reconstructions of them, and sounds generated for `prompts.csv`, `unseen_prompts.csv` and
`mixture_prompts.csv`, all heard by YAMNet. One JSON object a line on stdout.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from audiogen_cli.data.audio import read_audio
from audiogen_cli.data.datasets.esc50 import LICENSE_ESC10
from audiogen_cli.data.loudness import measure
from audiogen_cli.data.manifest import Clip, load_manifests
from audiogen_cli.data.mixing import draw_mix, mix
from audiogen_cli.evaluation.metrics.class_hits import category_of, class_hits, top_k_hit
from audiogen_cli.evaluation.networks.base import AudioNetwork
from audiogen_cli.evaluation.networks.registry import load_network
from audiogen_cli.lm.config import Sampling
from audiogen_cli.lm.generation.generator import Generator
from audiogen_cli.lm.generation.requests import GenerationRequest

HERE = Path(__file__).parent
SECONDS = 5.0
MIXTURE_K = 10  # both sounds of a mixture are looked for among so many guesses
SEEDS = 16  # of each prompt, to see how much they vary
PARTS = ("hits", "mixtures", "variety")

Sounds = dict[str, list[np.ndarray]]  # tag → waveforms [N]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--clips", type=int, default=4, help="of each class or prompt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="these parts")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=NUMBER", help="a sampling setting")
    options = parser.parse_args()

    generator, classifier = Generator.load(options.model), load_network("yamnet")
    changes = {key: json.loads(value) for key, value in (each.split("=") for each in options.set)}
    make = Maker(generator, replace(generator.sampling, **changes), options.seed)
    print(json.dumps({"model": generator.fingerprint[:12], "sampling": vars(make.sampling), "seed": options.seed}))

    held_out, training = (clips_by_tag(options.manifests, split) for split in ("val", "train"))
    real = {tag: [read(clip) for clip in clips[: options.clips]] for tag, clips in held_out.items()}
    if "hits" in options.only:
        easy = {clip.tags[0] for clips in held_out.values() for clip in clips if clip.license == LICENSE_ESC10}
        tell("real", hits(real, classifier, easy))
        coded = {tag: [through(generator, wav) for wav in wavs] for tag, wavs in real.items()}
        tell("codec", hits(coded, classifier, easy))
        for name in ("prompts", "unseen_prompts"):
            prompts = {row["tag"]: row["prompt"] for row in rows(f"{name}.csv")}
            tell(name, hits({tag: make(prompt, options.clips) for tag, prompt in prompts.items()}, classifier, easy))
    if "mixtures" in options.only:
        pairs = rows("mixture_prompts.csv")
        mixed = [mixture(real[pair["first"]][0], real[pair["second"]][-1], number) for number, pair in enumerate(pairs)]
        tell("real mixtures", mixture_hits(pairs, mixed, classifier))
        tell("mixture_prompts", mixture_hits(pairs, [make(pair["prompt"], 1)[0] for pair in pairs], classifier))
    if "variety" in options.only:
        results = []
        for row in rows("prompts.csv"):
            ours = embed(make(row["prompt"], SEEDS), classifier)
            theirs, known = (
                embed([read(clip) for clip in clips[row["tag"]]], classifier) for clips in (held_out, training)
            )
            results.append(
                {
                    "variety": spread(ours) / spread(theirs),
                    "nearest_training_clip": nearest(ours, known),
                    "nearest_training_clip_of_real": nearest(theirs, known),
                }
            )
            tell(f"{SEEDS} seeds of {row['tag']}", results[-1])
        tell("variety", {key: float(np.mean([result[key] for result in results])) for key in results[0]})


class Maker:
    """Generates clips of a prompt, with consecutive seeds."""

    def __init__(self, generator: Generator, sampling: Sampling, seed: int) -> None:
        self.generator, self.sampling, self.seed = generator, sampling, seed

    def __call__(self, prompt: str, n: int) -> list[np.ndarray]:
        """n waveforms [N]."""
        requests = [GenerationRequest(prompt, self.seed + i, SECONDS, self.sampling) for i in range(n)]
        made = dict(self.generator.generate(requests))
        return [made[i] for i in range(n)]


def rows(name: str) -> list[dict[str, str]]:
    """A prompt list beside this script."""
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def clips_by_tag(manifests: Path, split: str) -> dict[str, list[Clip]]:
    """The clips of a split, by class."""
    found: dict[str, list[Clip]] = defaultdict(list)
    for clip in load_manifests(manifests, splits=[split]):
        found[clip.tags[0]].append(clip)
    return dict(found)


def read(clip: Clip) -> np.ndarray:
    """The recording [N] at 16 kHz."""
    return read_audio(clip.audio_path, 16_000, clip.start, clip.duration)


def through(generator: Generator, wav: np.ndarray) -> np.ndarray:
    """What the codec makes of wav [N]."""
    with torch.no_grad():
        codes = generator.codec.encode(torch.from_numpy(wav)[None, None].to(generator.device))
        return generator.codec.decode(codes)[0, 0, : len(wav)].cpu().numpy()


def hits(sounds: Sounds, classifier: AudioNetwork, easy: set[str]) -> dict[str, float]:
    """Shares of clips whose class is among the five best guesses, over all and over ESC-10's; near silent ones."""
    found = class_hits(sounds, classifier)
    share = {tag: found.per_class[category_of(tag)].top5 for tag in sounds}
    return {
        "n": found.overall.n,
        "top5": found.overall.top5,
        "top1": found.overall.top1,
        "top5_esc10": float(np.mean([share[tag] for tag in sounds if tag in easy])),
        "near_silent": sum(measure(wav).near_silent for wavs in sounds.values() for wav in wavs),
    }


def mixture(first: np.ndarray, second: np.ndarray, seed: int) -> np.ndarray:
    """Two recordings [N] as the training data mix them, as long as the first."""
    a, b = (torch.from_numpy(wav)[None, None] for wav in (first, second))
    draw = draw_mix(torch.Generator().manual_seed(seed), len(first), len(second), len(first))
    return mix(a, b, [draw]).wav[0, 0].numpy()


def mixture_hits(
    pairs: Sequence[dict[str, str]], sounds: Sequence[np.ndarray], classifier: AudioNetwork
) -> dict[str, float]:
    """Shares of mixtures in which both classes, or the first or second, are among the ten best guesses."""
    guesses = [classifier(wav, 16_000).probabilities[0] for wav in sounds]
    first, second = (
        np.array(
            [
                top_k_hit(scores, classifier.classes, category_of(pair[which]), MIXTURE_K)
                for scores, pair in zip(guesses, pairs, strict=True)
            ]
        )
        for which in ("first", "second")
    )
    both = float((first & second).mean())
    return {"n": len(pairs), "both": both, "first": float(first.mean()), "second": float(second.mean())}


def embed(sounds: Sequence[np.ndarray], classifier: AudioNetwork) -> np.ndarray:
    """[clips, D]: each clip's mean embedding."""
    return np.stack([classifier(wav, 16_000).embeddings[0].mean(0) for wav in sounds])


def spread(points: np.ndarray) -> float:
    """Mean distance of two different points of [n, D]."""
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    return float(distances.sum() / (len(points) * (len(points) - 1)))


def nearest(points: np.ndarray, known: np.ndarray) -> float:
    """Mean distance from points [n, D] to the nearest of the known [m, D]."""
    return float(np.linalg.norm(points[:, None] - known, axis=-1).min(1).mean())


def tell(name: str, numbers: dict[str, float]) -> None:
    """A line of JSON."""
    print(json.dumps({"what": name, **{key: round(value, 4) for key, value in numbers.items()}}), flush=True)


if __name__ == "__main__":
    main()
