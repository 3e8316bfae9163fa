"""Fréchet audio distance between two sets of embeddings (paper sec. 4; Kilgour et al. 2019), in float64.

FAD = ‖μr − μg‖² + tr(Cr) + tr(Cg) − 2·tr((Cr·Cg)^½), over all windows of all clips pooled, covariances with n − 1.
No general matrix root is taken: it turns complex on noise, and SciPy has dropped the form that the field's tools call.

FAD is biased upward when windows are few, badly so below the embedding size: compare only runs of equal n.
"""

from __future__ import annotations

import numpy as np

# Below these, a FAD says more about the sample than about the model.
FEW_CLIPS = 500


def frechet_distance(reference: np.ndarray, generated: np.ndarray) -> float:
    """The Fréchet distance between Gaussians fitted to two sets; symmetric, and 0 for a set against itself.

    reference [n, D], generated [m, D]: one embedding a row, in any order; n and m need not agree.
    Raises ValueError if D differs, a set has fewer than two rows, or a value is not finite.
    """
    reference, generated = _checked(reference), _checked(generated)
    if reference.shape[1] != generated.shape[1]:
        raise ValueError(f"embeddings of different sizes: {reference.shape[1]} and {generated.shape[1]}")
    few = max(len(reference), len(generated)) < 2 * reference.shape[1]
    return distance_of_few(reference, generated) if few else distance_of_many(reference, generated)


def distance_of_few(reference: np.ndarray, generated: np.ndarray) -> float:
    """The form for few windows: tr((Cr·Cg)^½) is the sum of the singular values of A·Bᵀ, with Cr = AᵀA, Cg = BᵀB.

    No covariance and no root, so it is exact for sets of any rank. Arrays as in `frechet_distance`, float64.
    """
    a, b = _centred(reference), _centred(generated)
    trace = float((a**2).sum() + (b**2).sum())
    root = float(np.linalg.svd(a @ b.T, compute_uv=False).sum())
    return _combine(reference, generated, trace, root)


def distance_of_many(reference: np.ndarray, generated: np.ndarray) -> float:
    """The form for many windows: Cr·Cg has the eigenvalues of R·Cg·R, R = Cr^½, which is symmetric and stays real."""
    a, b = _centred(reference), _centred(generated)
    cov_r, cov_g = a.T @ a, b.T @ b
    values, vectors = np.linalg.eigh(cov_r)
    root_r = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    root = float(np.sqrt(np.linalg.eigvalsh(root_r @ cov_g @ root_r).clip(0)).sum())
    return _combine(reference, generated, float(np.trace(cov_r) + np.trace(cov_g)), root)


def _checked(embeddings: np.ndarray) -> np.ndarray:
    if embeddings.ndim != 2 or len(embeddings) < 2:
        raise ValueError(f"a set must be [n, D] with n >= 2, got shape {embeddings.shape}")
    if not np.isfinite(embeddings).all():
        raise ValueError("embeddings hold values that are not finite")
    return embeddings.astype(np.float64)


def _centred(embeddings: np.ndarray) -> np.ndarray:
    return np.asarray((embeddings - embeddings.mean(0)) / np.sqrt(len(embeddings) - 1))


def _combine(reference: np.ndarray, generated: np.ndarray, trace: float, root: float) -> float:
    shift = reference.mean(0) - generated.mean(0)
    distance = float(shift @ shift) + trace - 2 * root
    # Rounding may leave a hair below 0; anything beyond that would be a fault and stays visible.
    return 0.0 if -1e-6 * trace < distance < 0 else distance
