"""Reranking: several candidates for one sound, of which the one that fits its text best is kept.

# ours: the paper keeps what it draws. Guidance makes every step likely given the text, but an unlucky token leads all
that follow it astray. The model's probe (`lm.probe`) judges the finished candidates. On a CPU, whose steps have room
for several rows, a few candidates cost little more than one.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from audiogen_cli.data.loudness import measure
from audiogen_cli.lm.decoding.requests import DecodingRequest
from audiogen_cli.lm.generation.mixdown import Track

Generate = Callable[[Sequence[DecodingRequest]], Iterator[tuple[int, Tensor]]]
Score = Callable[[Tensor, Tensor], float]


def generate_best(
    tracks: Sequence[Track], generate: Generate, decode: Callable[[Tensor], np.ndarray], score: Score | None
) -> Iterator[tuple[int, np.ndarray]]:
    """Generate each track's candidates; yield (index, samples [track.n_samples]) of the best one, when ready.

    generate: yields (index, codes [K, T]) of decoding requests. decode: codes [K, T] → samples [n]. score: codes and
    vectors [L, D] → how well they fit; None leaves the candidates in the order drawn. The best one is decoded first,
    and kept unless its generated part is near-silent; then the next one follows. If all are, the best is kept.
    """
    drawn = [(index, candidate) for index, track in enumerate(tracks) for candidate in list_candidates(track.decoding)]
    n_drawn = Counter(index for index, _ in drawn)
    ranked: dict[int, list[tuple[float, int, Tensor]]] = defaultdict(list)
    for number, codes in generate([candidate for _, candidate in drawn]):
        index, candidate = drawn[number]
        judged = score is not None and candidate.vectors is not None and n_drawn[index] > 1
        value = score(codes, candidate.vectors) if judged else 0.0  # type: ignore[misc, arg-type]
        ranked[index].append((-value, number, codes))
        if len(ranked[index]) == n_drawn[index]:
            best_first = sorted(ranked.pop(index), key=lambda each: each[:2])
            yield index, _first_audible(tracks[index], (decode(codes) for *_, codes in best_first))


def list_candidates(request: DecodingRequest) -> list[DecodingRequest]:
    """Return the request once for each candidate, with seeds derived from its own; the first is the request itself.

    Without a text there is nothing to fit, so one.
    """
    others = range(1, 1 if request.vectors is None else request.sampling.candidates)
    return [request, *(replace(request, seed=derive_seed(request.seed, str(number))) for number in others)]


def derive_seed(seed: int, part: str) -> int:
    """Return the seed of a part of a sound; it is not near `seed`, whose neighbors other sounds have."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{part}".encode()).digest()[:6], "big")


def _first_audible(track: Track, sounds: Iterator[np.ndarray]) -> np.ndarray:
    first = None
    for sound in sounds:
        sound = sound[: track.n_samples]
        if not measure(sound[track.n_known :]).near_silent:
            return sound
        first = sound if first is None else first
    assert first is not None
    return first
