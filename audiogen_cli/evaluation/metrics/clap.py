"""CLAP score: the mean cosine of the embeddings of a sound and its caption."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.metrics.base import ClipMetric
from audiogen_cli.evaluation.networks.registry import CLAP, Networks
from audiogen_cli.evaluation.references import Reference
from audiogen_cli.evaluation.score_table import ScoreTable


class ClapScore(ClipMetric):
    """The match of sounds with the captions as published."""

    name, role = "clap", CLAP

    def label(self, networks: Networks) -> str:
        """Return the network's name, which says CLAP and which checkpoint."""
        return str(networks[CLAP].name)

    def check(self, references: Sequence[Reference], networks: Networks) -> None:
        """Require captions."""
        if not all(reference.caption for reference in references):
            raise InputError("clap needs texts: give --split, whose manifest has them")

    def values(self, table: ScoreTable, clips: str) -> np.ndarray:
        """Compute each clip's cosine."""
        return clap_score(table.caption_embeddings, table.embeddings(clips, CLAP))


def clap_score(texts: np.ndarray, sounds: np.ndarray) -> np.ndarray:
    """Compute the cosines [n] of texts [n, D] and sounds [n, D], both of length 1."""
    return np.asarray((texts.astype(np.float64) * sounds).sum(1))
