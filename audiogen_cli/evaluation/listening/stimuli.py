"""The making of a listening test: blind stimuli of equal loudness, a page for raters, webMUSHRA's configuration.

The paper (sec. 4.1) follows MUSHRA with a hidden reference and a low anchor and asks two questions, OVL (quality) and
REL (match to the text), 1 to 100 each. # ours, where it leaves things open:
- OVL's anchor is the reference through a 3.5 kHz low-pass (BS.1534-3); REL's is another clip's recording, because a
  low-passed true recording still matches its text;
- the reference is only hidden, not shown as such: a generated sound is another sound of the same text, not a copy;
- OVL pages come first and do not show the text, so that quality is judged before relevance.

`<out>/plan.json` is the key to the blind names; raters get `<out>/listening/` and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from audiogen_cli.data.audio import SAMPLE_RATE, read_audio, write_audio
from audiogen_cli.data.loudness import gain_to, loudness
from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.evaluation.audio_sources import MAX_DURATION
from audiogen_cli.evaluation.config import EvalConfig
from audiogen_cli.evaluation.listening.page import write_page, write_webmushra
from audiogen_cli.evaluation.listening.ratings import CONTROLS, LOW_ANCHOR, PLAN_NAME, REFERENCE, WRONG_ANCHOR, Plan
from audiogen_cli.evaluation.references import Reference, limit_clips, load_references, pair
from audiogen_cli.evaluation.results import Progress, Skipped
from audiogen_cli.evaluation.tasks.generate_clips import generate_clips
from audiogen_cli.files import write_text

FORMAT_VERSION = 1
QUESTIONS = ("ovl", "rel")
DEFAULT_ITEMS = 20  # ours: two questions on 20 items with two systems take a rater about half an hour
TARGET = -23.0  # LUFS, the habit of BS.1770; audiocraft's -14 makes many recordings clip
MAX_LOWERING = 12.0  # dB that a page is turned down for the sake of one peaky sound
CEILING = 10 ** (-1 / 20)  # of full scale, -1 dBFS
MIN_DURATION = 0.25  # seconds
MAX_CONDITIONS = 12  # on a page (BS.1534-3)
LOW_PASS = (3500.0, 4000.0)  # Hz: ends of the pass band and of the transition (BS.1534-3: 25 dB down at 4 kHz)
STIMULI = "stimuli"


@dataclass(frozen=True)
class ListeningConfig:
    """One listening test. evaluation: clips, seed, out, and the model where it makes a system's audio.

    systems: name → folder of its audio, named like the clips. with_model: the model is one more system.
    Raises InputError for the name of a control condition, too many systems, or clips without texts.
    """

    evaluation: EvalConfig
    systems: Mapping[str, Path] = field(default_factory=dict)
    with_model: bool = False

    def __post_init__(self) -> None:
        for name in self.systems:
            if name in CONTROLS or (self.with_model and name == "model") or not name.strip():
                raise InputError(f"a system cannot be called '{name}': the test uses that name")
        if not 1 <= len(self.systems) + self.with_model <= MAX_CONDITIONS - 2:
            raise InputError(f"a listening test takes 1 to {MAX_CONDITIONS - 2} systems, got {len(self.systems)}")
        if self.evaluation.split is None:
            raise InputError("a listening test shows raters the clips' texts: give --split <dataset>-<split>")


@dataclass(frozen=True)
class ListeningTest:
    """The files of a test. page: to open in a browser; plan: the key, not for raters; minutes: of one rater's time."""

    page: Path
    plan: Path
    test: str
    n: int
    n_available: int
    minutes: float
    skipped: list[Skipped]
    warnings: list[str]


def prepare(config: ListeningConfig, progress: Progress) -> ListeningTest:
    """Write stimuli, plan, page and webMUSHRA configuration into `<out>`.

    The same inputs and seed give the same test again, bit for bit, so a second call changes nothing.
    Raises InputError if `<out>` holds another test, AudiogenError if no clip is usable.
    """
    evaluation = config.evaluation
    everything, unfit = load_references(evaluation.split, evaluation.manifests, evaluation.reference)
    chosen = limit_clips(everything, evaluation.limit or DEFAULT_ITEMS)
    recordings, missing = _recordings(chosen, everything, config, progress)
    draft = _draft(chosen, everything, recordings, evaluation.seed, progress)
    skipped = [*unfit, *missing, *draft.skipped]
    if not draft.items:
        raise AudiogenError(f"none of {len(chosen)} clips can be listened to; the last: {skipped[-1].reason}")
    plan = _plan(config, draft)
    _refuse_another(evaluation.out / PLAN_NAME, plan)
    seconds = sum(item["duration"] * len(key) for item in draft.items for key in item["pages"].values())
    return ListeningTest(
        page=_write(evaluation.out, plan, draft.sounds),
        plan=evaluation.out / PLAN_NAME,
        test=plan["test"],
        n=len(draft.items),
        n_available=len(everything),
        minutes=seconds / 60,
        skipped=skipped,
        warnings=draft.warnings,
    )


