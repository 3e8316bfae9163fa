"""What every audio network offers to FAD, KL, inception score, CLAP score and class hits, and how one is chosen.

A number means nothing without the network behind it, so a backend declares its name (part of every metric's
name), its file with the SHA-256, and its licence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import ClassVar

import numpy as np

from audiogen_cli.errors import InputError

# Backend → "module:class". A module is imported when its backend is asked for: each has dependencies of its own.
_HERE = "audiogen_cli.evaluation.networks"
BACKENDS = {
    "passt": f"{_HERE}.passt:Passt",
    "pann": f"{_HERE}.pann:Cnn14At32k",
    "pann-16k": f"{_HERE}.pann:Cnn14At16k",
    "yamnet": f"{_HERE}.yamnet:YamNet",
    "vggish-google": f"{_HERE}.vggish:VggishGoogle",
    "vggish-torch": f"{_HERE}.vggish:VggishTorch",
    "clap": f"{_HERE}.clap:Clap",
}
CLASSIFIERS = ("passt", "pann", "pann-16k", "yamnet")  # those with classes, which KL needs
# The best first: PaSST is the paper's, YAMNet needs no download.
PREFERRED = ("passt", "pann", "yamnet")
RESAMPLER = "soxr HQ"


class MissingWeightsError(InputError):
    """A backend's file is not here; the message names it and the place to put it."""


@dataclass(frozen=True)
class Source:
    """Where a backend takes its weights from, and where it runs.

    path: a file given by the user, else the known places are searched. device: auto, cpu, cuda, cuda:N or mps.
    download: whether a missing file may be fetched.
    """

    path: Path | None = None
    device: str = "auto"
    download: bool = False


@dataclass(frozen=True)
class ClassifierOutput:
    """What a network says about a batch of B clips of one length. C = 0 for one without classes."""

    window_logits: np.ndarray  # [B, n, C] float32, one row per window of the clip: before any softmax or sigmoid
    embeddings: np.ndarray  # [B, n, D] float32

    @property
    def logits(self) -> np.ndarray:
        """[B, C]: the mean over windows, what KL reads."""
        return self.window_logits.mean(1)

    @property
    def probabilities(self) -> np.ndarray:
        """[B, C]: the mean over windows of each window's softmax.

        Unlike the softmax of `logits`, it lets a short sound in a long silence keep its class.
        """
        return softmax(self.window_logits).mean(1) if self.window_logits.shape[-1] else self.window_logits.mean(1)


class Classifier(ABC):
    """A pretrained audio network: a waveform batch and its rate in, logits and embeddings out."""

    name: str
    distance: ClassVar[str] = "fad"  # what the field calls the Fréchet distance over these embeddings: fad, or fd
    version: ClassVar[int] = 1  # of our front end: raised when the same file would give other numbers
    sample_rate: ClassVar[int]  # Hz, what the network reads
    dim: int  # D, the size of an embedding
    min_duration: ClassVar[float]  # seconds; a shorter clip is refused
    max_duration: ClassVar[float | None]  # seconds; None: any length
    licence: ClassVar[str]

    classes: tuple[str, ...] = ()  # C display names, in the order of the logits, where the names are known
    path: Path  # the file that the weights were read from
    sha256: str  # of that file
    batch_size: int = 1  # clips of one length that are best classified together

    def __init__(self, source: Source | None = None) -> None:
        """Load the network. Raises MissingWeightsError if its file or its runtime is absent, InputError if unfit."""
        self.load(source or Source())

    @abstractmethod
    def load(self, source: Source) -> None:
        """Read the weights and set `path` and `sha256`."""

    def __call__(self, wav: np.ndarray, sample_rate: int) -> ClassifierOutput:
        """Classify a batch of clips.

        wav: [B, N] (or [N], a batch of one), mono at `sample_rate` Hz in [-1, 1]; resampled here if the network reads
        another rate, so that every clip takes the same path.
        Raises ValueError if wav has another rank, or is shorter or longer than the network takes.
        """
        return self.classify(self.resample(wav, sample_rate))

    def resample(self, wav: np.ndarray, sample_rate: int) -> np.ndarray:
        """wav [B, N] (or [N]) as float32 [B, N] at the network's own rate. Raises ValueError as `__call__` does."""
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
    def classify(self, wav: np.ndarray) -> ClassifierOutput:
        """Classify wav [B, N] float32 that is at the network's own rate and within its lengths."""


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, in float64."""
    powers = np.exp(logits - logits.max(-1, keepdims=True), dtype=np.float64)
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def load_classifier(name: str, source: Source | None = None) -> Classifier:
    """Load a backend by name. Raises InputError if there is none of that name, or its files are not here."""
    if name not in BACKENDS:
        raise InputError(f"unknown classifier '{name}': choose one of {', '.join(BACKENDS)}")
    module, attribute = BACKENDS[name].split(":")
    backend: type[Classifier] = getattr(import_module(module), attribute)
    return backend(source)


def load_first(names: tuple[str, ...], sources: dict[str, Source], fallback: Source) -> Classifier | None:
    """The first of the backends whose files are here, each from its source in `sources`, else from `fallback`."""
    for name in names:
        try:
            return load_classifier(name, sources.get(name, fallback))
        except MissingWeightsError:
            continue
    return None
