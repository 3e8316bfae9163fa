"""The findings of an evaluation; `results.json` holds all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field
from typing_extensions import NotRequired, TypedDict

from audiogen_cli.errors import InputError
from audiogen_cli.files import read_json
from audiogen_cli.training.recipe import validate

Progress = Callable[[int, int], None]  # called with (done, total) as clips are processed; a new total begins a new pass
Begin = Callable[[int], object]  # called with the number of clips, when nothing more can be refused
Interval = tuple[float, float]


@dataclass(frozen=True)
class Skipped:
    """A clip that no number counts, and why."""

    id: str
    reason: str


@dataclass
class Findings:
    """The result of one task.

    metrics, baselines: name → value, None where it does not exist (too few clips). inputs: whatever the numbers depend
    on. details: breakdowns. warnings: one sentence each.
    """

    n: int  # clips scored
    n_available: int  # clips in the split or folder
    metrics: dict[str, float | None]
    inputs: dict[str, Any]
    baselines: dict[str, dict[str, float | None]] = field(default_factory=dict)
    intervals: dict[str, Interval] = field(default_factory=dict)  # 95% over clips
    details: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    published: dict[str, dict[str, float]] = field(default_factory=dict)  # comparable rows of papers
    run: dict[str, Any] = field(default_factory=dict)  # what would differ if the run had been interrupted


# --- results.json as a file: what a report needs of it ---

Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Whole = Annotated[int, Field(strict=True, ge=0, le=10**12)]
Ends = Annotated[list[Real], Field(min_length=2, max_length=2)]
MAX_COLUMNS = 200  # metrics, sets of clips, systems


def _reals(values: dict[str, Any]) -> dict[str, Any]:
    """Refuse extra entries of a cell that are no metrics."""
    for name, value in values.items():
        if name not in Cell.__annotations__ and not (value is None or type(value) in (int, float)):
            raise ValueError(f"{name} is no number")
    return values


def _columns(clips: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Refuse columns of clips that differ in length, and KLs that are no numbers."""
    for name, values in clips.items():
        if len(values) != len(clips.get("id", values)) or (clips and "id" not in clips):
            raise ValueError(f"{name} and id differ in length")
        if name == "id" and not all(isinstance(each, str) for each in values):
            raise ValueError("id holds what is no text")
        if name.startswith("kl") and not (values and all(type(each) in (int, float) for each in values)):
            raise ValueError(f"{name} holds what is no number")
    return clips


class Cell(TypedDict):
    """A cell of Table 4's grid; its further entries are metrics."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]  # pydantic reads it from there

    prompt_seconds: Real
    text: str
    scored: NotRequired[str]
    intervals: NotRequired[dict[str, Ends]]


class Hits(TypedDict):
    """Hit rates of a class."""

    top1: Real
    top5: Real


class Usage(TypedDict):
    """Use of the codebooks, a number for each stream."""

    entropy_bits: Annotated[list[Real], Field(min_length=1, max_length=64)]
    perplexity: list[Real]
    used: list[Real]


class Generation(TypedDict):
    """Details of generation and codec."""

    clips: NotRequired[Annotated[dict[str, list[Any]], AfterValidator(_columns)]]
    class_hits: NotRequired[dict[str, dict[str, Hits]] | None]
    code_usage: NotRequired[Usage | None]


class Continuation(TypedDict):
    """Details of continuation."""

    cells: Annotated[list[Annotated[Cell, AfterValidator(_reals)]], Field(min_length=1, max_length=10_000)]
    pairs: NotRequired[dict[str, str]]
    published: NotRequired[list[Annotated[Cell, AfterValidator(_reals)]] | None]


class System(TypedDict):
    """A system's scores."""

    mean: Real | None
    ci95: Real | None
    crowdmos_ci95: Real | None
    mean_before: Real | None
    ratings: Whole
    raters: Whole
    items: Whole


class Difference(TypedDict):
    """A paired difference."""

    mean: Real
    ci95: Ends


class Counts(TypedDict):
    """Numbers before and after the filters."""

    before: Whole
    after: Whole


class DroppedRatings(TypedDict):
    """Ratings that do not count."""

    rater: str
    item: str | None
    rule: str
    value: str
    ratings: Whole


class Question(TypedDict):
    """Details of a question of a listening test."""

    systems: Annotated[dict[str, System], Field(max_length=MAX_COLUMNS)]
    differences: Annotated[dict[str, Difference], Field(max_length=MAX_COLUMNS**2)]
    raters: Counts
    dropped: list[DroppedRatings]
    flags: list[str]
    agreement: dict[str, Real | None]
    published: NotRequired[dict[str, Annotated[list[Real | None], Field(min_length=2, max_length=2)]]]


Row = Annotated[dict[str, Real | None], Field(max_length=MAX_COLUMNS)]


@dataclass
class ResultsFile:
    """The entries of a results.json that every task has; `details` are the task's own."""

    task: Literal["generation", "codec", "continuation", "listening"]
    n: Whole
    n_available: Whole
    metrics: Row
    baselines: Annotated[dict[str, Row], Field(max_length=MAX_COLUMNS)]
    intervals: dict[str, Ends]
    details: dict[str, Any]
    warnings: list[str]
    skipped: list[Skipped]
    published: Annotated[dict[str, Row], Field(max_length=MAX_COLUMNS)] = field(default_factory=dict)
    split: str | None = None
    reference: str | None = None
    manifests: str | None = None
    generated: str | None = None


def read_results(path: Path) -> dict[str, Any]:
    """Read a results.json of eval. Raises InputError if it is something else."""
    document: dict[str, Any] = read_json(path)
    where = f"{path}: not the results of audiogen eval"
    found = validate(ResultsFile, document, where)
    kinds: dict[str, Any] = {"continuation": Continuation, "listening": dict[str, Question]}
    details = validate(kinds.get(found.task, Generation), found.details, f"{where}: details")
    usage = details.get("code_usage") or {}
    if len({len(values) for values in usage.values()}) > 1:
        raise InputError(f"{where}: details: code_usage: its streams differ in number")
    return document
