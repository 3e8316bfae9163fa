"""Reading of ratings: our page's CSV, webMUSHRA's, or a plain list, any number of files.

Stimuli have blind names; the plan that `audiogen eval --task listening` wrote says which system each of them is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiogen_cli.data.tables import raw_rows
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.results import Skipped
from audiogen_cli.files import read_json
from audiogen_cli.training.recipe import Positive, validate

PLAN_NAME = "plan.json"
REFERENCE, LOW_ANCHOR, MID_ANCHOR, WRONG_ANCHOR = "reference", "anchor35", "anchor70", "anchor_wrong"
CONTROLS = (REFERENCE, LOW_ANCHOR, MID_ANCHOR, WRONG_ANCHOR)  # conditions that test the raters, not a system

PAGE_COLUMNS = ("test", "rater", "item", "question", "stimulus", "score", "seconds", "complete", "moved", "position")
_OURS = {"rater", "item", "question", "stimulus", "score"}
_WEBMUSHRA = {"session_uuid", "trial_id", "rating_stimulus", "rating_score"}
_PLAIN = {"rater", "item", "system", "score"}
_WEBMUSHRA_FIXED = _WEBMUSHRA | {"session_test_id", "rating_time", "rating_comment"}

MAX_SYSTEMS, MAX_RATERS = 50, 5000  # beyond any test; every pair of systems is compared


@dataclass(frozen=True)
class Rating:
    """One score. seconds: the rater's time on the page. complete: played to the end. None: not in the log."""

    rater: str
    question: str
    item: str
    system: str
    score: float
    seconds: float | None = None
    complete: bool | None = None
    moved: bool | None = None  # the slider
    name: str = ""  # by which the rater answered, where that is not `rater`


