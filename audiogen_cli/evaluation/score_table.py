"""The sets of clips of one evaluation, embedded by every network: what metrics score (paper Table 1).

Besides the generated clips, some sets give the numbers a scale: the references through the model's codec (the best that
any language model over it can reach), noise and silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from audiogen_cli.data.audio import OVER_SCALE, SAMPLE_RATE
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.audio_sources import (
    NOISE_RMS,
    AudioSource,
    CodecAudio,
    FileAudio,
    NoiseAudio,
    Reconstructor,
    Recording,
)
from audiogen_cli.evaluation.metrics.frechet import FrechetDistance
from audiogen_cli.evaluation.networks.cache import ClipEmbedding
from audiogen_cli.evaluation.networks.embed import embed_clips
from audiogen_cli.evaluation.networks.registry import CLAP, CLASSIFIER, EMBEDDING, Networks
from audiogen_cli.evaluation.references import Reference
from audiogen_cli.evaluation.results import Progress, Skipped
from audiogen_cli.evaluation.shuffling import clip_seed, derangement

GENERATED, REFERENCE, CODEC = "generated", "reference", "codec reconstruction"
SILENCE, NOISE, HALVES, SHUFFLED = "silence", "white noise", "reference halves", "reference, shuffled"
ROWS = (GENERATED, REFERENCE, HALVES, CODEC, NOISE, SILENCE, SHUFFLED)  # of the table, from near to far


class ScoreTable:
    """All sets of one evaluation; a clip that fails in one set is left out of all sets aligned with it.

    seed: of noise, halves and intervals. reconstructor: None leaves the codec's set out. paired: each generated clip
    belongs to a reference; if not, only metrics of whole sets exist.
    """

    def __init__(self, networks: Networks, seed: int, reconstructor: Reconstructor | None, paired: bool = True) -> None:
        self.networks, self.seed, self.reconstructor, self.paired = networks, seed, reconstructor, paired
        self.references: list[Reference] = []  # those scored
        self.generated_ids: list[str] = []
        self.unequal = 0  # generated clips that differ in length from their reference
        self._embedded: dict[tuple[str, str], list[ClipEmbedding]] = {}  # (set, network) → clips

    def fill(
        self, references: Sequence[Reference], recordings: Sequence[tuple[str, Recording]], progress: Progress
    ) -> list[Skipped]:
        """Embed every set; return the clips that could not be read or are too short for a network.

        recordings: the generated clips with their ids; paired, they follow the references, and are cut to their length.
        """
        generated: list[AudioSource] = [FileAudio(recording) for _, recording in recordings]
        if self.paired:
            pairs = zip(recordings, references, strict=True)
            generated = [FileAudio(self._cut(recording, reference)) for (_, recording), reference in pairs]
        sets = self._reference_sets(references)
        ids, generated_ids = [reference.id for reference in references], [name for name, _ in recordings]
        if self.paired:
            alive, skipped = self._embed({GENERATED: generated, **sets}, ids, progress)
            generated_alive = alive
        else:
            alive, skipped = self._embed(sets, ids, progress)
            generated_alive, lost = self._embed({GENERATED: generated}, generated_ids, progress)
            skipped += lost
        self.references = [references[index] for index in alive]
        self.generated_ids = [generated_ids[index] for index in generated_alive]
        return skipped

    @property
    def sets(self) -> list[str]:
        """List the sets, in the order of the table."""
        found = {name for name, _ in self._embedded}
        return [name for name in ROWS if name in found]

    def clips(self, name: str, role: str) -> list[np.ndarray]:
        """Return each clip's embeddings [n, D]."""
        return [clip.embeddings for clip in self._clips(name, role)]

    def embeddings(self, name: str, role: str) -> np.ndarray:
        """Return the embeddings [windows of all clips, D]."""
        return np.concatenate(self.clips(name, role))

    def logits(self, name: str) -> np.ndarray:
        """Return the classifier's logits [clips, C]."""
        return np.stack([clip.logits for clip in self._clips(name, CLASSIFIER)])

    def probabilities(self, name: str) -> np.ndarray:
        """Return the classifier's probabilities [clips, C]."""
        return np.stack([clip.probabilities for clip in self._clips(name, CLASSIFIER)])

    def count_near_silent(self, name: str) -> int:
        """Count the near-silent clips of a set."""
        return sum(clip.near_silent for clip in self._embedded[name, self.networks.all()[0].name])

    def over_scale(self, name: str) -> list[tuple[int, float]]:
        """Return the numbers and peaks of a set's clips whose samples are far beyond full scale."""
        clips = self._embedded[name, self.networks.all()[0].name]
        return [(number, clip.peak) for number, clip in enumerate(clips) if clip.peak > OVER_SCALE]

    @cached_property
    def distance(self) -> FrechetDistance:
        """The Fréchet distance to the references' windows."""
        return FrechetDistance(self.embeddings(REFERENCE, EMBEDDING))

    @cached_property
    def caption_embeddings(self) -> np.ndarray:
        """The references' captions [clips, D] by CLAP."""
        return np.asarray(self.networks[CLAP].embed_texts([reference.caption or "" for reference in self.references]))

    def shuffled_references(self) -> np.ndarray:
        """Draw for each reference the index [clips] of another one."""
        return derangement([reference.id for reference in self.references], self.seed)

    def _clips(self, name: str, role: str) -> list[ClipEmbedding]:
        return self._embedded[name, self.networks[role].name]

    def _reference_sets(self, references: Sequence[Reference]) -> dict[str, list[AudioSource]]:
        sets: dict[str, list[AudioSource]] = {}
        recordings = [reference.recording for reference in references]
        if self.reconstructor:
            sets[CODEC] = [CodecAudio(recording, self.reconstructor) for recording in recordings]
        lengths = [_n_samples(recording) for recording in recordings]
        seeds = [clip_seed(reference.id, self.seed) for reference in references]
        sets[NOISE] = [NoiseAudio(length, seed, NOISE_RMS) for seed, length in zip(seeds, lengths, strict=True)]
        sets[SILENCE] = [NoiseAudio(length) for length in lengths]
        sets[REFERENCE] = [FileAudio(recording) for recording in recordings]
        return sets

    def _embed(
        self, sets: dict[str, list[AudioSource]], ids: Sequence[str], progress: Progress
    ) -> tuple[list[int], list[Skipped]]:
        """Embed aligned sets by every network; return the indices of the clips that all accept, and the rest."""
        n = len(ids)
        clips = [clip for part in sets.values() for clip in part]
        outputs = {network.name: embed_clips(network, clips, progress) for network in self.networks.all()}
        reasons: dict[int, str] = {}
        for results in outputs.values():
            for position, result in enumerate(results):
                if isinstance(result, str):
                    reasons.setdefault(position % n, result)
        alive = [index for index in range(n) if index not in reasons]
        for number, name in enumerate(sets):
            for network, results in outputs.items():
                chosen = [results[number * n + index] for index in alive]
                self._embedded[name, network] = [clip for clip in chosen if not isinstance(clip, str)]
        return alive, [Skipped(ids[index], reasons[index]) for index in sorted(reasons)]

    def _cut(self, recording: Recording, reference: Reference) -> Recording:
        """Cut a generated recording to its reference's length."""
        try:
            wanted, own = reference.recording.length, recording.length
        except InputError:  # it will be skipped with its reason
            return recording
        self.unequal += abs(own - wanted) > 0.01 * wanted
        return recording.first(wanted)


def _n_samples(recording: Recording) -> int:
    try:
        return max(1, round(recording.length * SAMPLE_RATE))
    except InputError:  # its clip will be skipped with this reason
        return SAMPLE_RATE
