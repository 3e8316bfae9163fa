"""Filters for ratings of a listening test: the paper's rules and CrowdMOS's (sec. 4.1; Ribeiro et al. 2011).

Each question is judged by itself, in this order: pages not heard to the end, raters who do not know the hidden
reference, raters who agree with nobody. Whatever goes is listed with its rule and the value that broke it. Ratings are
tables with a column for each field of `ratings.Rating`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.listening.ratings import MID_ANCHOR, REFERENCE, Plan
from audiogen_cli.evaluation.listening.statistics import agreements

MIN_REFERENCE = 85.0  # the paper's
RANDOM_CLICKER, OUTLIER = 0.25, 0.7  # CrowdMOS: r below these
MIN_PAGES = 10  # assignments before CrowdMOS calls a rater an outlier
BS1534_SHARE, BS1534_SCORE = 0.15, 90.0
SLACK = 0.05  # of the time that a page's sounds take, for clocks
UNTOUCHED = 100.0  # where webMUSHRA's sliders begin
PAGE = ["rater", "item"]
Faults = Mapping[tuple[str, str | None], str]  # (rater, item, or None for all of them) → the value that breaks a rule


@dataclass(frozen=True)
class DroppedRatings:
    """Ratings that count no more. item: None if it is all of the rater's."""

    rater: str
    item: str | None
    rule: str
    value: str
    ratings: int


@dataclass(frozen=True)
class FilteredRatings:
    """One question's ratings that count, those dropped, and remarks about odd ones that still count."""

    kept: pd.DataFrame
    dropped: list[DroppedRatings]
    flags: list[str]


@dataclass(frozen=True)
class ReferenceRule:
    """The rule for raters who mark the hidden reference down: the paper says below 85, but not how often.

    kind: mean (of a rater's reference ratings, the default), any (one is enough), share (of them, more than `share`),
    page (only the page goes), bs1534 (BS.1534-3: reference below 90, or the 7 kHz anchor above it, on > 15% of pages).
    """

    kind: str = "mean"
    share: float = 0.0

    @classmethod
    def parse(cls, text: str) -> ReferenceRule:
        """Read `mean`, `any`, `page`, `bs1534` or `share:0.15`. Raises InputError for anything else."""
        kind, _, value = text.partition(":")
        try:
            share = float(value) if kind == "share" else 0.0
        except ValueError:
            share = -1.0
        if kind not in ("mean", "any", "share", "page", "bs1534") or not 0 <= share < 1 or (value and kind != "share"):
            raise InputError(f"unknown reference rule '{text}': choose mean, any, share:0.15, page or bs1534")
        return cls(kind, share)

    @property
    def least(self) -> float:
        """The score that a hidden reference should have at least."""
        return BS1534_SCORE if self.kind == "bs1534" else MIN_REFERENCE

    def __str__(self) -> str:
        return f"share:{self.share:g}" if self.kind == "share" else self.kind


def filter_ratings(ratings: pd.DataFrame, rule: ReferenceRule, plan: Plan | None) -> FilteredRatings:
    """Apply all rules in order to the ratings of one question."""
    flags, dropped, kept = _untouched_sliders(ratings), list[DroppedRatings](), ratings

    def drop(faults: Faults, name: str) -> None:
        nonlocal kept
        for (rater, item), value in faults.items():
            gone = (kept.rater == rater) & ((kept.item == item) | (item is None))
            dropped.append(DroppedRatings(rater, item, name, value, int(gone.sum())))
            kept = kept[~gone]

    drop(_unplayed_pages(kept, plan), "not heard to the end")
    drop(_low_references(kept, rule), f"reference below {rule.least:g} ({rule})")
    drop(_disagreeing_raters(kept, RANDOM_CLICKER, 0, flags), f"random clicker (r < {RANDOM_CLICKER:g})")
    drop(_disagreeing_raters(kept, OUTLIER, MIN_PAGES, flags), f"outlier (r < {OUTLIER:g})")
    return FilteredRatings(kept, dropped, flags)


