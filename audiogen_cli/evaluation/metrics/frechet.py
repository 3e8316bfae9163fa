"""The Fréchet distance between two sets of embeddings (paper sec. 4; Kilgour et al. 2019), in float64.

FAD = ‖μr − μg‖² + tr(Cr) + tr(Cg) − 2·tr((Cr·Cg)^½), over all windows of all clips pooled, covariances with n − 1.
No general matrix root is taken: it turns complex on noise, and SciPy has dropped the form that the field's tools use.

FAD is biased upward when windows are few, badly so below the embedding size: compare only runs of equal n, or
extrapolate to n = ∞ (Gui et al. 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

# Below these, a FAD says more about the sample than about the model.
FEW_CLIPS = 500
# FAD-∞: subsets of the generated clips from MIN_WINDOWS windows up to all of them, SIZES sizes.
MIN_WINDOWS, SIZES = 500, 25


class FrechetDistance:
    """The distance between Gaussians fitted to two sets; the reference's root is computed once for all sets.

    It is symmetric, and 0 for a set against itself. reference: [n, D], one embedding a row, in any order.
    Raises ValueError for fewer than two rows or values that are not finite.
    """

    def __init__(self, reference: np.ndarray) -> None:
        self.reference = _checked(reference)

    def __call__(self, generated: np.ndarray) -> float:
        """Compute the distance to generated [m, D]. Raises ValueError as the constructor does, or if D differs."""
        generated = self._check_size(generated)
        return self.of_few(generated) if self._are_few(generated) else self.of_many(generated)

    def of_few(self, generated: np.ndarray) -> float:
        """Sum the singular values of A·Bᵀ for tr((Cr·Cg)^½), Cr = AᵀA, Cg = BᵀB: the form for few windows.

        Without covariance and root, it is exact for sets of any rank. generated: float64.
        """
        root = np.linalg.svd(_centered(self.reference) @ _centered(generated).T, compute_uv=False).sum()
        return self._combine(generated, float(root))

    def of_many(self, generated: np.ndarray) -> float:
        """Use the eigenvalues of the symmetric R·Cg·R, R = Cr^½, which are those of Cr·Cg: for many windows."""
        b = _centered(generated) @ self._root
        return self._combine(generated, float(np.sqrt(np.linalg.eigvalsh(b.T @ b).clip(0)).sum()))

    def influence(self, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute by how much each row of the two sets moves the distance (first order): [n] and [m], each of mean 0.

        A row's share in tr((Cr·Cg)^½) is the diagonal of (A·Cg·Aᵀ)^½, of (B·Cr·Bᵀ)^½ for the generated ones.
        """
        generated = self._check_size(generated)
        a, b = _centered(self.reference), _centered(generated)
        share_a, share_b = _shares_of_few(a, b) if self._are_few(generated) else self._shares_of_many(a, b)
        shift = self.reference.mean(0) - generated.mean(0)
        return _influence(a, share_a, shift), _influence(b, share_b, -shift)

    @cached_property
    def _eigen(self) -> tuple[np.ndarray, np.ndarray]:
        a = _centered(self.reference)
        values, vectors = np.linalg.eigh(a.T @ a)
        return values.clip(0), vectors

    @cached_property
    def _root(self) -> np.ndarray:
        values, vectors = self._eigen
        return np.asarray((vectors * np.sqrt(values)) @ vectors.T)

    def _shares_of_many(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y = b @ self._root  # B·R, so that M = YᵀY has the wanted eigenvalues
        squares, basis = np.linalg.eigh(y.T @ y)
        roots = np.sqrt(squares.clip(0))
        values, vectors = self._eigen
        whitened = a @ ((vectors * np.sqrt(_inverse(values))) @ (vectors.T @ basis))  # A·R⁺·Q
        return (whitened**2) @ roots, ((y @ basis) ** 2) @ _inverse(roots)

    def _check_size(self, generated: np.ndarray) -> np.ndarray:
        generated = _checked(generated)
        if self.reference.shape[1] != generated.shape[1]:
            raise ValueError(f"embeddings of different sizes: {self.reference.shape[1]} and {generated.shape[1]}")
        return generated

    def _are_few(self, generated: np.ndarray) -> bool:
        return max(len(self.reference), len(generated)) < 2 * self.reference.shape[1]

    def _combine(self, generated: np.ndarray, root: float) -> float:
        shift = self.reference.mean(0) - generated.mean(0)
        trace = float((_centered(self.reference) ** 2).sum() + (_centered(generated) ** 2).sum())
        distance = float(shift @ shift) + trace - 2 * root
        # Rounding may leave a hair below 0; anything beyond that would be a fault and stays visible.
        return 0.0 if -1e-6 * trace < distance < 0 else distance


@dataclass(frozen=True)
class Extrapolation:
    """FAD-∞. value: the line's intercept; r2: of its fit; windows, distances: its points."""

    value: float
    r2: float
    windows: tuple[int, ...]
    distances: tuple[float, ...]


def fad_infinity(
    distance: FrechetDistance, clips: Sequence[np.ndarray], seed: int, min_windows: int = MIN_WINDOWS
) -> Extrapolation | None:
    """Fit a line to the distances of growing subsets over 1/n and extend it to n = ∞ (Gui et al. 2023).

    clips: each generated clip's embeddings [n, D]; whole clips are drawn without replacement, against all of the
    reference. None if the clips have too few windows for two sizes.
    """
    total = sum(len(clip) for clip in clips)
    smallest = -(-min_windows * len(clips) // max(total, 1))  # clips
    if total <= min_windows or smallest >= len(clips):
        return None
    generator = np.random.default_rng(seed)
    points = []
    for size in np.unique(np.linspace(smallest, len(clips), SIZES).round().astype(int)):
        subset = np.concatenate([clips[i] for i in generator.permutation(len(clips))[:size]])
        points.append((len(subset), distance(subset)))
    windows, distances = zip(*points, strict=True)
    x, y = 1 / np.array(windows), np.array(distances)
    slope, intercept = np.polyfit(x, y, 1)
    spread = float(((y - y.mean()) ** 2).sum())
    r2 = 1 - float(((y - slope * x - intercept) ** 2).sum()) / spread if spread else 1.0
    return Extrapolation(float(intercept), r2, windows, distances)


def _checked(embeddings: np.ndarray) -> np.ndarray:
    if embeddings.ndim != 2 or len(embeddings) < 2:
        raise ValueError(f"a set must be [n, D] with n >= 2, got shape {embeddings.shape}")
    if not np.isfinite(embeddings).all():
        raise ValueError("embeddings hold values that are not finite")
    return embeddings.astype(np.float64)


def _centered(embeddings: np.ndarray) -> np.ndarray:
    return np.asarray((embeddings - embeddings.mean(0)) / np.sqrt(len(embeddings) - 1))


def _shares_of_few(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    u, values, v = np.linalg.svd(a @ b.T, full_matrices=False)
    return (u**2) @ values, values @ (v**2)


def _influence(rows: np.ndarray, shares: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Compute a row's influence: the change, of mean 0, if its weight doubled. rows: centered, divided by √(n − 1)."""
    n = len(rows)
    scale = np.sqrt(n - 1)
    change = 2 * scale * (rows @ shift) + (n - 1) * ((rows**2).sum(1) - shares)
    return np.asarray((change - change.mean()) / n)


def _inverse(values: np.ndarray) -> np.ndarray:
    """Compute 1 / values, 0 where a value is 0 but for rounding."""
    small = values <= values.max(initial=0.0) * len(values) * np.finfo(float).eps
    return np.divide(1.0, values, out=np.zeros_like(values), where=~small)
