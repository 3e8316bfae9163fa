"""The interfaces of metrics; a task calls them without knowing which they are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from audiogen_cli.evaluation.metrics.intervals import bootstrap_interval
from audiogen_cli.evaluation.networks.registry import CLASSIFIER, Networks
from audiogen_cli.evaluation.references import Reference
from audiogen_cli.evaluation.results import Interval
from audiogen_cli.evaluation.score_table import GENERATED, ScoreTable

Values = Mapping[str, float | None]


class Metric(ABC):
    """A metric of the task generation. What it returns is keyed by full names, such as `kl_passt`."""

    name: str  # on the command line
    role: ClassVar[str] = CLASSIFIER  # of the network it needs
    paired: ClassVar[bool] = True  # compares each clip with its reference, so it cannot go with --unpaired

    def label(self, networks: Networks) -> str:
        """Name the metric with its network: no number is worth anything without it."""
        return f"{self.name}_{networks[self.role].name}"

    def check(self, references: Sequence[Reference], networks: Networks) -> None:  # noqa: B027  # most need nothing
        """Raise InputError if references or networks lack what the metric needs."""

    @abstractmethod
    def score(self, table: ScoreTable, clips: str) -> Values:
        """Score the set `clips` of the table; None where a value does not exist."""

    def intervals(self, table: ScoreTable) -> Mapping[str, Interval | None]:
        """Compute 95% intervals over the generated clips."""
        return {}

    def baselines(self, table: ScoreTable) -> Mapping[str, Values]:
        """Compute further rows that give the metric a scale."""
        return {}

    def per_clip(self, table: ScoreTable) -> Mapping[str, np.ndarray]:
        """Return values [n] of the single generated clips."""
        return {}

    def details(self, table: ScoreTable) -> Mapping[str, Any]:
        """Return breakdowns for `details` in results.json."""
        return {}


class ClipMetric(Metric):
    """A metric that is the mean of a value per clip."""

    @abstractmethod
    def values(self, table: ScoreTable, clips: str) -> np.ndarray:
        """Compute the values [n] of a set's clips."""

    def score(self, table: ScoreTable, clips: str) -> Values:
        """Average over clips."""
        return {self.label(table.networks): float(self.values(table, clips).mean())}

    def intervals(self, table: ScoreTable) -> Mapping[str, Interval | None]:
        """Bootstrap over clips."""
        return {self.label(table.networks): bootstrap_interval(self.values(table, GENERATED), table.seed)}

    def per_clip(self, table: ScoreTable) -> Mapping[str, np.ndarray]:
        """Return the values of the generated clips."""
        return {self.label(table.networks): self.values(table, GENERATED)}


@dataclass(frozen=True)
class CodeUsage:
    """The use of a codec's codebooks, stream by stream (K values each)."""

    entropy_bits: tuple[float, ...]  # per code, plug-in estimate; biased low below about 20·V codes seen
    perplexity: tuple[float, ...]  # 2^entropy
    used: tuple[float, ...]  # share of the codebook seen at all
    kbps: float  # the bitrate that the entropies imply, kbit/s


class CodecMetric:
    """A metric of the task codec: of reconstructions, of codes, or of both."""

    name: ClassVar[str]
    columns: ClassVar[tuple[str, ...]] = ()  # the values of `compare` to average over clips
    slow: ClassVar[bool] = False  # takes seconds a clip, so a part of the clips must do

    def check(self) -> None:
        """Raise InputError if a package is missing."""

    def compare(self, target: np.ndarray, estimate: np.ndarray, sample_rate: int) -> Mapping[str, float]:
        """Compare a clip [N] with its reconstruction [N]."""
        return {}

    def judge_codes(self, bits_per_second: float, usage: CodeUsage) -> Mapping[str, float]:
        """Judge the nominal bitrate and the use of the codes of all clips."""
        return {}
