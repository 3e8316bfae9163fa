"""`audition.html`: one page to listen to the sounds of a folder: players, spectrograms, prompts, seeds, levels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from audiogen_cli.data.audio import SOUND_SUFFIXES, read_tags
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.audio_sources import Recording
from audiogen_cli.evaluation.report.audio import Budget
from audiogen_cli.evaluation.report.parts import Player, Sample, Section, readable
from audiogen_cli.evaluation.templates import render_page
from audiogen_cli.files import check_folder, write_text
from audiogen_cli.lm.generation.writer import read_sidecar

AUDITION = "audition.html"
MAX_SOUNDS = 500  # of a page
MAX_SECONDS = 60.0  # of each sound


def list_sounds(folder: Path) -> list[Path]:
    """List the audio files of a folder, in the order of their names."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SOUND_SUFFIXES and path.is_file())


def write_audition(folder: Path) -> Path:
    """Write the page of a folder's sounds into it, grouped by prompt; return its path.

    Raises InputError if there are no sounds, or the folder cannot be written to.
    """
    sounds = list_sounds(folder) if folder.is_dir() else []
    if not sounds:
        raise InputError(f"{folder}: no sounds here; --report makes a page of a folder of sounds")
    check_folder(folder.absolute())
    budget, texts = Budget(), dict[str, list[Player]]()
    records = [read_sidecar(path) for path in sounds]
    for path, record in list(zip(sounds, records, strict=True))[:MAX_SOUNDS]:
        player = budget.player(_label(path, record), Recording(path), most=MAX_SECONDS)
        texts.setdefault(_text(path, record), []).append(player)
    samples = [Sample(text, _count(len(players)), players) for text, players in texts.items()]
    parts = {
        "title": f"Sounds of {folder.resolve().name}",
        "facts": [_count(len(sounds)), *_shared(records)],
        "warnings": [*_left_out(len(sounds)), *budget.notes],
        "sections": [Section("Sounds", samples=samples)],
    }
    write_text(folder / AUDITION, render_page("report/report.html", **parts, readable=readable))
    return folder / AUDITION


def _text(path: Path, record: dict[str, Any]) -> str:
    """Return what a sound is of: its prompt, or else its title or its name."""
    try:
        return record.get("prompt") or read_tags(path).get("title") or path.stem
    except InputError:
        return path.stem


def _label(path: Path, record: dict[str, Any]) -> str:
    """Name a sound by its file, seed, score and level."""
    facts = [path.name]
    if record:
        facts.append(f"seed {record['seed']}")
    if record.get("prompt_audio"):
        facts.append(f"continues {Path(record['prompt_audio']).name}")
    facts += [f"score {score:.2f}" for score in record.get("scores", ()) if score is not None]
    if record.get("peak"):
        facts.append(f"peak {20 * math.log10(record['peak']):.1f} dBFS")
    if record.get("loudness") is not None:
        facts.append(f"{record['loudness']:.1f} LUFS")
    return ", ".join(facts)


def _shared(records: list[dict[str, Any]]) -> list[str]:
    """List models and licenses of the sounds whose sidecars name them."""
    models = {
        f"{Path(each['model']).name} {each['model_fingerprint'][:12]}: {each['licence']}" for each in records if each
    }
    return sorted(f"Model {model}" for model in models)


def _count(n: int) -> str:
    return f"{n} sound{'s' * (n != 1)}"


def _left_out(n: int) -> list[str]:
    return [f"Only the first {MAX_SOUNDS} sounds are shown."] if n > MAX_SOUNDS else []
