"""Audio to embed: windows of files, codec reconstructions, noise and silence, each with a key of its content.

Sources with equal keys have equal samples, so embeddings are cached by key.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from audiogen_cli import files
from audiogen_cli.data.audio import SAMPLE_RATE, probe, read_audio
from audiogen_cli.devices import alone, choose_device
from audiogen_cli.errors import InputError
from audiogen_cli.model_folder import find_codec

if TYPE_CHECKING:
    from audiogen_cli.codec.model import AudioCodec

# ours: a longer clip is scored on its beginning; 10 s is AudioCaps' length and the longest that PaSST takes.
MAX_DURATION = 10.0
RESAMPLER = "soxr HQ"
NOISE_RMS = 0.1
FADE = 0.02  # seconds


@dataclass(frozen=True)
class Recording:
    """A window of an audio file. start, duration: seconds; None: to the end."""

    path: Path
    start: float = 0.0
    duration: float | None = None

    def read(self, sample_rate: int = SAMPLE_RATE, most: float = MAX_DURATION) -> np.ndarray:
        """Read mono float32 [N], at most `most` seconds. Raises InputError if the file cannot be read."""
        duration = most if self.duration is None else min(self.duration, most)
        return read_audio(self.path, sample_rate, self.start, duration)

    @property
    def length(self) -> float:
        """Seconds that `read` returns, at most MAX_DURATION. Raises InputError if the file cannot be read."""
        left = probe(self.path).duration - self.start
        return min(left, MAX_DURATION if self.duration is None else min(self.duration, MAX_DURATION))

    def first(self, seconds: float) -> Recording:
        """Keep at most the first `seconds`."""
        return replace(self, duration=seconds if self.duration is None else min(seconds, self.duration))

    def after(self, seconds: float) -> Recording:
        """Drop the first `seconds`."""
        left = None if self.duration is None else self.duration - seconds
        return replace(self, start=self.start + seconds, duration=left)


class Reconstructor:
    """Encodes and decodes recordings with a codec."""

    def __init__(self, codec: AudioCodec, device: str) -> None:
        self.codec, self.device, self.fingerprint = codec, device, codec.fingerprint

    @classmethod
    def load(cls, model: str | Path | None, device: str = "auto") -> Reconstructor:
        """Load a codec folder, or the codec of a language model's folder. Raises InputError if it is unusable."""
        from audiogen_cli.codec.model import AudioCodec

        folder, chosen = find_codec(model), choose_device(device)
        return cls(AudioCodec.load(folder, chosen), str(chosen))

    def reconstruct(self, recording: Recording) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return a recording [N] at the codec's rate, its reconstruction [N] float32 and its codes [K, T]."""
        import torch

        wav = recording.read(self.codec.sample_rate)
        with torch.inference_mode(), alone(self.device):
            codes = self.codec.encode(torch.from_numpy(wav)[None, None].to(self.device))
            decoded = self.codec.decode(codes)[0, 0, : len(wav)]
        return wav, decoded.float().cpu().numpy(), codes[0].cpu().numpy()


class AudioSource(Protocol):
    """Audio that can be read again. Both methods raise InputError if a file cannot be read."""

    def key(self) -> str:
        """Identify the content: equal keys, equal samples."""
        ...

    def read(self) -> tuple[np.ndarray, int]:
        """Return samples [N] float32, mono, and their rate in Hz."""
        ...


@dataclass(frozen=True)
class FileAudio:
    """A window of a file, at SAMPLE_RATE: every file is resampled, so that no set differs by its bandwidth alone."""

    recording: Recording

    def key(self) -> str:
        """Combine the file's hash and the window."""
        window = f"{self.recording.start!r} {self.recording.duration!r}"
        return f"file {hash_file(self.recording.path)} {window} at {SAMPLE_RATE} by {RESAMPLER}"

    def read(self) -> tuple[np.ndarray, int]:
        """Read the window."""
        return self.recording.read(), SAMPLE_RATE


@dataclass(frozen=True)
class CodecAudio:
    """A recording, encoded and decoded by the codec."""

    recording: Recording
    reconstructor: Reconstructor

    def key(self) -> str:
        """Combine the recording's key, the codec's fingerprint and the kind of device, whose rounding differs."""
        device = self.reconstructor.device.partition(":")[0]
        return f"codec {self.reconstructor.fingerprint} on {device} of {FileAudio(self.recording).key()}"

    def read(self) -> tuple[np.ndarray, int]:
        """Reconstruct the recording at the codec's rate."""
        return self.reconstructor.reconstruct(self.recording)[1], self.reconstructor.codec.sample_rate


@dataclass(frozen=True)
class ContinuationAudio:
    """A continuation whose prompt is replaced by the codec's reconstruction, so that all of it was decoded once.

    The file holds the recording itself up to the end of `prompt`; there the two are cross-faded over FADE seconds.
    """

    output: Recording
    prompt: Recording
    reconstructor: Reconstructor

    def key(self) -> str:
        """Combine both recordings' keys and the codec's fingerprint."""
        return f"continuation {FileAudio(self.output).key()} of {CodecAudio(self.prompt, self.reconstructor).key()}"

    def read(self) -> tuple[np.ndarray, int]:
        """Read the whole result at the codec's rate."""
        decoded, rate = CodecAudio(self.prompt, self.reconstructor).read()
        wav = self.output.read(rate)
        n_prompt = min(len(decoded), len(wav))
        weight = np.ones(n_prompt, np.float32)
        n_fade = min(n_prompt, round(FADE * rate))
        weight[n_prompt - n_fade :] = np.linspace(1, 0, n_fade, dtype=np.float32)
        wav[:n_prompt] += weight * (decoded[:n_prompt] - wav[:n_prompt])
        return wav, rate


@dataclass(frozen=True)
class NoiseAudio:
    """White Gaussian noise; silence if `rms` is 0."""

    n_samples: int
    seed: int = 0
    rms: float = 0.0

    def key(self) -> str:
        """Combine seed, length and level."""
        return f"noise {self.seed} {self.n_samples} {self.rms}" if self.rms else f"silence {self.n_samples}"

    def read(self) -> tuple[np.ndarray, int]:
        """Draw the noise."""
        generator = np.random.default_rng(self.seed)
        return generator.normal(0, self.rms, self.n_samples).astype(np.float32), SAMPLE_RATE


def hash_file(path: Path) -> str:
    """Hash a file by SHA-256; cached until its size or time changes. Raises InputError if it cannot be read."""
    try:
        stat = path.stat()
        return _hash(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


@lru_cache(maxsize=1 << 16)
def _hash(path: Path, size: int, modified: int) -> str:
    return files.hash_file(path)
