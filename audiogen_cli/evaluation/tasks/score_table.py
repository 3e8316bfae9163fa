"""The rows of the generation table: what networks hear in each set of clips, and the numbers of one row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from audiogen_cli.data.audio import SAMPLE_RATE
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.audio_sources import CodecSound, FileSound, NoiseSound, SilenceSound, Sound
from audiogen_cli.evaluation.config import Progress, Skipped
from audiogen_cli.evaluation.metrics import kl
from audiogen_cli.evaluation.metrics.class_hits import ClassHits, count_hits, top_k_hit
from audiogen_cli.evaluation.metrics.frechet import Extrapolation, FrechetDistance, fad_infinity
from audiogen_cli.evaluation.metrics.inception import InceptionScore, inception_score
from audiogen_cli.evaluation.metrics.intervals import bootstrap_interval, influence_interval
from audiogen_cli.evaluation.networks.base import Classifier
from audiogen_cli.evaluation.networks.cache import Heard
from audiogen_cli.evaluation.networks.embed import hear
from audiogen_cli.evaluation.networks.registry import Networks
from audiogen_cli.evaluation.references import Recording, Reference
from audiogen_cli.evaluation.tasks.derangement import derangement
from audiogen_cli.evaluation.tasks.generate_clips import seed_of

if TYPE_CHECKING:
    from audiogen_cli.evaluation.tasks.codec import Reconstructor

GENERATED, REFERENCE, CODEC = "generated", "reference", "codec reconstruction"
SILENCE, NOISE, HALVES, SHUFFLED = "silence", "white noise", "reference halves", "reference, shuffled"
Interval = tuple[float, float]


class Rows:
    """All sets of one evaluation; a clip that fails in one set is in none that is aligned with it.

    seed: of the white noise and the intervals. reconstructor: gives the codec's row; None leaves it out. paired: each
    generated clip belongs to a reference; if not, the two sides stand alone and only FAD and inception score exist.
    """

    def __init__(self, networks: Networks, seed: int, reconstructor: Reconstructor | None, paired: bool = True) -> None:
        self.networks, self.seed, self.reconstructor, self.paired = networks, seed, reconstructor, paired
        self.scored: list[Reference] = []
        self.generated_ids: list[str] = []
        self.unequal = 0  # generated clips that are not as long as their reference
        self._heard: dict[tuple[str, str], list[Heard]] = {}  # (set, network) → clips

    def fill(
        self, references: Sequence[Reference], recordings: Sequence[tuple[str, Recording]], progress: Progress
    ) -> list[Skipped]:
        """Hear every set; returns the clips that could not be read or are too short for a network.

        recordings: the generated clips with their ids; paired, they are the references' in their order, and are cut
        to their references' length.
        """
        if self.paired:
            pairs = zip(recordings, references, strict=True)
            recordings = [(name, self._cut(recording, reference.recording)) for (name, recording), reference in pairs]
        sets = self._reference_sets(references)
        ids = [reference.id for reference in references]
        groups: list[tuple[dict[str, list[Sound]], list[str]]]
        made: list[Sound] = [FileSound(recording) for _, recording in recordings]
        if self.paired:
            groups = [({GENERATED: made, **sets}, ids)]
        else:
            groups = [(sets, ids), ({GENERATED: made}, [name for name, _ in recordings])]
        skipped = []
        for sounds, names in groups:
            alive, lost = self._hear(sounds, names, progress)
            skipped += lost
            if REFERENCE in sounds:
                self.scored = [references[index] for index in alive]
            if GENERATED in sounds:
                self.generated_ids = [recordings[index][0] for index in alive]
        return skipped

    @property
    def names(self) -> list[str]:
        """The sets that were heard, in the order of the table."""
        return list(dict.fromkeys(name for name, _ in self._heard))

    def clips(self, name: str, network: Classifier) -> list[np.ndarray]:
        """Each clip's embeddings [n, D]."""
        return [heard.embeddings for heard in self._heard[name, network.name]]

    def embeddings(self, name: str, network: Classifier) -> np.ndarray:
        """[windows of all clips, D]."""
        return np.concatenate(self.clips(name, network))

    def logits(self, name: str) -> np.ndarray:
        """[clips, C] by the classifier."""
        return np.stack([heard.logits for heard in self._heard[name, self.networks.for_kl.name]])

    def probabilities(self, name: str) -> np.ndarray:
        """[clips, C] by the classifier."""
        return np.stack([heard.probabilities for heard in self._heard[name, self.networks.for_kl.name]])

    def near_silent(self, name: str) -> int:
        """How many clips of a set are near silent."""
        return sum(heard.near_silent for heard in self._heard[name, self.networks.all()[0].name])

    def score(self, name: str, metrics: Sequence[str]) -> dict[str, float | None]:
        """A set's metrics, each named with its network; None where one does not exist."""
        values: dict[str, float | None] = {}
        for metric in metrics:
            if metric == "class_hits":
                overall = self.class_hits(name).overall
                for k, share in ((1, overall.top1), (5, overall.top5)):
                    values[self.networks.named(f"class_hits_top{k}")] = share
            else:
                values[self.networks.named(metric)] = self._value(name, metric)
        return values

    def divergences(self, name: str, metric: str) -> np.ndarray:
        """A variant of KL [clips] of a set aligned with the references."""
        return kl.VARIANTS[metric](self.logits(REFERENCE), self.logits(name))

    def score_halves(self) -> dict[str, float | None]:
        """FAD between two random halves of the references: what so few clips cost a perfect model."""
        network = self.networks.for_fad
        clips = self.clips(REFERENCE, network)
        halves = [[clips[i] for i in part] for part in np.array_split(self._shuffled(len(clips)), 2)]
        both = [np.concatenate(half) for half in halves if half]
        enough = len(both) == 2 and min(map(len, both)) > 1
        return {self.networks.named("fad"): FrechetDistance(both[0])(both[1]) if enough else None}

    def score_shuffled(self, metrics: Sequence[str]) -> dict[str, float | None]:
        """KL between each reference and another one: what a model that ignores its text would get."""
        logits = self.logits(REFERENCE)
        others = derangement([reference.id for reference in self.scored], self.seed)
        return {
            self.networks.named(metric): float(kl.VARIANTS[metric](logits, logits[others]).mean())
            for metric in metrics
            if metric in kl.VARIANTS and len(others) > 1
        }

    def class_hits(self, name: str) -> ClassHits:
        """The class-following test on one set."""
        probabilities = self.probabilities(name)
        categories = np.array([reference.category for reference in self.scored])
        scores = {category: probabilities[categories == category] for category in np.unique(categories)}
        return count_hits(scores, self.networks.for_kl.classes)

    def inception(self, name: str) -> InceptionScore:
        """Inception score with its spread."""
        return inception_score(self.logits(name))

    @cached_property
    def infinity(self) -> Extrapolation | None:
        """FAD-∞ of the generated clips."""
        return fad_infinity(self._distance, self.clips(GENERATED, self.networks.for_fad), self.seed)

    def clap_scores(self, name: str) -> np.ndarray:
        """The cosine [clips] of each clip's sound and caption."""
        from audiogen_cli.evaluation.networks.clap import clap_score

        return clap_score(self._captions, self.embeddings(name, self.networks.for_clap))

    def intervals(self, metrics: Sequence[str]) -> dict[str, Interval]:
        """95% intervals over clips of the generated set's metrics, where there are any."""
        found: dict[str, Interval | None] = {}
        for metric in metrics:
            if metric == "class_hits":
                for k in (1, 5):
                    named = self.networks.named(f"class_hits_top{k}")
                    found[named] = bootstrap_interval(self._hits(k), self.seed)
            elif metric != "fad_infinity":
                found[self.networks.named(metric)] = self._interval(metric)
        return {name: interval for name, interval in found.items() if interval is not None}

    def influence(self) -> np.ndarray:
        """By how much each generated clip, with its reference if paired, moves FAD (first order); sums to 0."""
        network = self.networks.for_fad
        rows = self._distance.influence(self.embeddings(GENERATED, network))
        sides = [
            _per_clip(row, self.clips(name, network)) for row, name in zip(rows, (REFERENCE, GENERATED), strict=True)
        ]
        return sides[0] + sides[1] if self.paired else np.concatenate(sides)

    @cached_property
    def _distance(self) -> FrechetDistance:
        return FrechetDistance(self.embeddings(REFERENCE, self.networks.for_fad))

    @cached_property
    def _captions(self) -> np.ndarray:
        return self.networks.for_clap.embed_texts([reference.caption or "" for reference in self.scored])

    def _value(self, name: str, metric: str) -> float | None:
        if metric == "fad":
            return self._distance_to(name)
        if metric == "fad_infinity":
            return self.infinity.value if name == GENERATED and self.infinity else None
        if metric == "is":
            return self.inception(name).mean
        if metric == "clap":
            return float(self.clap_scores(name).mean())
        return float(self.divergences(name, metric).mean())

    def _distance_to(self, name: str) -> float | None:
        sides = [self.embeddings(side, self.networks.for_fad) for side in (REFERENCE, name)]
        return self._distance(sides[1]) if min(map(len, sides)) > 1 else None

    def _interval(self, metric: str) -> Interval | None:
        if metric == "fad":
            value = self._distance_to(GENERATED)
            return None if value is None else influence_interval(value, self.influence(), 0.0)
        if metric == "is":
            score = self.inception(GENERATED)
            return influence_interval(score.mean, score.influence, 1.0)
        values = self.clap_scores(GENERATED) if metric == "clap" else self.divergences(GENERATED, metric)
        return bootstrap_interval(values, self.seed)

    def _hits(self, k: int) -> np.ndarray:
        classes = self.networks.for_kl.classes
        pairs = zip(self.probabilities(GENERATED), self.scored, strict=True)
        return np.array([top_k_hit(scores, classes, reference.category or "", k) for scores, reference in pairs], float)

    def _reference_sets(self, references: Sequence[Reference]) -> dict[str, list[Sound]]:
        sets: dict[str, list[Sound]] = {}
        recordings = [reference.recording for reference in references]
        if self.reconstructor:
            sets[CODEC] = [CodecSound(recording, self.reconstructor) for recording in recordings]
        lengths = [_n_samples(recording) for recording in recordings]
        seeds = [seed_of(reference.id, self.seed) for reference in references]
        sets[NOISE] = [NoiseSound(seed, length) for seed, length in zip(seeds, lengths, strict=True)]
        sets[SILENCE] = [SilenceSound(length) for length in lengths]
        sets[REFERENCE] = [FileSound(recording) for recording in recordings]
        return sets

    def _hear(
        self, sets: dict[str, list[Sound]], ids: Sequence[str], progress: Progress
    ) -> tuple[list[int], list[Skipped]]:
        """Hear aligned sets by every network; the indices of the clips that all could take, and the others."""
        networks, n = self.networks.all(), len(ids)
        sounds = [sound for part in sets.values() for sound in part]
        outcomes = {network.name: hear(network, sounds, progress) for network in networks}
        reasons: dict[int, str] = {}
        for results in outcomes.values():
            for position, result in enumerate(results):
                if isinstance(result, str):
                    reasons.setdefault(position % n, result)
        alive = [index for index in range(n) if index not in reasons]
        for number, name in enumerate(sets):
            for network, results in outcomes.items():
                chosen = [results[number * n + index] for index in alive]
                self._heard[name, network] = [heard for heard in chosen if not isinstance(heard, str)]
        return alive, [Skipped(ids[index], reasons[index]) for index in sorted(reasons)]

    def _cut(self, recording: Recording, reference: Recording) -> Recording:
        """The generated recording, no longer than its reference."""
        try:
            wanted, own = reference.length, recording.length
        except InputError:  # it will be skipped with its reason
            return recording
        self.unequal += abs(own - wanted) > 0.01 * wanted
        return recording.first(wanted)

    def _shuffled(self, n: int) -> np.ndarray:
        return np.random.default_rng(self.seed).permutation(n)


def _per_clip(rows: np.ndarray, clips: Sequence[np.ndarray]) -> np.ndarray:
    """Sums of rows' values by the clip that they are windows of."""
    ends = np.cumsum([len(clip) for clip in clips])
    return np.add.reduceat(rows, np.concatenate([[0], ends[:-1]]))


def _n_samples(recording: Recording) -> int:
    try:
        return max(1, round(recording.length * SAMPLE_RATE))
    except InputError:  # its clip will be skipped with this reason
        return SAMPLE_RATE
