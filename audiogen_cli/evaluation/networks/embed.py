"""Clips through a network: decoded and resampled ahead by threads, classified in batches, each content once.

Embeddings are cached by content, so a second run of any evaluation reads files but classifies nothing.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from joblib import cpu_count

from audiogen_cli.data.loudness import AudioStats, measure
from audiogen_cli.devices import count_processes, gather_values, process_index
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.audio_sources import AudioSource
from audiogen_cli.evaluation.networks.base import AudioNetwork
from audiogen_cli.evaluation.networks.cache import ClipEmbedding, EmbeddingCache
from audiogen_cli.evaluation.results import Progress
from audiogen_cli.files import cache_folder

MAX_WORKERS = 8
LOOK_AHEAD = 64  # clips decoded before they are needed: bounds memory to some 100 MB
MAX_WAITING = 64  # decoded clips that wait for others of their length


@dataclass(frozen=True)
class _Decoded:
    key: str
    wav: np.ndarray  # [1, N] at the network's rate
    stats: AudioStats


def embed_clips(network: AudioNetwork, clips: Sequence[AudioSource], progress: Progress) -> list[ClipEmbedding | str]:
    """Embed clips by a network, in their order; a clip that it cannot take gives a reason instead.

    Equal sources are embedded once. In an accelerate launch the processes, all of which must call this with the same
    clips, share them, and each returns all.
    """
    cache = EmbeddingCache(cache_folder(), network.name, network.sha256, network.version, network.dim)
    unique, step = list(dict.fromkeys(clips)), count_processes()
    own = unique[process_index() :: step]
    found: dict[int, ClipEmbedding | str] = {}
    for index, result in _embed(network, own, cache):
        found[index] = result
        progress(len(found), len(own))
    results: dict[AudioSource, ClipEmbedding | str] = {}
    for first, share in enumerate(gather_values([found[index] for index in range(len(own))])):
        results |= zip(unique[first::step], share, strict=True)
    return [results[clip] for clip in clips]


def _embed(
    network: AudioNetwork, clips: Sequence[AudioSource], cache: EmbeddingCache
) -> Iterator[tuple[int, ClipEmbedding | str]]:
    waiting: dict[int, list[tuple[int, _Decoded]]] = defaultdict(list)  # by length
    for index, found in _decode_ahead(network, clips, cache):
        if not isinstance(found, _Decoded):
            yield index, found
            continue
        group = waiting[found.wav.shape[1]]
        group.append((index, found))
        if len(group) == network.batch_size:
            yield from _classify(network, waiting.pop(found.wav.shape[1]), cache)
        elif sum(map(len, waiting.values())) >= MAX_WAITING:
            largest = max(waiting, key=lambda length: len(waiting[length]))
            yield from _classify(network, waiting.pop(largest), cache)
    for group in waiting.values():
        yield from _classify(network, group, cache)


def _decode_ahead(
    network: AudioNetwork, clips: Sequence[AudioSource], cache: EmbeddingCache
) -> Iterator[tuple[int, _Decoded | ClipEmbedding | str]]:
    workers = min(MAX_WORKERS, cpu_count())
    with ThreadPoolExecutor(workers, "decode") as pool:
        pending: deque[Future[_Decoded | ClipEmbedding | str]] = deque()
        submitted = 0
        try:
            for index in range(len(clips)):
                while submitted < len(clips) and len(pending) < LOOK_AHEAD:
                    pending.append(pool.submit(_decode, network, clips[submitted], cache))
                    submitted += 1
                yield index, pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _decode(network: AudioNetwork, clip: AudioSource, cache: EmbeddingCache) -> _Decoded | ClipEmbedding | str:
    try:
        key = clip.key()
        if (cached := cache.get(key)) is not None:
            return cached
        wav, rate = clip.read()
        return _Decoded(key, network.resample(wav, rate), measure(wav))
    except (InputError, ValueError) as error:
        return str(error)


def _classify(
    network: AudioNetwork, group: Sequence[tuple[int, _Decoded]], cache: EmbeddingCache
) -> Iterator[tuple[int, ClipEmbedding]]:
    output = network.classify(np.concatenate([decoded.wav for _, decoded in group]))
    logits, probabilities = output.logits, output.probabilities
    for row, (index, decoded) in enumerate(group):
        levels = decoded.stats.near_silent, decoded.stats.peak
        embedding = ClipEmbedding(output.embeddings[row], logits[row], probabilities[row], *levels)
        cache.put(decoded.key, embedding)
        yield index, embedding
