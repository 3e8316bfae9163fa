"""The class-following test: does audio made for an ESC-50 class sound like that class to an AudioSet classifier?

A hit is an AudioSet name of the clip's category among the classifier's k best. The mapping follows the AudioSet
ontology: a category's own name, its synonyms and its kinds count ('Bark' for dog); its broad parents ('Animal',
'Vehicle') do not, since half of all clips would hit them. can_opening, drinking_sipping, mouse_click and
washing_machine have no class in AudioSet: the sounds they consist of stand in for them, and even real clips seldom hit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from audiogen_cli.evaluation.networks.base import Classifier, load_classifier

SAMPLE_RATE = 16000
K = 5

AUDIOSET_NAMES: dict[str, frozenset[str]] = {
    category: frozenset(names)
    for category, names in {
        "airplane": (
            "Aircraft",
            "Aircraft engine",
            "Fixed-wing aircraft, airplane",
            "Jet engine",
            "Propeller, airscrew",
        ),
        "breathing": ("Breathing", "Wheeze", "Gasp", "Pant"),
        "brushing_teeth": ("Toothbrush", "Electric toothbrush"),
        "can_opening": ("Burst, pop", "Crack", "Hiss"),
        "car_horn": ("Vehicle horn, car horn, honking", "Toot", "Air horn, truck horn"),
        "cat": ("Cat", "Meow", "Purr", "Caterwaul"),
        "chainsaw": ("Chainsaw", "Power tool"),
        "chirping_birds": ("Bird", "Bird vocalization, bird call, bird song", "Chirp, tweet", "Squawk"),
        "church_bells": ("Church bell", "Bell", "Change ringing (campanology)"),
        "clapping": ("Clapping", "Applause"),
        "clock_alarm": ("Alarm clock", "Alarm", "Buzzer", "Beep, bleep"),
        "clock_tick": ("Clock", "Tick", "Tick-tock"),
        "coughing": ("Cough",),
        "cow": ("Cattle, bovinae", "Moo"),
        "crackling_fire": ("Fire", "Crackle"),
        "crickets": ("Cricket", "Insect"),
        "crow": ("Crow", "Caw"),
        "crying_baby": ("Baby cry, infant cry", "Crying, sobbing", "Whimper", "Wail, moan"),
        "dog": ("Dog", "Bark", "Yip", "Howl", "Bow-wow", "Growling", "Whimper (dog)"),
        "door_wood_creaks": ("Creak", "Squeak", "Door"),
        "door_wood_knock": ("Knock", "Tap", "Door"),
        "drinking_sipping": ("Gargling", "Gurgling", "Liquid", "Slosh"),
        "engine": (
            "Engine",
            "Light engine (high frequency)",
            "Medium engine (mid frequency)",
            "Heavy engine (low frequency)",
            "Engine knocking",
            "Engine starting",
            "Idling",
            "Accelerating, revving, vroom",
        ),
        "fireworks": ("Fireworks", "Firecracker"),
        "footsteps": ("Walk, footsteps", "Run", "Shuffle"),
        "frog": ("Frog", "Croak"),
        "glass_breaking": ("Glass", "Shatter", "Breaking", "Smash, crash"),
        "hand_saw": ("Sawing",),
        "helicopter": ("Helicopter", "Propeller, airscrew"),
        "hen": ("Chicken, rooster", "Cluck", "Fowl"),
        "insects": ("Insect", "Bee, wasp, etc.", "Fly, housefly", "Mosquito", "Buzz"),
        "keyboard_typing": ("Computer keyboard", "Typing", "Typewriter"),
        "laughing": ("Laughter", "Baby laughter", "Giggle", "Snicker", "Belly laugh", "Chuckle, chortle"),
        "mouse_click": ("Clicking", "Tick"),
        "pig": ("Pig", "Oink"),
        "pouring_water": (
            "Pour",
            "Trickle, dribble",
            "Gush",
            "Fill (with liquid)",
            "Water tap, faucet",
            "Sink (filling or washing)",
            "Bathtub (filling or washing)",
        ),
        "rain": ("Rain", "Raindrop", "Rain on surface"),
        "rooster": ("Crowing, cock-a-doodle-doo", "Chicken, rooster", "Fowl"),
        "sea_waves": ("Ocean", "Waves, surf"),
        "sheep": ("Sheep", "Bleat"),
        "siren": (
            "Siren",
            "Civil defense siren",
            "Emergency vehicle",
            "Police car (siren)",
            "Ambulance (siren)",
            "Fire engine, fire truck (siren)",
        ),
        "sneezing": ("Sneeze",),
        "snoring": ("Snoring",),
        "thunderstorm": ("Thunderstorm", "Thunder"),
        "toilet_flush": ("Toilet flush",),
        "train": (
            "Rail transport",
            "Train",
            "Train whistle",
            "Train horn",
            "Railroad car, train wagon",
            "Train wheels squealing",
            "Subway, metro, underground",
            "Clickety-clack",
        ),
        "vacuum_cleaner": ("Vacuum cleaner",),
        "washing_machine": ("Mechanisms", "Mechanical fan", "Whir", "Hum", "Vibration", "Throbbing"),
        "water_drops": ("Drip", "Plop", "Raindrop"),
        "wind": ("Wind", "Wind noise (microphone)"),
    }.items()
}


@dataclass(frozen=True)
class Hits:
    """Shares of clips whose category is the best guess, and among the five best."""

    n: int
    top1: float
    top5: float


@dataclass(frozen=True)
class ClassHits:
    """Hits over all clips, and per category."""

    overall: Hits
    per_class: dict[str, Hits]


def category_of(text: str) -> str:
    """The ESC-50 category that a text names ('clock alarm' → 'clock_alarm'). Raises ValueError if it names none."""
    category = text.strip().lower().replace(" ", "_")
    if category not in AUDIOSET_NAMES:
        raise ValueError(f"'{text}' is not an ESC-50 category")
    return category


def top_k_hit(scores: np.ndarray, classes: Sequence[str], category: str, k: int = K) -> bool:
    """Whether one of the k best of scores [C], whose names are `classes`, is an AudioSet name of the category."""
    best = np.argsort(-scores, kind="stable")[:k]
    return any(classes[index] in AUDIOSET_NAMES[category] for index in best)


def count_hits(scores: Mapping[str, np.ndarray], classes: Sequence[str]) -> ClassHits:
    """Count hits. scores: category → [clips, C], higher is likelier; a category without clips is left out."""
    hits = {
        category: np.array([[top_k_hit(row, classes, category, k) for k in (1, K)] for row in rows])
        for category, rows in scores.items()
        if len(rows)
    }
    return ClassHits(
        overall=_share(np.concatenate(list(hits.values()))) if hits else Hits(0, 0.0, 0.0),
        per_class={category: _share(rows) for category, rows in sorted(hits.items())},
    )


def class_hits(clips: Mapping[str, Sequence[np.ndarray]], classifier: Classifier | None = None) -> ClassHits:
    """Classify clips of known category and count the hits.

    A clip's scores are the mean of its windows' probabilities: many ESC-50 clips are a second of sound and four of
    digital silence, which the mean of logits (as in KL) hears as 'Silence, Speech, Music'.
    clips: ESC-50 category (or its words) → waveforms [N] at 16 kHz, of any lengths. classifier: YAMNet by default.
    Raises ValueError for an unknown category, InputError if the classifier is not installed.
    """
    classifier = classifier or load_classifier("yamnet")
    empty = np.zeros((0, len(classifier.classes)))
    scores = {
        category_of(text): np.concatenate([empty, *(classifier(wav, SAMPLE_RATE).probabilities for wav in wavs)])
        for text, wavs in clips.items()
    }
    return count_hits(scores, classifier.classes)


def _share(hits: np.ndarray) -> Hits:
    top1, top5 = hits.mean(0)
    return Hits(len(hits), float(top1), float(top5))
