"""The rows of the generation table: what a classifier hears in each set of clips, and the numbers of one row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from audiogen_cli.data.audio import SAMPLE_RATE, measure
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation import kl
from audiogen_cli.evaluation.classifiers.base import Classifier, ClassifierOutput
from audiogen_cli.evaluation.clips import Recording, Reference
from audiogen_cli.evaluation.config import Progress, Skipped
from audiogen_cli.evaluation.esc50_audioset import ClassHits, count_hits
from audiogen_cli.evaluation.fad import frechet_distance
from audiogen_cli.evaluation.produce import seed_of

if TYPE_CHECKING:
    from audiogen_cli.evaluation.reconstruction import Reconstructor

GENERATED, REFERENCE, CODEC = "generated", "reference", "codec reconstruction"
SILENCE, NOISE, HALVES = "silence", "white noise", "reference halves"
NOISE_RMS = 0.1


class Heard:
    """What a classifier hears in one set of clips, in the order of the references."""

    def __init__(self) -> None:
        self.clips: list[np.ndarray] = []  # each clip's embeddings [n, D]
        self.near_silent = 0
        self._logits: list[np.ndarray] = []
        self._probabilities: list[np.ndarray] = []

    def add(self, output: ClassifierOutput, near_silent: bool) -> None:
        """Take in one clip: a classifier's output for a batch of one."""
        self.clips.append(output.embeddings[0])
        self._logits.append(output.logits[0])
        self._probabilities.append(output.probabilities[0])
        self.near_silent += near_silent

    @property
    def embeddings(self) -> np.ndarray:
        """[windows of all clips, D]."""
        return np.concatenate(self.clips)

    @property
    def logits(self) -> np.ndarray:
        """[clips, C]."""
        return np.stack(self._logits)

    @property
    def probabilities(self) -> np.ndarray:
        """[clips, C]."""
        return np.stack(self._probabilities)


class Rows:
    """All sets of one evaluation, filled pair by pair; a clip that fails in one set is in none.

    seed: of the white noise. reconstructor: gives the codec's row; None leaves it out.
    """

    def __init__(self, classifier: Classifier, seed: int, reconstructor: Reconstructor | None) -> None:
        self.classifier = classifier
        self.seed = seed
        self.reconstructor = reconstructor
        names = [GENERATED, *([CODEC] if reconstructor else []), SILENCE, NOISE, REFERENCE]
        self.heard = {name: Heard() for name in names}
        self.scored: list[Reference] = []
        self.unequal = 0  # generated clips that are not as long as their reference
        self._silences: dict[int, ClassifierOutput] = {}

    def fill(self, pairs: Sequence[tuple[Reference, Recording]], progress: Progress) -> list[Skipped]:
        """Classify every pair; returns those that could not be read or are too short for the classifier."""
        skipped = []
        for done, (reference, recording) in enumerate(pairs, 1):
            progress(done, len(pairs))
            try:
                real, generated = reference.recording.read(), recording.read()
                outputs = self._hear(reference, real, generated[: len(real)])
            except (InputError, ValueError) as error:
                skipped.append(Skipped(reference.id, str(error)))
                continue
            for name, (output, near_silent) in outputs.items():
                self.heard[name].add(output, near_silent)
            self.scored.append(reference)
            self.unequal += abs(len(generated) - len(real)) > 0.01 * len(real)
        return skipped

    def _hear(
        self, reference: Reference, real: np.ndarray, generated: np.ndarray
    ) -> dict[str, tuple[ClassifierOutput, bool]]:
        generator = np.random.default_rng(seed_of(reference.id, self.seed))
        noise = generator.normal(0, NOISE_RMS, len(real)).astype(np.float32)
        wavs = {GENERATED: (generated, SAMPLE_RATE), REFERENCE: (real, SAMPLE_RATE), NOISE: (noise, SAMPLE_RATE)}
        if self.reconstructor:
            wavs[CODEC] = self.reconstructor(reference.recording)
        outputs = {name: (self.classifier(wav, rate), measure(wav).near_silent) for name, (wav, rate) in wavs.items()}
        if len(real) not in self._silences:
            self._silences[len(real)] = self.classifier(np.zeros(len(real)), SAMPLE_RATE)
        return {**outputs, SILENCE: (self._silences[len(real)], True)}

    def score(self, name: str, metrics: Sequence[str]) -> dict[str, float | None]:
        """A set's metrics against the references, each named with its classifier; None where it does not exist."""
        heard, reference = self.heard[name], self.heard[REFERENCE]
        values: dict[str, float | None] = {}
        for metric in metrics:
            if metric == "fad":
                values[self.named(metric)] = _distance(reference.embeddings, heard.embeddings)
            elif metric in kl.VARIANTS:
                values[self.named(metric)] = float(kl.VARIANTS[metric](reference.logits, heard.logits).mean())
            else:
                overall = self.class_hits(name).overall
                values |= {self.named("class_hits_top1"): overall.top1, self.named("class_hits_top5"): overall.top5}
        return values

    def score_halves(self) -> dict[str, float | None]:
        """FAD between two random halves of the references: what so few clips cost a perfect model."""
        order = np.random.default_rng(self.seed).permutation(len(self.scored))
        clips = self.heard[REFERENCE].clips
        halves = [[clips[i] for i in part] for part in np.array_split(order, 2)]
        whole = all(halves)
        return {self.named("fad"): _distance(*(np.concatenate(half) for half in halves)) if whole else None}

    def class_hits(self, name: str) -> ClassHits:
        """The class-following test on one set."""
        probabilities = self.heard[name].probabilities
        categories = np.array([reference.category for reference in self.scored])
        scores = {category: probabilities[categories == category] for category in np.unique(categories)}
        return count_hits(scores, self.classifier.classes)

    def intervals(self, metrics: Sequence[str]) -> dict[str, tuple[float, float]]:
        """95% bootstrap intervals over clips of the generated set's mean divergences."""
        logits = self.heard[REFERENCE].logits, self.heard[GENERATED].logits
        chosen = [metric for metric in metrics if metric in kl.VARIANTS]
        return {self.named(metric): kl.bootstrap_interval(kl.VARIANTS[metric](*logits), self.seed) for metric in chosen}

    def named(self, metric: str) -> str:
        """A metric's full name: no number is worth anything without the network behind it."""
        return f"{metric}_{self.classifier.name}"


def _distance(reference: np.ndarray, other: np.ndarray) -> float | None:
    return frechet_distance(reference, other) if min(len(reference), len(other)) > 1 else None