def low_pass(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """Make BS.1534-3's low anchor of wav [N]: flat to 3.5 kHz, at least 60 dB down from 4 kHz on, no delay."""
    from scipy.signal import fftconvolve, firwin, kaiserord

    begin, end = LOW_PASS
    taps, beta = kaiserord(60.0, (end - begin) / (sample_rate / 2))
    kernel = firwin(taps | 1, (begin + end) / 2, window=("kaiser", beta), fs=sample_rate)
    return np.asarray(fftconvolve(wav, kernel, mode="same"), np.float32)


def match(sounds: Mapping[str, np.ndarray], target: float = TARGET) -> tuple[dict[str, np.ndarray], float]:
    """Scale sounds [N] to one loudness; return them and that loudness in LUFS: `target`, or less if a peak would clip.

    At most MAX_LOWERING dB less: a sound with higher peaks stays quieter than the others. Silence stays as it is.
    """
    gains = {name: gain_to(target, wav, SAMPLE_RATE) for name, wav in sounds.items()}
    room = {name: CEILING / max(gains[name] * float(np.abs(wav).max()), 1e-9) for name, wav in sounds.items()}
    lowered = max(min([1.0, *room.values()]), 10 ** (-MAX_LOWERING / 20))
    matched = {name: (gains[name] * min(lowered, room[name]) * wav).astype(np.float32) for name, wav in sounds.items()}
    return matched, target + 20 * float(np.log10(lowered))


def _recordings(
    references: Sequence[Reference], everything: Sequence[Reference], config: ListeningConfig, progress: Progress
) -> tuple[dict[str, dict[str, Path]], list[Skipped]]:
    """Map systems to the files of their clips by id; list the clips that a system lacks."""
    found, skipped = {}, []
    for name, folder in config.systems.items():
        pairs, missing = pair(references, folder, everything)
        found[name] = {reference.id: path for reference, path in pairs}
        skipped += missing
    if config.with_model:
        produced = generate_clips(references, config.evaluation, progress)
        found["model"] = {reference.id: path for reference, path in produced.files}
        skipped += produced.failed
    return found, skipped


@dataclass
class _Draft:
    """A test in the making. items: the plan's entries; sounds: blind name → [N]."""

    items: list[dict[str, Any]] = field(default_factory=list)
    sounds: dict[str, np.ndarray] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def _draft(
    chosen: Sequence[Reference],
    everything: Sequence[Reference],
    recordings: Mapping[str, Mapping[str, Path]],
    seed: int,
    progress: Progress,
) -> _Draft:
    """Read, match and name the sounds of every clip that all systems have. recordings: system → id → file."""
    draft = _Draft()
    others = _wrong_clips(chosen, everything, seed)
    usable = [reference for reference in chosen if all(reference.id in files for files in recordings.values())]
    for done, reference in enumerate(usable, 1):
        progress(done, len(usable))
        other = others[reference.id]
        try:
            page, level = _page_sounds(
                reference, other, {name: files[reference.id] for name, files in recordings.items()}
            )
        except InputError as error:
            draft.skipped.append(Skipped(reference.id, str(error)))
            continue
        item = _item(f"item-{len(draft.items) + 1:03}", reference, other, page, level, seed)
        draft.items.append(item)
        draft.sounds |= {blind: page[system] for key in item["pages"].values() for blind, system in key.items()}
        draft.warnings += _level_warnings(reference, page, level)
    return draft


def _write(out: Path, plan: dict[str, Any], sounds: Mapping[str, np.ndarray]) -> Path:
    """Write the stimuli, the key, webMUSHRA's configuration and the page; return the page's path."""
    folder = out / "listening"
    for blind in sorted(sounds):  # in the order of blind names, so that file times reveal nothing
        write_audio(folder / STIMULI / f"{blind}.wav", sounds[blind])
    write_text(out / PLAN_NAME, json.dumps(plan, indent=2, ensure_ascii=False) + "\n")
    write_webmushra(folder / "webmushra.yaml", plan)
    return write_page(folder / "index.html", plan, folder / STIMULI)


def _wrong_clips(chosen: Sequence[Reference], everything: Sequence[Reference], seed: int) -> dict[str, Reference]:
    """Draw for each clip another one with another text. Raises InputError if all texts are the same."""
    others = {}
    for reference in chosen:
        candidates = [other for other in everything if other.text != reference.text]
        if not candidates:
            raise InputError(f"REL's anchor is a recording of another text, but all clips say '{reference.text}'")
        others[reference.id] = random.Random(f"{seed}/anchor/{reference.id}").choice(candidates)
    return others


def _page_sounds(
    reference: Reference, other: Reference, systems: Mapping[str, Path]
) -> tuple[dict[str, np.ndarray], float]:
    """Read the sounds [N] of one item by condition, equally long and loud, and return their loudness, too.

    Raises InputError if one cannot be read or is too short to judge.
    """
    sounds = {REFERENCE: reference.recording.read(), WRONG_ANCHOR: other.recording.read()}
    sounds |= {name: read_audio(path, SAMPLE_RATE, 0.0, MAX_DURATION) for name, path in systems.items()}
    # All are cut to the shortest, but for the wrong clip, which is padded instead.
    n_samples = min(len(wav) for name, wav in sounds.items() if name != WRONG_ANCHOR)
    if n_samples < MIN_DURATION * SAMPLE_RATE:
        raise InputError(f"a sound of only {n_samples / SAMPLE_RATE:.2f} s cannot be judged")
    cut = {name: np.pad(wav[:n_samples], (0, max(0, n_samples - len(wav)))) for name, wav in sounds.items()}
    matched, level = match(cut)
    # The anchor is filtered after matching (BS.1534-3): it may be quieter.
    return matched | {LOW_ANCHOR: low_pass(matched[REFERENCE], SAMPLE_RATE)}, level


def _level_warnings(reference: Reference, sounds: Mapping[str, np.ndarray], level: float) -> list[str]:
    """Name sounds that are quieter than their page."""
    measured = {name: loudness(wav, SAMPLE_RATE) for name, wav in sounds.items() if name != LOW_ANCHOR}
    return [
        f"{reference.id}: {name} is "
        + ("silent" if not np.isfinite(value) else f"{level - value:.1f} LU quieter than the page")
        for name, value in measured.items()
        if value < level - 0.5
    ]


def _item(
    name: str, reference: Reference, other: Reference, sounds: Mapping[str, np.ndarray], level: float, seed: int
) -> dict[str, Any]:
    """Return the plan's entry of one item: its pages, each with blind name → condition."""
    blind = {system: _blind_name(seed, reference.id, system) for system in sounds}
    drawn = random.Random(f"{seed}/order/{reference.id}")
    pages = {}
    for question, left_out in zip(QUESTIONS, (WRONG_ANCHOR, LOW_ANCHOR), strict=True):
        systems = [system for system in blind if system != left_out]
        drawn.shuffle(systems)  # raters get an order each of their own; this one is webMUSHRA's
        pages[question] = {blind[system]: system for system in systems}
    return {
        "item": name,
        "id": reference.id,
        "text": reference.caption,
        "duration": len(sounds[REFERENCE]) / SAMPLE_RATE,
        "loudness": round(level, 2),
        "wrong_clip": other.id,
        "pages": pages,
    }


def _blind_name(seed: int, clip: str, system: str) -> str:
    """Make a file name that says nothing without the seed and the ids."""
    return hashlib.sha256(f"{seed}/{clip}/{system}".encode()).hexdigest()[:10]


def _plan(config: ListeningConfig, draft: _Draft) -> dict[str, Any]:
    content = {
        "format_version": FORMAT_VERSION,
        "split": config.evaluation.split,
        "seed": config.evaluation.seed,
        "systems": [*config.systems, *(["model"] if config.with_model else [])],
        "loudness_target": TARGET,
        "sample_rate": SAMPLE_RATE,
        "questions": list(QUESTIONS),
        "items": draft.items,
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for blind in sorted(draft.sounds):
        digest.update(draft.sounds[blind].tobytes())
    return {"test": digest.hexdigest()[:12], **content}


def _refuse_another(path: Path, plan: dict[str, Any]) -> None:
    """Raise InputError if another test is there: its raters may be at work, and their ratings need their plan."""
    if not path.exists():
        return
    try:
        old = Plan.load(path).test
    except InputError:
        old = "?"
    if old != plan["test"]:
        raise InputError(f"{path.parent} holds another listening test ({old}); choose another --out")
