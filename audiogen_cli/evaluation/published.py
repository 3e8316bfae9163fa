"""Published numbers, shown beside a result if networks, protocol and set size are the same."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audiogen_cli.evaluation.config import EvalConfig
    from audiogen_cli.evaluation.results import Findings

SPLIT = "audiocaps-test"
# ours: AudioCaps' test set has 975 clips, of which videos vanish; below this a set is another one.
MIN_CLIPS = 880

# FAD by Google's VGGish, KL(reference ‖ generated) by PaSST's 10 s model.
FAD, KL = "fad_vggish_google", "kl_passt"
ANY_NETWORK = {"fad": r"(fad|fd)_(?!infinity)", "kl": r"kl_(?!reverse|exact|sigmoid)"}  # fd: by PANN or PaSST
# Table 1 of the paper: system → OVL and REL, each with its 95% interval, FAD, KL.
Score = tuple[float, float]
TABLE_1: dict[str, tuple[Score, Score, float | None, float | None]] = {
    "reference": ((92.08, 1.16), (92.97, 0.85), None, None),
    "DiffSound": ((65.68, 1.58), (55.91, 1.75), 7.39, 2.57),
    "AudioGen-base, no mixing": ((70.85, 1.06), (63.23, 1.65), 2.84, 2.14),
    "AudioGen-base": ((71.68, 1.89), (66.01, 1.79), 3.13, 2.09),
    "AudioGen-large": ((71.85, 1.07), (68.73, 1.61), 1.82, 1.69),
}
# Table 2, left: codec → bitrate in kbit/s of 1024 bit, SI-SNR in dB, ViSQOL.
TABLE_2: dict[str, tuple[float, float, float]] = {
    "x32, 1 stream": (5.37, 5.1, 3.95),
    "x64, 2 streams": (4.88, 4.5, 3.94),
    "x128, 4 streams": (4.39, 4.2, 3.91),
}
# Table 2, right: model and streams → FAD, KL, times as fast as with one stream.
TABLE_2_GENERATION: dict[tuple[str, int], tuple[float, float, float]] = {
    ("base", 1): (3.13, 2.09, 1.0),
    ("base", 2): (10.35, 2.17, 2.0),
    ("base", 4): (9.68, 2.36, 5.1),
    ("large", 1): (1.82, 1.69, 1.0),
    ("large", 2): (6.89, 1.86, 2.3),
    ("large", 4): (10.89, 2.59, 3.6),
}
# Table 3: dataset → hours before the paper's filters.
TABLE_3: dict[str, float] = {
    **{"audioset": 5420, "bbc": 463, "audiocaps": 145, "clotho": 37, "vggsound": 560, "fsd50k": 108},
    **{"freetousesounds": 176, "sonniss": 85, "wesoundeffects": 12, "paramount": 20},
}
# Table 5: text encoder and model → FAD, KL; the two of one size are Table 1's.
TABLE_5: dict[tuple[str, str], tuple[float, float]] = {
    ("T5-base", "base"): (3.13, 2.09),
    ("T5-base", "large"): (2.27, 1.92),
    ("T5-large", "base"): (3.03, 1.91),
    ("T5-large", "large"): (1.82, 1.69),
}

ROWS: dict[str, tuple[float, float]] = {
    **{f"{name} (paper, Table 1)": (fad, kl) for name, (_, _, fad, kl) in TABLE_1.items() if fad and kl},
    "AudioGen-base, AudioSet + AudioCaps only (paper, sec. 4.2)": (4.39, 2.46),
    **{
        f"AudioGen-{size}, {streams} streams (paper, Table 2)": (fad, kl)
        for (size, streams), (fad, kl, _) in TABLE_2_GENERATION.items()
        if streams > 1
    },
    **{
        f"AudioGen-{size}, {encoder} (paper, Table 5)": scores
        for (encoder, size), scores in TABLE_5.items()
        if not encoder.endswith(size)
    },
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


def published_codecs(config: EvalConfig, findings: Findings) -> dict[str, dict[str, float]]:
    """List Table 2's codecs under the names of our metrics; empty unless AudioCaps' whole test set was scored.

    The paper does not say on which clips it measured; all its other numbers are of that set.
    """
    if config.split != SPLIT or config.limit is not None or config.reference is not None or findings.n < MIN_CLIPS:
        return {}
    return {
        f"{name} (paper, Table 2)": {"paper_kbps": kbps, "si_snr": si_snr, "visqol": visqol}
        for name, (kbps, si_snr, visqol) in TABLE_2.items()
    }


def published_ratings(split: str | None, question: str) -> dict[str, Score]:
    """List Table 1's mean scores and 95% intervals of a listening test's question; empty for another set of clips."""
    if split != SPLIT or question not in ("ovl", "rel"):
        return {}
    ratings = {name: {"ovl": ovl, "rel": rel} for name, (ovl, rel, _, _) in TABLE_1.items()}
    return {f"{name} (paper, Table 1)": scores[question] for name, scores in ratings.items()}


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


def find_metric(metrics: Mapping[str, float | None], name: str) -> float | None:
    """Return "fad" or "kl" by whichever network it was measured, or the first metric whose name begins with `name`."""
    return next((value for key, value in metrics.items() if re.match(ANY_NETWORK.get(name, name), key)), None)
