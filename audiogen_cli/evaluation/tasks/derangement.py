"""One other clip for each clip: the wrong captions of Table 4, the shuffled pairs of KL's scale."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def derangement(ids: Sequence[str], seed: int, texts: Sequence[str | None] | None = None) -> np.ndarray:
    """For each clip the index [n] of another one, each used once; no clip gets itself if there are two.

    It depends on the ids and the seed alone, so it is the same in every cell of a grid and after a restart. Clips
    of one text (ESC-50 has 40 a class) get none of their own as long as no text has more than half of the clips:
    they are laid out text by text in random order, and everyone takes the clip that lies the largest group further.
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
