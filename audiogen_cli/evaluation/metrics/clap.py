"""CLAP score: the mean cosine of the embeddings of a sound and its caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.metrics.base import Metric, Values
from audiogen_cli.evaluation.metrics.intervals import bootstrap_interval
from audiogen_cli.evaluation.networks.registry import CLAP, Networks
from audiogen_cli.evaluation.references import Reference
from audiogen_cli.evaluation.results import Interval
from audiogen_cli.evaluation.score_table import GENERATED, ScoreTable


class ClapScore(Metric):
    """The match of sounds with the captions as published."""

    name, role = "clap", CLAP

    def label(self, networks: Networks) -> str:
        """Return the network's name, which says CLAP and which checkpoint."""
        return str(networks[CLAP].name)

    def check(self, references: Sequence[Reference], networks: Networks) -> None:
        """Require captions."""
        if not all(reference.caption for reference in references):
            raise InputError("clap needs texts: give --split, whose manifest has them")

    def score(self, table: ScoreTable, clips: str) -> Values:
        """Average over clips."""
        return {self.label(table.networks): float(_cosines(table, clips).mean())}

    def intervals(self, table: ScoreTable) -> Mapping[str, Interval | None]:
        """Bootstrap over clips."""
        return {self.label(table.networks): bootstrap_interval(_cosines(table, GENERATED), table.seed)}

    def per_clip(self, table: ScoreTable) -> Mapping[str, np.ndarray]:
        """Return the cosine of each clip."""
        return {self.label(table.networks): _cosines(table, GENERATED)}


def clap_score(texts: np.ndarray, sounds: np.ndarray) -> np.ndarray:
    """Compute the cosines [n] of texts [n, D] and sounds [n, D], both of length 1."""
    return np.asarray((texts.astype(np.float64) * sounds).sum(1))


def _cosines(table: ScoreTable, clips: str) -> np.ndarray:
    return clap_score(table.caption_embeddings, table.embeddings(clips, CLAP))
