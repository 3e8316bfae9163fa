"""FAD (paper sec. 4) and FAD-∞ over the windows of a set of clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np

from audiogen_cli.evaluation.metrics.base import Metric, Values
from audiogen_cli.evaluation.metrics.frechet import Extrapolation, FrechetDistance, fad_infinity
from audiogen_cli.evaluation.metrics.intervals import influence_interval
from audiogen_cli.evaluation.networks.registry import EMBEDDING, Networks
from audiogen_cli.evaluation.results import Interval
from audiogen_cli.evaluation.score_table import GENERATED, HALVES, REFERENCE, ScoreTable


class FrechetMetric(Metric):
    """A metric over all windows of a set, which needs no pairs."""

    role, paired = EMBEDDING, False

    def label(self, networks: Networks) -> str:
        """Name it as the field does, fad or fd by the network."""
        network = networks[EMBEDDING]
        return f"{self.name.replace('fad', network.distance)}_{network.name}"


class Fad(FrechetMetric):
    """The Fréchet distance between the windows of a set and of the references."""

    name = "fad"

    def score(self, table: ScoreTable, clips: str) -> Values:
        """Compute the distance; None if a side has fewer than two windows."""
        return {self.label(table.networks): self._distance(table, clips)}

    def intervals(self, table: ScoreTable) -> Mapping[str, Interval | None]:
        """Estimate one from the clips' influence."""
        value, found = self._distance(table, GENERATED), None
        if value is not None:
            references, generated = (table.clips(name, EMBEDDING) for name in (REFERENCE, GENERATED))
            found = fad_interval(value, table.distance, references, generated, table.paired)
        return {self.label(table.networks): found}

    def baselines(self, table: ScoreTable) -> Mapping[str, Values]:
        """Compare two random halves of the references: about twice the bias that so many clips give a perfect model."""
        clips = table.clips(REFERENCE, EMBEDDING)
        order = np.random.default_rng(table.seed).permutation(len(clips))
        halves = [np.concatenate([clips[i] for i in half]) for half in np.array_split(order, 2) if len(half)]
        enough = len(halves) == 2 and min(map(len, halves)) > 1
        return {HALVES: {self.label(table.networks): FrechetDistance(halves[0])(halves[1]) if enough else None}}

    def _distance(self, table: ScoreTable, clips: str) -> float | None:
        sides = [table.embeddings(side, EMBEDDING) for side in (REFERENCE, clips)]
        return table.distance(sides[1]) if min(map(len, sides)) > 1 else None


class FadInfinity(FrechetMetric):
    """FAD extrapolated to infinitely many generated clips; other sets have no value."""

    name = "fad_infinity"

    def score(self, table: ScoreTable, clips: str) -> Values:
        """Extrapolate the generated clips' FAD; None if there are too few windows."""
        found = _extrapolate(table) if clips == GENERATED else None
        return {self.label(table.networks): found.value if found else None}

    def details(self, table: ScoreTable) -> Mapping[str, Any]:
        """Return the line and its points."""
        found = _extrapolate(table)
        return {self.name: asdict(found) if found else None}


@lru_cache(maxsize=1)
def _extrapolate(table: ScoreTable) -> Extrapolation | None:
    return fad_infinity(table.distance, table.clips(GENERATED, EMBEDDING), table.seed)


def fad_interval(
    value: float,
    distance: FrechetDistance,
    references: Sequence[np.ndarray],
    generated: Sequence[np.ndarray],
    paired: bool = True,
) -> Interval | None:
    """Estimate FAD's interval from how much each generated clip, with its reference if paired, moves it (first order).

    references, generated: each clip's embeddings [n, D]; `distance` is that to the references.
    """
    rows = distance.influence(np.concatenate(generated))
    sides = [_sum_by_clip(row, clips) for row, clips in zip(rows, (references, generated), strict=True)]
    return influence_interval(value, sides[0] + sides[1] if paired else np.concatenate(sides), 0.0)


def _sum_by_clip(rows: np.ndarray, clips: Sequence[np.ndarray]) -> np.ndarray:
    """Sum the values of windows [n] by clip."""
    ends = np.cumsum([len(clip) for clip in clips])
    return np.add.reduceat(rows, np.concatenate([[0], ends[:-1]]))
