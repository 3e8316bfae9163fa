"""Inpainting in numbers: a second of real clips is cut out and filled in again by a diffusion model.

    python recipes/sweeps/inpainting.py MANIFESTS MODEL [--clips 50] [--split esc50-val]

One JSON object on stdout: how many clips are outside of the second what they were, bit for bit; the mean distance of
log mels (YAMNet's, 25 ms every 10 ms) inside of it from the recording's, and of what else could stand there: silence,
white noise of the recording's level, another clip's second, and the recording as the codec returns it, which is the
best that can be reached; and in how many clips no step from sample to sample is larger than the clip's own largest, at
the seams and in the 20 ms on either side of them.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice, zip_longest
from pathlib import Path

import numpy as np
import torch

from audiogen_cli.data.audio import read_audio
from audiogen_cli.evaluation.mel import log_mel
from audiogen_cli.evaluation.references import Reference, limit_clips, load_references
from audiogen_cli.lm.generation.generator import Generator
from audiogen_cli.lm.generation.inpainting import fill_regions
from audiogen_cli.lm.generation.requests import GenerationRequest
from audiogen_cli.lm.generation.tracks import JOIN_SECONDS

BEGIN, END = 2.0, 3.0  # seconds
AUDIBLE = 10 ** (-50 / 20)  # root mean square of a second worth cutting out; many clips of ESC-50 are padded with zeros
OFFSET = 1e-3  # of the log mels


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path)
    parser.add_argument("model")
    parser.add_argument("--split", default="esc50-val")
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=NUMBER", help="a sampling setting")
    options = parser.parse_args()

    generator = Generator.load(options.model)
    changes = {key: json.loads(value) for key, value in (each.split("=") for each in options.set)}
    sampling = replace(generator.sampling, **changes)
    references, _ = load_references(options.split, options.manifests, None)
    if len(clips := list(audible(references, options.clips))) < 2:
        parser.error(f"{options.split} has {len(clips)} clips with a sound in the second that is filled in; it takes 2")
    cut = slice(round(BEGIN * generator.sample_rate), round(END * generator.sample_rate))

    requests = []
    for number, (reference, _) in enumerate(clips):
        plain = GenerationRequest(reference.caption, number, 0.0, sampling)
        requests.append(fill_regions(plain, reference.recording.path, [(BEGIN, END)], generator.config))
    filled = dict(generator.generate(requests))

    found = defaultdict(list)
    for number, (_, wav) in enumerate(clips):
        real, other = wav[cut], clips[number - 1][1][cut]
        noise = np.random.default_rng(number).normal(0, level(real), len(real)).astype(np.float32)
        instead = {
            "filled": filled[number][cut],
            "codec": through(generator, wav)[cut],
            "silence": np.zeros_like(real),
            "noise": noise,
            "another": other,
        }
        for name, sound in instead.items():
            found[name].append(float(np.abs(log_mel(sound, OFFSET) - log_mel(real, OFFSET)).mean()))
        outside = [
            np.array_equal(filled[number][part], wav[part]) for part in (slice(cut.start), slice(cut.stop, None))
        ]
        found["exact"].append(all(outside) and len(filled[number]) == len(wav))
        for name, n_join in (("seams", 1), ("around", round(JOIN_SECONDS * generator.sample_rate))):
            found[name].append(seam_step(filled[number], cut, n_join) <= np.abs(np.diff(wav)).max())
    distances = {name: np.array(found[name]) for name in ("filled", "codec", "silence", "noise", "another")}
    print(
        json.dumps(
            {
                "model": generator.fingerprint[:12],
                "clips": len(clips),
                "outside bit-exact": int(sum(found["exact"])),
                "no step above the clip's own": {name: int(sum(found[name])) for name in ("seams", "around")},
                "mean distance": {name: round(float(each.mean()), 3) for name, each in distances.items()},
                "clips in which it is nearer": {
                    name: int((distances["filled"] < distances[name]).sum()) for name in ("silence", "noise", "another")
                },
            }
        )
    )


def audible(references: list[Reference], n: int) -> Iterator[tuple[Reference, np.ndarray]]:
    """Yield n clips, spread over the texts, in whose second there is something to hear, and their samples [N]."""
    found: dict[str | None, list[tuple[Reference, np.ndarray]]] = defaultdict(list)
    for reference in limit_clips(references, 4 * n):
        recording = reference.recording
        wav = read_audio(recording.path, 16_000, recording.start, recording.duration)
        if level(wav[round(BEGIN * 16_000) : round(END * 16_000)]) > AUDIBLE:
            found[reference.text].append((reference, wav))
    turns = chain.from_iterable(zip_longest(*found.values()))
    return islice((turn for turn in turns if turn is not None), n)


def level(wav: np.ndarray) -> float:
    """Return the root mean square of [N]."""
    return float(np.sqrt(np.square(wav).mean()))


def through(generator: Generator, wav: np.ndarray) -> np.ndarray:
    """Return what the codec makes of wav [N]."""
    with torch.inference_mode():
        codes = generator.codec.encode(torch.from_numpy(wav)[None, None])[0]
    return generator.decode([codes])[0][: len(wav)]


def seam_step(wav: np.ndarray, cut: slice, n_join: int) -> float:
    """Return the largest step from a sample of [N] to the next, within n_join samples of either end of the cut."""
    return max(float(np.abs(np.diff(wav[place - n_join : place + n_join])).max()) for place in (cut.start, cut.stop))


if __name__ == "__main__":
    main()
