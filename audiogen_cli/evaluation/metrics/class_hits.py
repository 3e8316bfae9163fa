"""The class-following test: does an AudioSet classifier recognize a sound made for an ESC-50 class?

A hit is an AudioSet name of the clip's category among the classifier's k best classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from audiogen_cli.data.audio import SAMPLE_RATE
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.metrics.base import Metric, Values
from audiogen_cli.evaluation.metrics.intervals import bootstrap_interval
from audiogen_cli.evaluation.networks.base import AudioNetwork
from audiogen_cli.evaluation.networks.registry import CLASSIFIER, Networks, load_network
from audiogen_cli.evaluation.references import AUDIOSET_NAMES, Reference
from audiogen_cli.evaluation.results import Interval
from audiogen_cli.evaluation.score_table import CODEC, GENERATED, REFERENCE, ScoreTable

TOP = (1, 5)
K = TOP[-1]


@dataclass(frozen=True)
class Hits:
    """Shares of clips whose category is the best guess, and among the five best."""

    n: int
    top1: float
    top5: float


@dataclass(frozen=True)
class ClassHits:
    """Hits over all clips, and per category."""

    overall: Hits
    per_class: dict[str, Hits]


class ClassHitRate(Metric):
    """The share of clips that hit, among the best class and the five best."""

    name = "class_hits"

    def check(self, references: Sequence[Reference], networks: Networks) -> None:
        """Require ESC-50 clips and a classifier with class names."""
        if not all(reference.category for reference in references):
            raise InputError("class_hits needs clips of the 50 ESC-50 classes, such as --split esc50-test")
        classifier = networks[CLASSIFIER]
        if not classifier.classes:
            raise InputError(f"class_hits needs class names, which {classifier.name} lacks: --classifier yamnet")

    def score(self, table: ScoreTable, clips: str) -> Values:
        """Return the shares of a set."""
        overall = _hits_of(table, clips).overall
        return {self._label(table, 1): overall.top1, self._label(table, 5): overall.top5}

    def intervals(self, table: ScoreTable) -> Mapping[str, Interval | None]:
        """Bootstrap over clips."""
        classes = table.networks[CLASSIFIER].classes
        pairs = list(zip(table.probabilities(GENERATED), table.references, strict=True))
        found = {}
        for k in TOP:
            hits = [top_k_hit(scores, classes, reference.category or "", k) for scores, reference in pairs]
            found[self._label(table, k)] = bootstrap_interval(np.array(hits, float), table.seed)
        return found

    def details(self, table: ScoreTable) -> Mapping[str, Any]:
        """Break the shares down by category."""
        sets = [name for name in (GENERATED, CODEC, REFERENCE) if name in table.sets]
        return {self.name: {name: asdict(_hits_of(table, name))["per_class"] for name in sets}}

    def _label(self, table: ScoreTable, k: int) -> str:
        return f"{self.name}_top{k}_{table.networks[CLASSIFIER].name}"


def category_of(text: str) -> str:
    """Find the ESC-50 category of a text ('clock alarm' → 'clock_alarm'). Raises ValueError if it names none."""
    category = text.strip().lower().replace(" ", "_")
    if category not in AUDIOSET_NAMES:
        raise ValueError(f"'{text}' is not an ESC-50 category")
    return category


def top_k_hit(scores: np.ndarray, classes: Sequence[str], category: str, k: int = K) -> bool:
    """Tell whether an AudioSet name of the category is among the k best of scores [C], named by `classes`."""
    best = np.argsort(-scores, kind="stable")[:k]
    return any(classes[index] in AUDIOSET_NAMES[category] for index in best)


def count_hits(scores: Mapping[str, np.ndarray], classes: Sequence[str]) -> ClassHits:
    """Count hits. scores: category → [clips, C], higher is likelier; a category without clips is left out."""
    hits = {
        category: np.array([[top_k_hit(row, classes, category, k) for k in TOP] for row in rows])
        for category, rows in scores.items()
        if len(rows)
    }
    return ClassHits(
        overall=_share(np.concatenate(list(hits.values()))) if hits else Hits(0, 0.0, 0.0),
        per_class={category: _share(rows) for category, rows in sorted(hits.items())},
    )


def class_hits(clips: Mapping[str, Sequence[np.ndarray]], classifier: AudioNetwork | None = None) -> ClassHits:
    """Classify clips of known category and count the hits.

    A clip's scores are the mean of its windows' probabilities: many ESC-50 clips are a second of sound and four of
    digital silence, for which the mean of logits (as in KL) gives 'Silence, Speech, Music'.
    clips: ESC-50 category (or its words) → waveforms [N] at 16 kHz, of any lengths. classifier: YAMNet by default.
    Raises ValueError for an unknown category, InputError if the classifier is not installed.
    """
    classifier = classifier or load_network("yamnet")
    empty = np.zeros((0, len(classifier.classes)))
    scores = {
        category_of(text): np.concatenate([empty, *(classifier(wav, SAMPLE_RATE).probabilities for wav in wavs)])
        for text, wavs in clips.items()
    }
    return count_hits(scores, classifier.classes)


def _hits_of(table: ScoreTable, clips: str) -> ClassHits:
    probabilities = table.probabilities(clips)
    categories = np.array([reference.category for reference in table.references])
    scores = {category: probabilities[categories == category] for category in np.unique(categories)}
    return count_hits(scores, table.networks[CLASSIFIER].classes)


def _share(hits: np.ndarray) -> Hits:
    top1, top5 = hits.mean(0)
    return Hits(len(hits), float(top1), float(top5))
