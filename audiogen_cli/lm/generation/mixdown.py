"""A prompt's sounds made apart and laid over each other: where each lies, and their sum.

# ours: the paper's model says all sounds of a prompt at once, as any model here does with `layers: 1`. A codec of few
bits a second has no room for two: through the embedded model's, a fifth of real mixes keep both of their sounds. Laid
over each other after decoding, each has all the bits to itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audiogen_cli.data.loudness import UNMIXABLE_RMS, measure

LEAD = 2.0  # seconds from the beginning of the first sound to that of the last, and from end to end …
MAX_LEAD = 0.4  # … or this share of the whole, if that is less
FADE = 0.25  # seconds, where a sound comes and goes within the whole
CEILING = 0.99  # of full scale; what reaches it would count as clipped


@dataclass(frozen=True)
class Layer:
    """Where one sound lies in the whole, in samples."""

    begin: int
    n_samples: int


def place_layers(n: int, n_samples: int, sample_rate: int) -> list[Layer]:
    """n layers, equally long, of n_samples in all: one after the other begins, and in the same order they end.

    So the first is alone at the beginning and the last at the end, as in the mixes of training (sec. 4.1), which
    have a temporal offset too. In between all are heard.
    """
    lead = round(min(LEAD * sample_rate, MAX_LEAD * n_samples)) if n > 1 else 0
    return [Layer(lead * i // max(1, n - 1), n_samples - lead) for i in range(n)]


def lay(sounds: Sequence[np.ndarray], layers: Sequence[Layer], sample_rate: int) -> np.ndarray:
    """Sum of sounds [layer.n_samples] float32 at their places → [N] float32.

    All but silence get the power of the most powerful; they fade where they come and go. A sum that passes CEILING is
    scaled down as a whole.
    """
    n_samples = max(layer.begin + layer.n_samples for layer in layers)
    levels = [measure(sound).rms for sound in sounds]
    whole = np.zeros(n_samples, np.float32)
    for sound, layer, level in zip(sounds, layers, levels, strict=True):
        gain = max(levels) / level if level > UNMIXABLE_RMS else 1.0
        end = layer.begin + layer.n_samples
        faded = sound * _envelope(layer, n_samples, round(FADE * sample_rate))
        whole[layer.begin : end] += np.float32(gain) * faded
    return whole * np.float32(CEILING / max(CEILING, float(np.abs(whole).max())))


def _envelope(layer: Layer, n_samples: int, n_fade: int) -> np.ndarray:
    """[layer.n_samples] float32: 1 but for the fades, which the beginning and the end of the whole have none of."""
    n_fade = min(n_fade, layer.n_samples // 2)
    ramp = np.linspace(0.0, 1.0, n_fade, dtype=np.float32)
    envelope = np.ones(layer.n_samples, np.float32)
    if layer.begin > 0:
        envelope[:n_fade] = ramp
    if layer.begin + layer.n_samples < n_samples:
        envelope[layer.n_samples - n_fade :] = ramp[::-1]
    return envelope