@dataclass(frozen=True)
class Plan:
    """A listening test: its id, its pages, and the key to the blind names."""

    test: str
    split: str | None
    seed: int
    durations: dict[str, float]  # item → seconds of each of its stimuli
    pages: dict[tuple[str, str], dict[str, str]]  # (question, item) → blind name → system

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read a plan.json. Raises InputError if it is none."""
        data = validate(_PlanFile, read_json(path), f"{path}: not the plan of a listening test")
        return cls(
            test=data.test,
            split=data.split,
            seed=data.seed,
            durations={item.item: item.duration for item in data.items},
            pages={(question, item.item): key for item in data.items for question, key in item.pages.items()},
        )


@dataclass(frozen=True)
class _PlanItem:
    item: str
    duration: Positive
    pages: dict[str, dict[str, str]]


@dataclass(frozen=True)
class _PlanFile:
    test: str
    split: str | None
    seed: int
    items: list[_PlanItem]


def expand(paths: Sequence[Path]) -> list[Path]:
    """Replace folders by the CSV files in them. Raises InputError for a folder without any."""
    files = []
    for path in paths:
        found = sorted(path.glob("*.csv")) if path.is_dir() else [path]
        if not found:
            raise InputError(f"{path}: no CSV files in this folder")
        files += found
    return files


def find_plan(files: Sequence[Path], out: Path | None) -> Path | None:
    """Find the plan of ratings: in `out`, else beside the first file or above it; None if there is none."""
    first = files[0].absolute()
    folders = [out] if out is not None else [first.parent, first.parent.parent]
    return next((folder / PLAN_NAME for folder in folders if (folder / PLAN_NAME).is_file()), None)


def read_ratings(files: Sequence[Path], plan: Plan | None) -> tuple[list[Rating], list[Skipped], list[str]]:
    """Read all ratings of some files, the rows that are none, with their reasons, and warnings.

    A rating given twice (a rater's first half, then the whole) counts once, as the later row has it. Raters of
    webMUSHRA are its sessions; names that several of them gave are warned about, and so are names under which two
    files hold different scores.
    Raises InputError for a file that is no such CSV, of another test, or whose blind names lack their plan.
    """
    ratings: dict[tuple[str, str, str, str], Rating] = {}
    skipped, origins, changed = [], dict[tuple[str, str, str, str], Path](), set[str]()
    for path in files:
        for where, cells in _rows(path, plan):
            try:
                rating = _rating(cells, plan)
            except ValueError as error:
                skipped.append(Skipped(where, str(error)))
                continue
            key = rating.rater, rating.question, rating.item, rating.system
            if key in ratings and origins[key] != path and ratings[key].score != rating.score:
                changed.add(rating.rater)
            ratings[key], origins[key] = rating, path
    if not ratings:
        reason = f"; the first row: {skipped[0].reason}" if skipped else ""
        raise InputError(f"no ratings in {', '.join(map(str, files))}{reason}")
    for name, most in (("system", MAX_SYSTEMS), ("question", MAX_SYSTEMS), ("rater", MAX_RATERS), ("item", MAX_RATERS)):
        if (n := len({getattr(rating, name) for rating in ratings.values()})) > most:
            raise InputError(f"{files[0]}: {n} different {name}s; a test has at most {most}: is it this column?")
    return list(ratings.values()), skipped, [*_shared_names(ratings.values()), *map(_two_files, sorted(changed))]


def _shared_names(ratings: Iterable[Rating]) -> list[str]:
    sessions: dict[str, set[str]] = {}
    for rating in ratings:
        if rating.name:
            sessions.setdefault(rating.name, set()).add(rating.rater)
    return [
        f"{len(raters)} sessions answered '{name}'; each counts as a rater"
        for name, raters in sessions.items()
        if len(raters) > 1
    ]


def _two_files(rater: str) -> str:
    return f"'{rater}' rated the same sounds differently in two files; the later one counts: are these two people?"


def _rows(path: Path, plan: Plan | None) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (place, cells) of each row, with no cells for a row of another width than the header."""
    rows = raw_rows(path)
    header = [cell.casefold() for cell in next(rows)[1]]
    _check_header(path, set(header), plan)
    for line, cells in rows:
        if any(cell.strip() for cell in cells):
            # A questionnaire changed in mid-test shifts webMUSHRA's columns: such a row cannot be trusted.
            row = dict(zip(header, map(_printable, cells), strict=True)) if len(cells) == len(header) else {}
            yield f"{path}, line {line}", row


def _check_header(path: Path, header: set[str], plan: Plan | None) -> None:
    ours = _OURS.issubset(header)
    if ours and plan is None:
        raise InputError(f"{path}: its stimuli have blind names; give --out the folder that holds the {PLAN_NAME}")
    if not (ours or _WEBMUSHRA.issubset(header) or _PLAIN.issubset(header)):
        wanted = "rater,item,system,score"
        raise InputError(f"{path}: no ratings: its header must hold {wanted}, or be our page's or webMUSHRA's")


def _rating(cells: dict[str, str], plan: Plan | None) -> Rating:
    """Read one row's rating. Raises ValueError with a one-line reason if it is none."""
    if not cells:
        raise ValueError("another number of columns than the header")
    if plan and cells.get("test", plan.test) != plan.test:
        raise ValueError(f"of another test ({cells['test']}; this one is {plan.test})")
    if cells.keys() >= _WEBMUSHRA:
        return _from_webmushra(cells, plan)
    question, item = cells.get("question", "") or "score", cells["item"]
    ours = cells.keys() >= _OURS
    system = _system(plan, question, item, cells["stimulus"]) if ours else cells["system"]
    if not (cells["rater"] and item and system):
        raise ValueError("no rater, item or system")
    return Rating(
        rater=cells["rater"],
        question=question,
        item=item,
        system=system,
        score=_score(cells["score"]),
        seconds=_number(cells.get("seconds", "")),
        complete=_truth(cells.get("complete", "")),
        moved=_truth(cells.get("moved", "")),
    )


def _from_webmushra(cells: dict[str, str], plan: Plan | None) -> Rating:
    """Read webMUSHRA's row: a session is a rater, a name the first answer to the questionnaire; pages are
    `question-item`."""
    answers = [value for name, value in cells.items() if name not in _WEBMUSHRA_FIXED and value]
    question, _, item = cells["trial_id"].partition("-")
    if not item:
        question, item = "score", cells["trial_id"]
    stimulus = cells["rating_stimulus"]
    system = stimulus if stimulus in CONTROLS or plan is None else _system(plan, question, item, stimulus)
    milliseconds = _number(cells.get("rating_time", ""))
    return Rating(
        rater=cells["session_uuid"] or next(iter(answers), ""),
        name=next(iter(answers), ""),
        question=question,
        item=item,
        system=system,
        score=_score(cells["rating_score"]),
        seconds=None if milliseconds is None else milliseconds / 1000,
    )


def _system(plan: Plan | None, question: str, item: str, stimulus: str) -> str:
    assert plan is not None  # see _check_header
    try:
        return plan.pages[question, item][stimulus]
    except KeyError:
        raise ValueError(f"the plan has no stimulus '{stimulus}' on page {question}-{item}") from None


def _score(text: str) -> float:
    score = _number(text)
    if score is None or not 0 <= score <= 100:
        raise ValueError(f"score '{text}' is no number from 0 to 100")
    return score


def _number(text: str) -> float | None:
    try:
        value = float(text.replace(",", "."))  # as some spreadsheets write it
    except ValueError:
        return None
    return value if abs(value) < 1e12 else None


def _printable(text: str) -> str:
    """Put a cell on one line without control characters: names are printed on terminals."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _truth(text: str) -> bool | None:
    return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(text.lower())


def describe_plan(plan: Plan) -> dict[str, Any]:
    """Summarize a plan for results.json."""
    return {"test": plan.test, "seed": plan.seed, "items": len(plan.durations), "pages": len(plan.pages)}
