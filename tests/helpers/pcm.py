"""16-bit files, sample for sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile


def write_noise(path: Path, n: int, loudest: int = 32_768, rate: int = 16_000) -> Path:
    """Write n samples of noise, those at the limits included."""
    samples = np.random.default_rng(0).integers(-loudest, loudest, n).astype(np.int16)
    soundfile.write(path, samples, rate)
    return path


def read_samples(path: Path) -> np.ndarray:
    """Read a file's samples as the integers they are."""
    return soundfile.read(path, dtype="int16")[0]