def _untouched_sliders(ratings: pd.DataFrame) -> list[str]:
    """Name pages whose sliders may never have been moved. They stay: two sounds may both deserve 100."""
    untouched = ratings.moved.eq(False) | (ratings.moved.isna() & (ratings.score == UNTOUCHED))
    counts = untouched.groupby([ratings[name] for name in PAGE], sort=False).agg(["sum", "size"])
    return [
        f"{rater}, {item}: {n} of {size} sliders may be untouched"
        for (rater, item), n, size in counts[counts["sum"] >= 2].itertuples()
    ]


def _unplayed_pages(ratings: pd.DataFrame, plan: Plan | None) -> Faults:
    """Find pages that were not played, by the player's log, else by the time spent there (webMUSHRA)."""
    complete, seconds = ratings.complete, ratings.seconds.astype(float)
    marked = ratings.assign(unplayed=complete.eq(False), unlogged=complete.isna(), seconds=seconds)
    pages = marked.groupby(["question", *PAGE], sort=False).agg(
        {"score": "size", "unplayed": "sum", "unlogged": "any", "seconds": "first"}
    )
    faults = {}
    for (question, rater, item), n, unplayed, unlogged, seconds in pages.itertuples():
        expected, duration = (
            (len(plan.pages.get((question, item), {})), plan.durations.get(item)) if plan else (0, None)
        )
        if n < expected:
            faults[rater, item] = f"{n} of {expected} sounds rated"
        elif unplayed:
            faults[rater, item] = f"{unplayed} of {n} sounds not played to the end"
        elif unlogged and duration is not None and seconds < (1 - SLACK) * n * duration:
            faults[rater, item] = f"{seconds:.3g} s on a page of {n} x {duration:.3g} s"
    return faults


def _low_references(ratings: pd.DataFrame, rule: ReferenceRule) -> Faults:
    references, anchors = (ratings[ratings.system == system] for system in (REFERENCE, MID_ANCHOR))
    if rule.kind == "page":
        low = references[references.score < MIN_REFERENCE]
        return {(row.rater, row.item): f"{row.score:g}" for row in low.itertuples()}
    high = (anchors.score > BS1534_SCORE).groupby(anchors.rater).mean()
    faults = {
        (rater, None): _rater_fault(scores, high.get(rater, 0.0), rule)
        for rater, scores in references.groupby("rater", sort=False).score
    }
    return {rater: value for rater, value in faults.items() if value}


def _rater_fault(scores: pd.Series, high: float, rule: ReferenceRule) -> str | None:
    """Tell what is wrong with a rater's reference scores, or with the share of high anchors; None if nothing is."""
    if rule.kind == "mean":
        return f"mean {scores.mean():.4g}" if scores.mean() < MIN_REFERENCE else None
    if rule.kind == "any":
        return f"lowest {scores.min():.4g}" if scores.min() < MIN_REFERENCE else None
    low = (scores < rule.least).mean()
    if low > (rule.share if rule.kind == "share" else BS1534_SHARE):
        return f"{low:.0%} of {len(scores)} pages"
    return f"7 kHz anchor above 90 on {high:.0%}" if rule.kind == "bs1534" and high > BS1534_SHARE else None


def _disagreeing_raters(ratings: pd.DataFrame, least: float, min_pages: int, flags: list[str]) -> Faults:
    """Find raters whose correlation with the others is below `least`; flag those with fewer than `min_pages` pages."""
    pages, scores = (ratings.groupby("rater")[name].nunique() for name in ("item", "score"))
    faults: dict[tuple[str, str | None], str] = {}
    for rater, r in agreements(ratings).items():
        if r is None and scores[rater] == 1 and pages[rater] >= 3 and not min_pages:
            faults[rater, None] = f"every rating is {ratings.score[ratings.rater == rater].iloc[0]:g}"
        elif r is not None and r < least and pages[rater] >= min_pages:
            faults[rater, None] = f"r = {r:.3f}"
        elif r is not None and r < least:
            flags.append(f"{rater}: r = {r:.3f} < {least:g} on {pages[rater]} pages, too few to drop")
    return faults
