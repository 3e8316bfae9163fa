"""The interface of all audio networks: waveforms in, logits and embeddings out.

A number means nothing without the network behind it, so a network declares its name (part of every metric's name), its
file with the SHA-256, and its license.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from audiogen_cli.errors import InputError


class MissingWeightsError(InputError):
    """A network's file is not here; the message names it and the folder to put it into."""


@dataclass(frozen=True)
class WeightSource:
    """The place of a network's weights, and the device to run on.

    path: a file given by the user; None: search the known folders. device: auto, cpu, cuda, cuda:N or mps. download:
    fetch a missing file.
    """

    path: Path | None = None
    device: str = "auto"
    download: bool = False


@dataclass(frozen=True)
class NetworkOutput:
    """Logits and embeddings of B clips of one length. C = 0 for a network without classes."""

    window_logits: np.ndarray  # [B, n, C] float32, one row per window of the clip: before any softmax or sigmoid
    embeddings: np.ndarray  # [B, n, D] float32

    @property
    def logits(self) -> np.ndarray:
        """Average [B, C] over windows, as KL reads them."""
        return self.window_logits.mean(1)

    @property
    def probabilities(self) -> np.ndarray:
        """Average [B, C] over windows of each window's softmax.

        Unlike the softmax of `logits`, it lets a short sound in a long silence keep its class.
        """
        return (softmax(self.window_logits) if self.window_logits.size else self.window_logits).mean(
            1, dtype=np.float64
        )


class AudioNetwork(ABC):
    """A pretrained audio network: a waveform batch and its rate in, logits and embeddings out."""

    name: str
    distance: ClassVar[str] = "fad"  # the field's name of the Fréchet distance over these embeddings: fad or fd
    version: ClassVar[int] = 1  # of our front end: raised when the same file would give other numbers
    sample_rate: ClassVar[int]  # Hz, of the network's input
    dim: int  # D, the size of an embedding
    min_duration: ClassVar[float]  # seconds; a shorter clip is refused
    max_duration: ClassVar[float | None] = None  # seconds; None: any length
    license: ClassVar[str]

    classes: tuple[str, ...] = ()  # C display names, in the order of the logits, where the names are known
    path: Path  # the weights' file
    sha256: str  # of that file
    batch_size: int = 1  # clips of one length to classify together

    def __init__(self, source: WeightSource | None = None) -> None:
        """Load the network. Raises MissingWeightsError if its file or its runtime is absent, InputError if unfit."""
        self.load(source or WeightSource())

    @abstractmethod
    def load(self, source: WeightSource) -> None:
        """Read the weights and set `path` and `sha256`."""

    def __call__(self, wav: np.ndarray, sample_rate: int) -> NetworkOutput:
        """Resample and classify a batch of clips.

        wav: [B, N] (or [N], a batch of one), mono at `sample_rate` Hz in [-1, 1].
        Raises ValueError if wav has another rank, or is shorter or longer than the network takes.
        """
        return self.classify(self.resample(wav, sample_rate))

    def resample(self, wav: np.ndarray, sample_rate: int) -> np.ndarray:
        """Convert wav [B, N] (or [N]) to float32 [B, N] at the network's rate. Raises ValueError as `__call__` does."""
        wav = np.atleast_2d(wav)
        if wav.ndim != 2:
            raise ValueError(f"wav must be [B, N], got shape {wav.shape}")
        duration = wav.shape[1] / sample_rate
        if duration < self.min_duration:
            raise ValueError(f"{duration:.3f} s of sound: {self.name} needs {self.min_duration:g} s")
        if self.max_duration is not None and duration > self.max_duration:
            raise ValueError(f"{duration:.3f} s of sound: {self.name} takes {self.max_duration:g} s at most")
        if sample_rate != self.sample_rate:
            import soxr

            wav = soxr.resample(np.ascontiguousarray(wav.T, np.float32), sample_rate, self.sample_rate, "HQ").T
        return np.ascontiguousarray(wav, np.float32)

    @abstractmethod
    def classify(self, wav: np.ndarray) -> NetworkOutput:
        """Classify wav [B, N] float32 that is at the network's own rate and within its lengths."""

    def describe(self) -> dict[str, Any]:
        """Identify the network, as `results.json` records it."""
        return {
            "name": self.name,
            "file": self.path.name,
            "sha256": self.sha256,
            "licence": self.license,
            "sample_rate": self.sample_rate,
            "embedding_size": self.dim,
        }


def softmax(logits: np.ndarray) -> np.ndarray:
    """Compute the softmax over the last axis, in float64."""
    powers = np.exp(logits - logits.max(-1, keepdims=True), dtype=np.float64)
    return np.asarray(powers / powers.sum(-1, keepdims=True))
