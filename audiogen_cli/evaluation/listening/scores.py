"""Scores of a listening test: OVL and REL per system with 95% intervals (paper sec. 4.1, Table 1)."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.listening.rater_filters import PAGE, FilteredRatings, ReferenceRule, filter_ratings
from audiogen_cli.evaluation.listening.ratings import CONTROLS, Plan, describe_plan, expand, find_plan, read_ratings
from audiogen_cli.evaluation.listening.statistics import agreements, crowdmos, paired_difference, plain_half_width
from audiogen_cli.evaluation.published import published_ratings
from audiogen_cli.evaluation.results import Skipped
from audiogen_cli.files import read_json, write_text
from audiogen_cli.training.log import versions

FEW_RATERS = 5  # per item; the paper's number


def score(files: Sequence[Path], rule: ReferenceRule, out: Path | None = None, seed: int = 0) -> dict[str, Any]:
    """Score rating files, write `results.json` into `out` (else beside the test's plan) and return what it holds.

    seed: of the bootstrap of paired differences. Raises InputError for files that hold no ratings.
    """
    files = expand(files)
    path, folder = find_plan(files, out), results_folder(files, out)
    if folder:
        _refuse_others(folder / "results.json")
    plan = Plan.load(path) if path else None
    ratings, skipped, warnings = read_ratings(files, plan)
    results = summarize(pd.DataFrame(ratings), skipped, rule, plan, seed) | {
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
    ratings: pd.DataFrame, skipped: Sequence[Skipped], rule: ReferenceRule, plan: Plan | None, seed: int
) -> dict[str, Any]:
    """Summarize a listening test for results.json. ratings: of all questions. n: raters left in any question."""
    known = ("ovl", "rel")  # first, in this order
    names = sorted(ratings.question.unique(), key=lambda name: (known.index(name) if name in known else 2, name))
    questions = {name: ratings[ratings.question == name] for name in names}
    filtered = {name: filter_ratings(given, rule, plan) for name, given in questions.items()}
    split = plan.split if plan else None
    details = {
        name: {**_question(given, filtered[name], seed), "published": published_ratings(split, name)}
        for name, given in questions.items()
    }
    systems = {f"{q}/{name}": row for q, detail in details.items() for name, row in detail["systems"].items()}
    return {
        "task": "listening",
        "split": split,
        "partial": False,
        "n": len({rater for found in filtered.values() for rater in found.kept.rater}),
        "n_available": ratings.rater.nunique(),
        "metrics": {name: row["mean"] for name, row in systems.items()},
        "baselines": {},
        "intervals": {
            name: (row["mean"] - row["ci95"], row["mean"] + row["ci95"])
            for name, row in systems.items()
            if row["mean"] is not None and row["ci95"] is not None
        },
        "details": details,
        "warnings": [warning for name, found in filtered.items() for warning in _warnings(name, found.kept)],
        "skipped": [asdict(item) for item in skipped],
        "plan": describe_plan(plan) if plan else None,
        "rules": {
            "incomplete": "a page counts if every sound was played to its end (by the log, else by the time spent)",
            "reference": f"hidden reference >= {rule.least:g}, {rule}",
            "crowdmos": "r with the other raters >= 0.25, then >= 0.7 from 10 pages on",
            "interval": "ci95: Student's t over all ratings; crowdmos_ci95: raters and items as random effects",
        },
        "seed": seed,
    }


def _refuse_others(path: Path) -> None:
    """Raise InputError if the file holds the results of another task."""
    try:
        document = read_json(path)
    except InputError:  # none, or a damaged one
        return
    if isinstance(document, dict) and (task := document.get("task", "listening")) != "listening":
        raise InputError(f"{path} holds results of the task {task}; choose another --out")


def _question(ratings: pd.DataFrame, filtered: FilteredRatings, seed: int) -> dict[str, Any]:
    """Summarize one question's systems, raters and differences, before and after the rules."""
    kept = filtered.kept
    names = sorted(
        ratings.system.unique(), key=lambda name: (CONTROLS.index(name) if name in CONTROLS else len(CONTROLS), name)
    )
    raters, items = sorted(kept.rater.unique()), sorted(kept.item.unique())
    tables = {
        str(name): part.pivot(index="rater", columns="item", values="score").reindex(index=raters, columns=items)
        for name, part in kept.groupby("system")
        if name not in CONTROLS
    }
    before, after = _counts(ratings), _counts(kept)
    r = agreements(kept)
    return {
        "systems": {name: _system(kept[kept.system == name], ratings.score[ratings.system == name]) for name in names},
        "differences": {
            f"{first} - {second}": {"mean": found[0], "ci95": found[1]}
            for first, second in combinations(tables, 2)
            if (found := paired_difference(tables[first], tables[second], seed))
        },
        **{name: {"before": before[name], "after": after[name]} for name in before},
        "agreement": {rater: r[rater] for rater in sorted(r)},
        "dropped": [asdict(item) for item in filtered.dropped],
        "flags": filtered.flags,
    }


def _counts(ratings: pd.DataFrame) -> dict[str, int]:
    pages = ratings.groupby(PAGE).ngroups
    return {"raters": ratings.rater.nunique(), "ratings": len(ratings), "pages": pages}


def _system(kept: pd.DataFrame, before: pd.Series) -> dict[str, Any]:
    spread = crowdmos(kept) if len(kept) else None
    return {
        "mean": spread.mean if spread else None,
        "ci95": plain_half_width(kept.score),
        "crowdmos_ci95": spread.half_width if spread else None,
        "ratings": len(kept),
        "raters": kept.rater.nunique(),
        "items": kept.item.nunique(),
        "mean_before": float(before.mean()),
        "ratings_before": len(before),
    }


def _warnings(question: str, kept: pd.DataFrame) -> list[str]:
    raters = kept.groupby("item").rater.nunique()
    few = int((raters < FEW_RATERS).sum())
    return [
        *([] if len(kept) else [f"{question}: no rating is left"]),
        *([f"{question}: {few} of {len(raters)} items have fewer than {FEW_RATERS} raters left"] if few else []),
    ]
