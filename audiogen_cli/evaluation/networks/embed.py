"""Sounds through a network: decoded and resampled ahead by threads, classified in batches, each content once.

Kept results are found by the content's hash, so a second run of any evaluation reads files but classifies nothing.
"""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from audiogen_cli.data.loudness import measure
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.audio_sources import Sound
from audiogen_cli.evaluation.config import Progress
from audiogen_cli.evaluation.networks.base import Classifier
from audiogen_cli.evaluation.networks.cache import EmbeddingCache, Heard, cache_folder

MAX_WORKERS = 8
LOOK_AHEAD = 64  # sounds decoded before they are wanted: bounds memory to some 100 MB
MAX_WAITING = 64  # decoded sounds of any length that wait for others of theirs


@dataclass(frozen=True)
class _Decoded:
    key: str
    wav: np.ndarray  # [1, N] at the network's rate
    near_silent: bool


def hear(classifier: Classifier, sounds: Sequence[Sound], progress: Progress) -> list[Heard | str]:
    """What a network makes of each sound, in their order; a reason in place of one that it cannot take.

    Equal sounds are classified once.
    """
    cache = EmbeddingCache(cache_folder(), classifier.name, classifier.sha256, classifier.version)
    unique = list(dict.fromkeys(sounds))
    results: dict[Sound, Heard | str] = {}
    for index, result in _hear(classifier, unique, cache):
        results[unique[index]] = result
        progress(len(results), len(unique))
    return [results[sound] for sound in sounds]


def _hear(classifier: Classifier, sounds: Sequence[Sound], cache: EmbeddingCache) -> Iterator[tuple[int, Heard | str]]:
    waiting: dict[int, list[tuple[int, _Decoded]]] = defaultdict(list)  # by length
    for index, found in _decode_ahead(classifier, sounds, cache):
        if not isinstance(found, _Decoded):
            yield index, found
            continue
        group = waiting[found.wav.shape[1]]
        group.append((index, found))
        if len(group) == classifier.batch_size:
            yield from _classify(classifier, waiting.pop(found.wav.shape[1]), cache)
        elif sum(map(len, waiting.values())) >= MAX_WAITING:
            largest = max(waiting, key=lambda length: len(waiting[length]))
            yield from _classify(classifier, waiting.pop(largest), cache)
    for group in waiting.values():
        yield from _classify(classifier, group, cache)


def _decode_ahead(
    classifier: Classifier, sounds: Sequence[Sound], cache: EmbeddingCache
) -> Iterator[tuple[int, _Decoded | Heard | str]]:
    workers = min(MAX_WORKERS, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers, "decode") as pool:
        pending: deque[Future[_Decoded | Heard | str]] = deque()
        taken = 0
        try:
            for index in range(len(sounds)):
                while taken < len(sounds) and len(pending) < LOOK_AHEAD:
                    pending.append(pool.submit(_decode, classifier, sounds[taken], cache))
                    taken += 1
                yield index, pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _decode(classifier: Classifier, sound: Sound, cache: EmbeddingCache) -> _Decoded | Heard | str:
    try:
        key = sound.key()
        if (kept := cache.get(key)) is not None:
            return kept
        wav, rate = sound.read()
        return _Decoded(key, classifier.resample(wav, rate), measure(wav).near_silent)
    except (InputError, ValueError) as error:
        return str(error)


def _classify(
    classifier: Classifier, group: Sequence[tuple[int, _Decoded]], cache: EmbeddingCache
) -> Iterator[tuple[int, Heard]]:
    output = classifier.classify(np.concatenate([decoded.wav for _, decoded in group]))
    logits, probabilities = output.logits, output.probabilities
    for row, (index, decoded) in enumerate(group):
        heard = Heard(output.embeddings[row], logits[row], probabilities[row], decoded.near_silent)
        cache.put(decoded.key, heard)
        yield index, heard
