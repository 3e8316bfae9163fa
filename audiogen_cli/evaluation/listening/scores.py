"""From rating files to OVL and REL: mean and 95% interval per system (paper sec. 4.3, Table 1)."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.listening.rater_filters import (
    MIN_REFERENCE,
    FilteredRatings,
    ReferenceRule,
    agreements,
    filter_ratings,
    pages,
)
from audiogen_cli.evaluation.listening.ratings import (
    CONTROLS,
    Plan,
    Rating,
    describe_plan,
    expand,
    find_plan,
    read_ratings,
)
from audiogen_cli.evaluation.listening.statistics import crowdmos, paired_difference, plain_half_width
from audiogen_cli.evaluation.results import Skipped
from audiogen_cli.files import write_text
from audiogen_cli.lock import hold_folder
from audiogen_cli.training.log import versions

FEW_RATERS = 5  # per item; the paper's number


def score(files: Sequence[Path], rule: ReferenceRule, out: Path | None = None, seed: int = 0) -> dict[str, Any]:
    """Score rating files, write `results.json` into `out` (else beside the test's plan) and return what it holds.

    seed: of the bootstrap of paired differences. Raises InputError for files that hold no ratings.
    """
    files = expand(files)
    path, folder = find_plan(files, out), results_folder(files, out)
    if folder:
        hold_folder(folder)
        _refuse_others(folder / "results.json")
    plan = Plan.load(path) if path else None
    ratings, skipped, warnings = read_ratings(files, plan)
    results = summarize(ratings, skipped, rule, plan, seed) | {
        "ratings": [str(file) for file in files],
        "versions": {"python": platform.python_version(), **versions("audiogen-cli", "numpy", "scipy")},
    }
    results["warnings"] += warnings
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "results.json", json.dumps(results, indent=2, allow_nan=False) + "\n")
    return results


def results_folder(files: Sequence[Path], out: Path | None) -> Path | None:
    """Return the folder for results.json: `out`, else the plan's; None if there is neither."""
    plan = find_plan(expand(files), out)
    return out or (plan.parent if plan else None)


def summarize(
    ratings: Sequence[Rating], skipped: Sequence[Skipped], rule: ReferenceRule, plan: Plan | None, seed: int
) -> dict[str, Any]:
    """Summarize a listening test for results.json. n: raters left in any question."""
    questions = {question: [r for r in ratings if r.question == question] for question in _ordered(ratings)}
    filtered = {question: filter_ratings(given, rule, plan) for question, given in questions.items()}
    details = {question: _question(questions[question], filtered[question], seed) for question in questions}
    systems = {(q, name): row for q, detail in details.items() for name, row in detail["systems"].items()}
    return {
        "task": "listening",
        "split": plan.split if plan else None,
        "partial": False,
        "n": len({rating.rater for found in filtered.values() for rating in found.kept}),
        "n_available": len({rating.rater for rating in ratings}),
        "metrics": {f"{q}/{name}": row["mean"] for (q, name), row in systems.items()},
        "baselines": {},
        "intervals": {
            f"{q}/{name}": (row["mean"] - row["ci95"], row["mean"] + row["ci95"])
            for (q, name), row in systems.items()
            if row["mean"] is not None and row["ci95"] is not None
        },
        "details": details,
        "warnings": _warnings(filtered),
        "skipped": [asdict(item) for item in skipped],
        "plan": describe_plan(plan) if plan else None,
        "rules": {
            "incomplete": "a page counts if every sound was played to its end (by the log, else by the time spent)",
            "reference": f"hidden reference >= {MIN_REFERENCE:g}, {rule}",
            "crowdmos": "r with the other raters >= 0.25, then >= 0.7 from 10 pages on",
            "interval": "ci95: Student's t over all ratings; crowdmos_ci95: raters and items as random effects",
        },
        "seed": seed,
    }


def _refuse_others(path: Path) -> None:
    """Another task's results are not ours to replace."""
    try:
        task = json.loads(path.read_text("utf-8"))["task"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if task != "listening":
        raise InputError(f"{path} holds results of the task {task}; choose another --out")


def _ordered(ratings: Sequence[Rating]) -> list[str]:
    """The questions that were asked, OVL before REL before others."""
    known = ("ovl", "rel")
    return sorted({r.question for r in ratings}, key=lambda q: (known.index(q) if q in known else len(known), q))


def _question(ratings: Sequence[Rating], filtered: FilteredRatings, seed: int) -> dict[str, Any]:
    """One question's systems, raters and differences, before and after the rules."""
    matrices, unfiltered = _matrices(filtered.kept), _matrices(ratings)
    names = sorted(unfiltered, key=lambda name: (CONTROLS.index(name) if name in CONTROLS else len(CONTROLS), name))
    rows = {name: _system(matrices.get(name), unfiltered[name]) for name in names}
    systems = [name for name in names if name not in CONTROLS and name in matrices]
    r = agreements(filtered.kept)
    return {
        "systems": rows,
        "differences": {
            f"{first} - {second}": {"mean": found[0], "ci95": found[1]}
            for first, second in combinations(systems, 2)
            if (found := paired_difference(matrices[first], matrices[second], seed))
        },
        "raters": {"before": len({x.rater for x in ratings}), "after": len({x.rater for x in filtered.kept})},
        "ratings": {"before": len(ratings), "after": len(filtered.kept)},
        "pages": {"before": len(pages(ratings)), "after": len(pages(filtered.kept))},
        "agreement": {rater: r[rater] for rater in sorted(r)},
        "dropped": [asdict(item) for item in filtered.dropped],
        "flags": filtered.flags,
    }


def _matrices(ratings: Sequence[Rating]) -> dict[str, np.ndarray]:
    """System → [raters, items], NaN where there is no rating; rows and columns are the same for all systems."""
    raters = {name: i for i, name in enumerate(sorted({rating.rater for rating in ratings}))}
    items = {name: i for i, name in enumerate(sorted({rating.item for rating in ratings}))}
    found: dict[str, np.ndarray] = {}
    for rating in ratings:
        matrix = found.setdefault(rating.system, np.full((len(raters), len(items)), math.nan))
        matrix[raters[rating.rater], items[rating.item]] = rating.score
    return found


def _system(kept: np.ndarray | None, unfiltered: np.ndarray) -> dict[str, Any]:
    before = unfiltered[~np.isnan(unfiltered)]
    row: dict[str, Any] = {"mean": None, "ci95": None, "crowdmos_ci95": None, "ratings": 0, "raters": 0, "items": 0}
    if kept is not None:
        given = ~np.isnan(kept)
        spread = crowdmos(kept)
        row = {
            "mean": spread.mean,
            "ci95": plain_half_width(kept[given]),
            "crowdmos_ci95": spread.half_width,
            "ratings": int(given.sum()),
            "raters": int(given.any(1).sum()),
            "items": int(given.any(0).sum()),
        }
    return row | {"mean_before": float(before.mean()), "ratings_before": len(before)}


def _warnings(filtered: dict[str, FilteredRatings]) -> list[str]:
    warnings = []
    for question, found in filtered.items():
        raters: dict[str, set[str]] = {}
        for rating in found.kept:
            raters.setdefault(rating.item, set()).add(rating.rater)
        if not found.kept:
            warnings.append(f"{question}: no rating is left")
        if few := [item for item, names in raters.items() if len(names) < FEW_RATERS]:
            warnings.append(f"{question}: {len(few)} of {len(raters)} items have fewer than {FEW_RATERS} raters left")
    return warnings
