"""The numbers of the embedded model's card: does a model of the 50 ESC-50 classes say what it is asked to?

    pip install '.[eval]'
    python recipes/esc50/measure.py OUT/manifests --model OUT/lm-refined [--clips 4] [--only hits pitch]

Real clips, the codec's reconstructions of them, and sounds generated for `prompts.csv`, `unseen_prompts.csv` and
`mixture_prompts.csv`, all heard by YAMNet, and how hoarse pitched ones are. One JSON object a line on stdout.
Recordings are those that the model was watched on (`val`); where a class has too few, its others stand for real ones.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from audiogen_cli.data.audio import read_audio
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
PARTS = ("hits", "mixtures", "variety", "pitch")
ESC10 = [
    *("chainsaw", "clock tick", "crackling fire", "crying baby", "dog"),
    *("helicopter", "rain", "rooster", "sea waves", "sneezing"),
]
PITCHED = ("cat", "chirping birds", "church bells", "cow", "crow", "crying baby", "rooster", "siren")
PITCH_RANGE = 75, 1500  # Hz
VOICED, LOUD = 0.7, 10**-2.5  # of a frame's energy repeats at its pitch; of the loudest frame's power

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
    known = {tag: [*held_out.get(tag, []), *training[tag]] for tag in sorted(training)}
    real = {tag: [read(clip) for clip in clips[: options.clips]] for tag, clips in known.items()}
    watched = {tag: [read(clip) for clip in clips] for tag, clips in held_out.items()}
    if "hits" in options.only:
        tell("real", hits(real, classifier))
        tell("real, held out", hits(watched, classifier))
        tell(
            "codec, held out",
            hits({tag: [through(generator, wav) for wav in watched[tag]] for tag in watched}, classifier),
        )
        for name in ("prompts", "unseen_prompts"):
            made = {row["tag"]: make(row["prompt"], options.clips) for row in rows(f"{name}.csv")}
            tell(name, hits(made, classifier))
    if "mixtures" in options.only:
        pairs = rows("mixture_prompts.csv")
        mixed = [mixture(real[pair["first"]][0], real[pair["second"]][-1], number) for number, pair in enumerate(pairs)]
        tell("real mixtures", mixture_hits(pairs, mixed, classifier))
        tell("mixture_prompts", mixture_hits(pairs, [make(pair["prompt"], 1)[0] for pair in pairs], classifier))
    if "variety" in options.only:
        results = []
        for row in rows("prompts.csv"):
            results.append(variety(make(row["prompt"], SEEDS), known[row["tag"]], classifier))
            tell(f"{SEEDS} seeds of {row['tag']}", results[-1])
        tell("variety", {key: float(np.mean([result[key] for result in results])) for key in results[0]})
    if "pitch" in options.only:
        prompts = {row["tag"]: row["prompt"] for row in rows("prompts.csv")}
        for tag in PITCHED:
            tell(f"pitch of {tag}", pitch(generator, watched[tag], make(prompts[tag], options.clips)))


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


def hits(sounds: Sounds, classifier: AudioNetwork) -> dict[str, float | list[str]]:
    """Shares of clips whose class is among the five best guesses, over all and over ESC-10's; near silent ones."""
    found = class_hits(sounds, classifier)
    share = {tag: found.per_class[category_of(tag)].top5 for tag in sounds}
    return {
        "n": found.overall.n,
        "top5": found.overall.top5,
        "top1": found.overall.top1,
        "top5_esc10": float(np.mean([share[tag] for tag in ESC10 if tag in sounds])),
        "near_silent": sum(measure(wav).near_silent for wavs in sounds.values() for wav in wavs),
        "never": [tag for tag in sounds if not share[tag]],
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


def variety(made: Sequence[np.ndarray], clips: Sequence[Clip], classifier: AudioNetwork) -> dict[str, float]:
    """How far sounds of a class are from each other, over real clips' mean distance, and from the nearest real clip.

    copies: the share of sounds nearer to a clip than any two clips of different recordings are.
    """
    ours, theirs = embed(made, classifier), embed([read(clip) for clip in clips], classifier)
    recordings = np.array([clip.id.split("-")[1] for clip in clips])
    apart = distances(theirs, theirs)[recordings[:, None] != recordings]
    nearest = distances(ours, theirs).min(1)
    return {
        "variety": float(distances(ours, ours)[~np.eye(len(ours), dtype=bool)].mean() / apart.mean()),
        "nearest_clip": float(nearest.mean()),
        "copies": float((nearest < apart.min()).mean()),
    }


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distances of the points [n, D] from the points [m, D]: [n, m]."""
    return np.linalg.norm(a[:, None] - b, axis=-1)


def pitch(generator: Generator, recorded: Sequence[np.ndarray], made: Sequence[np.ndarray]) -> dict[str, float]:
    """Mean harmonics-to-noise ratios of voiced frames, in dB: of recordings, of the codec's copies, of sounds made.

    A copy is measured where its recording is voiced. voiced: shares of loud frames.
    """
    of_recorded, of_made = ([periodicity(wav) for wav in wavs] for wavs in (recorded, made))
    of_copies = [periodicity(through(generator, wav))[0] for wav in recorded]
    return {
        "recorded_dB": to_decibels([shares[loud & (shares > VOICED)] for shares, loud in of_recorded]),
        "coded_dB": to_decibels(
            [copy[loud & (shares > VOICED)] for copy, (shares, loud) in zip(of_copies, of_recorded, strict=True)]
        ),
        "made_dB": to_decibels([shares[loud & (shares > VOICED)] for shares, loud in of_made]),
        "voiced_recorded": float(np.mean(np.concatenate([shares[loud] > VOICED for shares, loud in of_recorded]))),
        "voiced_made": float(np.mean(np.concatenate([shares[loud] > VOICED for shares, loud in of_made]))),
    }


def periodicity(wav: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share of each 40 ms frame's energy that repeats at its pitch (Boersma 1993), and whether it is loud: [F]."""
    size, hop = 640, 160
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(wav, (0, size)), size)[::hop]
    frames = frames - frames.mean(1, keepdims=True)
    window = np.hanning(size)
    repeats = autocorrelation(frames * window) / autocorrelation(window[None])
    low, high = PITCH_RANGE
    power = (frames**2).mean(1)
    return repeats[:, 16_000 // high : 16_000 // low].max(1), power > LOUD * power.max()


def autocorrelation(frames: np.ndarray) -> np.ndarray:
    """Of frames [n, size], over the energy of each: [n, size // 2]."""
    size = frames.shape[1]
    found = np.fft.irfft(np.abs(np.fft.rfft(frames, 2 * size)) ** 2)[:, : size // 2]
    return found / np.maximum(found[:, :1], 1e-12)


def to_decibels(shares: Sequence[np.ndarray]) -> float:
    """The mean ratio of what repeats to what does not."""
    known = np.concatenate(shares).clip(0.001, 0.9999)
    return float((10 * np.log10(known / (1 - known))).mean()) if len(known) else float("nan")


def tell(name: str, numbers: Mapping[str, float | list[str]]) -> None:
    """A line of JSON."""
    rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in numbers.items()}
    print(json.dumps({"what": name, **rounded}), flush=True)


if __name__ == "__main__":
    main()
