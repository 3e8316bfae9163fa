"""Published numbers for AudioCaps' test set, shown beside a result if networks, protocol and set size are the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from audiogen_cli.evaluation.config import EvalConfig
from audiogen_cli.evaluation.results import Findings

SPLIT = "audiocaps-test"
# ours: AudioCaps' test set has 975 clips, of which videos vanish; below this a set is another one.
MIN_CLIPS = 880

# FAD by Google's VGGish, KL(reference ‖ generated) by PaSST's 10 s model.
FAD, KL = "fad_vggish_google", "kl_passt"
ROWS: dict[str, tuple[float, float]] = {
    "DiffSound (AudioGen paper, Table 1)": (7.39, 2.57),
    "AudioGen-base, no mixing (paper, Table 1)": (2.84, 2.14),
    "AudioGen-base (paper, Table 1)": (3.13, 2.09),
    "AudioGen-base, AudioSet + AudioCaps only (paper, sec. 4.2)": (4.39, 2.46),
    "AudioGen-large (paper, Table 1)": (1.82, 1.69),
    "audiogen-medium, 1.5B (audiocraft's model card)": (1.77, 1.58),
    "audio-magnet-small (audiocraft's model card)": (3.21, 1.42),
    "audio-magnet-medium (audiocraft's model card)": (2.32, 1.64),
}


def published_rows(config: EvalConfig, findings: Findings) -> dict[str, dict[str, float]]:
    """Return published numbers by system, under our metrics' names; none unless they compare.

    The split must be AudioCaps' test set, its own recordings the references, and (nearly) all of it scored.
    """
    whole = findings.n >= max(MIN_CLIPS, 0.98 * findings.n_available) and config.limit is None
    if config.split != SPLIT or config.reference is not None or config.unpaired or not whole:
        return {}
    shared = [name for name in (FAD, KL) if name in findings.metrics]
    return {
        system: {name: value for name, value in zip((FAD, KL), values, strict=True) if name in shared}
        for system, values in ROWS.items()
        if shared
    }


# Table 4 of the paper: text → prompt seconds → FAD, KL w. SRC, KL w. RND.
TABLE_4: dict[str, dict[float, tuple[float, float, float | None]]] = {
    "src": {
        0.5: (1.97, 1.49, None),
        1.0: (1.96, 1.35, None),
        2.0: (1.92, 1.21, None),
        3.0: (1.90, 1.09, None),
        4.0: (1.97, 1.00, None),
    },
    "none": {
        0.5: (5.66, 3.39, 5.04),
        1.0: (4.70, 2.86, 4.95),
        2.0: (3.15, 2.10, 5.00),
        3.0: (2.46, 1.58, 5.04),
        4.0: (2.14, 1.18, 5.10),
    },
    "rnd": {
        0.5: (3.08, 3.85, 2.38),
        1.0: (3.17, 3.25, 2.65),
        2.0: (2.92, 2.47, 3.13),
        3.0: (2.58, 1.84, 3.54),
        4.0: (2.29, 1.34, 4.37),
    },
}


def published_cells(config: EvalConfig, columns: Sequence[str], n: int, n_available: int) -> list[dict[str, Any]]:
    """Return Table 4's cells as `details.cells` has them; none unless split, networks and set size are the paper's."""
    whole = n >= max(MIN_CLIPS, 0.9 * n_available) and config.limit is None
    if config.split != SPLIT or config.reference is not None or not whole:
        return []
    names = (FAD, f"{KL}_src", f"{KL}_rnd")
    return [
        {"prompt_seconds": seconds, "text": text}
        | {name: value for name, value in zip(names, values, strict=True) if name in columns}
        for text, row in TABLE_4.items()
        for seconds, values in row.items()
        if set(names) & set(columns)
    ]
