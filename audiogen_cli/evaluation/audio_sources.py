"""What is to be heard: windows of files, codec reconstructions, noise and silence, each with a key of its content.

Equal keys mean equal samples, so what a network made of a sound can be kept for the next run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from audiogen_cli import files
from audiogen_cli.data.audio import SAMPLE_RATE
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.networks.base import RESAMPLER
from audiogen_cli.evaluation.references import Recording

if TYPE_CHECKING:
    from audiogen_cli.evaluation.tasks.codec import Reconstructor

NOISE_RMS = 0.1
SEAM = 0.02  # seconds


class Sound(Protocol):
    """Something to hear. Both methods raise InputError if a file cannot be read."""

    def key(self) -> str:
        """Names the content: equal keys, equal samples."""
        ...

    def read(self) -> tuple[np.ndarray, int]:
        """Samples [N] float32, mono, and their rate in Hz."""
        ...


@dataclass(frozen=True)
class FileSound:
    """A window of a file, at SAMPLE_RATE: every sound takes this way, so bandwidth is no difference between sets."""

    recording: Recording

    def key(self) -> str:
        """The file's hash and the window."""
        window = f"{self.recording.start!r} {self.recording.duration!r}"
        return f"file {hash_file(self.recording.path)} {window} at {SAMPLE_RATE} by {RESAMPLER}"

    def read(self) -> tuple[np.ndarray, int]:
        """The window's samples."""
        return self.recording.read(), SAMPLE_RATE


@dataclass(frozen=True)
class CodecSound:
    """A recording through the codec and back."""

    recording: Recording
    reconstructor: Reconstructor

    def key(self) -> str:
        """The recording's key, the codec's fingerprint, and the kind of device, which rounds in its own way."""
        device = self.reconstructor.device.partition(":")[0]
        return f"codec {self.reconstructor.fingerprint} on {device} of {FileSound(self.recording).key()}"

    def read(self) -> tuple[np.ndarray, int]:
        """The reconstruction at the codec's rate."""
        return self.reconstructor(self.recording)


@dataclass(frozen=True)
class PromptedSound:
    """A continuation whose prompt sounds as the codec decodes it: all of it then has passed the codec once.

    The file holds the recording itself up to `prompt`'s end; there the two are cross-faded over SEAM seconds.
    """

    output: Recording
    prompt: Recording
    reconstructor: Reconstructor

    def key(self) -> str:
        """Both recordings' keys and the codec's fingerprint."""
        return f"continuation {FileSound(self.output).key()} of {CodecSound(self.prompt, self.reconstructor).key()}"

    def read(self) -> tuple[np.ndarray, int]:
        """The whole result at the codec's rate."""
        decoded, rate = self.reconstructor(self.prompt)
        wav = self.output.read(rate)
        n_prompt = min(len(decoded), len(wav))
        share = np.ones(n_prompt, np.float32)
        n_fade = min(n_prompt, round(SEAM * rate))
        share[n_prompt - n_fade :] = np.linspace(1, 0, n_fade, dtype=np.float32)
        wav[:n_prompt] += share * (decoded[:n_prompt] - wav[:n_prompt])
        return wav, rate


@dataclass(frozen=True)
class NoiseSound:
    """White Gaussian noise of NOISE_RMS."""

    seed: int
    n_samples: int

    def key(self) -> str:
        """Seed and length."""
        return f"noise {self.seed} {self.n_samples} {NOISE_RMS}"

    def read(self) -> tuple[np.ndarray, int]:
        """The noise."""
        generator = np.random.default_rng(self.seed)
        return generator.normal(0, NOISE_RMS, self.n_samples).astype(np.float32), SAMPLE_RATE


@dataclass(frozen=True)
class SilenceSound:
    """Zeros."""

    n_samples: int

    def key(self) -> str:
        """The length."""
        return f"silence {self.n_samples}"

    def read(self) -> tuple[np.ndarray, int]:
        """The zeros."""
        return np.zeros(self.n_samples, np.float32), SAMPLE_RATE


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content, read once while its size and time stay. Raises InputError if it cannot be read."""
    try:
        stat = path.stat()
        return _hash(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


@lru_cache(maxsize=1 << 16)
def _hash(path: Path, size: int, modified: int) -> str:
    return files.hash_file(path)
