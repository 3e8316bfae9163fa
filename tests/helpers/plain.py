"""The networks' operations once more, slowly and in float64: what the backends' golden tests compare with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.signal import correlate
from scipy.special import erf

Weights = Mapping[str, np.ndarray]


def weights_of(module: object) -> dict[str, np.ndarray]:
    """A module's state as float64 arrays."""
    return {name: tensor.double().numpy() for name, tensor in module.state_dict().items()}  # type: ignore[attr-defined]


def conv2d(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, padding: int = 1) -> np.ndarray:
    """x [C, H, W], weight [D, C, k, k] → [D, H', W']."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    planes = [sum(correlate(x[c], kernel[c], "valid") for c in range(len(x))) for kernel in weight]
    return np.stack(planes) + (0 if bias is None else bias[:, None, None])


def pool(x: np.ndarray, how: str) -> np.ndarray:
    """2×2 mean or max over the last two axes; a remainder is dropped."""
    _, height, width = x.shape
    blocks = x[:, : height // 2 * 2, : width // 2 * 2].reshape(len(x), height // 2, 2, width // 2, 2)
    return getattr(blocks, how)((2, 4))


def batch_norm(x: np.ndarray, w: Weights, name: str, axis: int = 0) -> np.ndarray:
    """Along `axis`, by the running statistics."""
    shape = [-1 if i == axis else 1 for i in range(x.ndim)]
    mean, var, gain, shift = (
        w[f"{name}.{part}"].reshape(shape) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / np.sqrt(var + 1e-5) * gain + shift


def layer_norm(x: np.ndarray, w: Weights, name: str, eps: float) -> np.ndarray:
    """Over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    """x [..., C] → [..., D]."""
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def gelu(x: np.ndarray) -> np.ndarray:
    """The exact one."""
    return x * 0.5 * (1 + erf(x / np.sqrt(2)))


def softmax(x: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def power_spectrum(wav: np.ndarray, window: np.ndarray, n_fft: int, hop: int) -> np.ndarray:
    """[frames, n_fft // 2 + 1]: frames centred on multiples of `hop`, the ends mirrored, the window in their middle."""
    padded = np.pad(wav, n_fft // 2, mode="reflect")
    left = (n_fft - len(window)) // 2
    full = np.pad(window, (left, n_fft - len(window) - left))
    starts = range(0, len(padded) - n_fft + 1, hop)
    return np.stack([np.abs(np.fft.rfft(padded[start : start + n_fft] * full)) ** 2 for start in starts])


def triangles(points: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """[points, len(edges) - 2]: each rises from an edge to the next and falls to the one after."""
    columns = []
    for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False):
        rising = (points > low) & (points <= centre)
        falling = (points > centre) & (points < high)
        up, down = (points - low) / (centre - low), (high - points) / (high - centre)
        columns.append(np.where(rising, up, np.where(falling, down, 0.0)))
    return np.stack(columns, 1)


def hann(n: int, periodic: bool) -> np.ndarray:
    """The window of n samples."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / (n if periodic else n - 1))
