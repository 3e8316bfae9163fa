"""Seeded draws by the clips' ids, in whatever order they stand; a clip's seed does not depend on the others either."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def clip_seed(clip_id: str, seed: int) -> int:
    """Derive a clip's own seed from the run's."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{clip_id}".encode()).digest()[:4], "big") >> 1


def derangement(ids: Sequence[str], seed: int, texts: Sequence[str | None] | None = None) -> np.ndarray:
    """Draw for each clip the index [n] of another one, each used once: Table 4's wrong texts, KL's shuffled pairs.

    No clip gets itself if there are two. Clips of one text (ESC-50 has 40 a class) get none of their own as long as no
    text has more than half of the clips: the clips are ordered at random, text by text, and each takes the one that
    follows by the size of the largest group.
    """
    keys = [hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in ids]
    groups: dict[str | None, list[int]] = {}
    for index in sorted(range(len(ids)), key=keys.__getitem__):
        groups.setdefault(ids[index] if texts is None else texts[index], []).append(index)
    order = np.array([index for group in groups.values() for index in group], int)
    largest = max((len(group) for group in groups.values()), default=0)
    step = largest if 2 * largest <= len(ids) else 1
    others = np.empty(len(ids), int)
    others[order] = np.roll(order, -step)
    return others
