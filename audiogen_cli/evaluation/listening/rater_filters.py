"""Filters for ratings of a listening test: the paper's rules and CrowdMOS's (sec. 4.3; Ribeiro et al. 2011).

Each question is judged by itself, in this order: pages not heard to the end, raters who do not know the hidden
reference, raters who agree with nobody. Whatever goes is listed with its rule and the value that broke it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.listening.ratings import MID_ANCHOR, REFERENCE, Plan, Rating
from audiogen_cli.evaluation.listening.statistics import correlation

MIN_REFERENCE = 85.0  # the paper's
RANDOM_CLICKER, OUTLIER = 0.25, 0.7  # CrowdMOS: r below these
MIN_PAGES = 10  # assignments before CrowdMOS calls a rater an outlier
BS1534_SHARE, BS1534_SCORE = 0.15, 90.0
SLACK = 0.05  # of the time that a page's sounds take, for clocks
UNTOUCHED = 100.0  # where webMUSHRA's sliders begin


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

    kept: list[Rating]
    dropped: list[DroppedRatings]
    flags: list[str]


@dataclass(frozen=True)
class ReferenceRule:
    """When a rater who marks the hidden reference down is dropped: the paper says below 85, but not how often.

    kind: mean (of a rater's reference ratings, the default), any (one is enough), share (of them, more than `share`),
    page (only the page goes), bs1534 (BS.1534-3: reference below 90, or the 7 kHz anchor above it, on > 15% of pages).
    """

    kind: str = "mean"
    share: float = 0.0

    @classmethod
    def parse(cls, text: str) -> ReferenceRule:
        """From `mean`, `any`, `page`, `bs1534` or `share:0.15`. Raises InputError for anything else."""
        kind, _, value = text.partition(":")
        try:
            share = float(value) if kind == "share" else 0.0
        except ValueError:
            share = -1.0
        if kind not in ("mean", "any", "share", "page", "bs1534") or not 0 <= share < 1 or (value and kind != "share"):
            raise InputError(f"unknown reference rule '{text}': choose mean, any, share:0.15, page or bs1534")
        return cls(kind, share)

    def __str__(self) -> str:
        return f"share:{self.share:g}" if self.kind == "share" else self.kind


def filter_ratings(ratings: Sequence[Rating], rule: ReferenceRule, plan: Plan | None) -> FilteredRatings:
    """Apply all rules in order to the ratings of one question."""
    flags = _untouched(ratings)
    kept, dropped = _drop_pages(ratings, lambda page: _unheard(page, plan), "not heard to the end")
    kept, below = _by_reference(kept, rule)
    kept, clickers = _by_agreement(kept, RANDOM_CLICKER, "random clicker", 0, flags)
    kept, outliers = _by_agreement(kept, OUTLIER, "outlier", MIN_PAGES, flags)
    return FilteredRatings(kept, [*dropped, *below, *clickers, *outliers], flags)


def agreements(ratings: Sequence[Rating]) -> dict[str, float | None]:
    """Each rater's correlation with the mean of the others, over systems if there are three, else over sounds.

    None where it does not exist: nobody else rated the same, or a side is constant.
    """
    systems = {rating.system for rating in ratings}
    key: Callable[[Rating], object]
    key = (lambda rating: rating.system) if len(systems) >= 3 else (lambda rating: (rating.item, rating.system))
    sums: dict[object, list[float]] = defaultdict(lambda: [0.0, 0])
    own: dict[str, dict[object, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0]))
    for rating in ratings:
        for total in (sums[key(rating)], own[rating.rater][key(rating)]):
            total[0] += rating.score
            total[1] += 1
    return {
        rater: correlation(
            [mine[0] / mine[1] for cell, mine in cells.items() if sums[cell][1] > mine[1]],
            [
                (sums[cell][0] - mine[0]) / (sums[cell][1] - mine[1])
                for cell, mine in cells.items()
                if sums[cell][1] > mine[1]
            ],
        )
        for rater, cells in own.items()
    }


def pages(ratings: Iterable[Rating]) -> dict[tuple[str, str], list[Rating]]:
    """Ratings by (rater, item)."""
    found: dict[tuple[str, str], list[Rating]] = defaultdict(list)
    for rating in ratings:
        found[rating.rater, rating.item].append(rating)
    return found


def _drop_pages(
    ratings: Sequence[Rating], judge: Callable[[list[Rating]], str | None], rule: str
) -> tuple[list[Rating], list[DroppedRatings]]:
    """Drop the pages on which `judge` finds fault: it says with what, or None."""
    kept, dropped = [], []
    for (rater, item), page in pages(ratings).items():
        if value := judge(page):
            dropped.append(DroppedRatings(rater, item, rule, value, len(page)))
        else:
            kept += page
    return kept, dropped


def _drop_raters(
    ratings: Sequence[Rating], faults: dict[str, str], rule: str
) -> tuple[list[Rating], list[DroppedRatings]]:
    """Drop all ratings of the raters in `faults`."""
    counts = {rater: sum(rating.rater == rater for rating in ratings) for rater in faults}
    kept = [rating for rating in ratings if rating.rater not in faults]
    return kept, [DroppedRatings(rater, None, rule, value, counts[rater]) for rater, value in faults.items()]


def _unheard(page: list[Rating], plan: Plan | None) -> str | None:
    """Tell what was not played on a page, by the player's log, else by the time spent there (webMUSHRA)."""
    expected = len(plan.pages.get((page[0].question, page[0].item), {})) if plan else 0
    if len(page) < expected:
        return f"{len(page)} of {expected} sounds rated"
    if unheard := sum(rating.complete is False for rating in page):
        return f"{unheard} of {len(page)} sounds not played to the end"
    logged = all(rating.complete is not None for rating in page)
    seconds, duration = page[0].seconds, plan.durations.get(page[0].item) if plan else None
    if logged or seconds is None or duration is None or seconds >= (1 - SLACK) * len(page) * duration:
        return None
    return f"{seconds:.3g} s on a page of {len(page)} x {duration:.3g} s"


def _untouched(ratings: Sequence[Rating]) -> list[str]:
    """Pages whose sliders may never have been moved. A flag only: two sounds may both deserve 100."""
    flags = []
    for (rater, item), page in pages(ratings).items():
        untouched = sum(
            rating.moved is False or (rating.moved is None and rating.score == UNTOUCHED) for rating in page
        )
        if untouched >= 2:
            flags.append(f"{rater}, {item}: {untouched} of {len(page)} sliders may be untouched")
    return flags


def _by_reference(ratings: Sequence[Rating], rule: ReferenceRule) -> tuple[list[Rating], list[DroppedRatings]]:
    name = f"reference below {BS1534_SCORE if rule.kind == 'bs1534' else MIN_REFERENCE:g} ({rule})"
    if rule.kind == "page":
        return _drop_pages(ratings, _reference_fault, name)
    scores: dict[str, list[float]] = defaultdict(list)
    anchors: dict[str, list[float]] = defaultdict(list)
    for rating in ratings:
        if rating.system == REFERENCE:
            scores[rating.rater].append(rating.score)
        elif rating.system == MID_ANCHOR:
            anchors[rating.rater].append(rating.score)
    faults = {rater: _rater_fault(given, anchors[rater], rule) for rater, given in scores.items()}
    return _drop_raters(ratings, {rater: value for rater, value in faults.items() if value}, name)


def _reference_fault(page: list[Rating]) -> str | None:
    return next((f"{r.score:g}" for r in page if r.system == REFERENCE and r.score < MIN_REFERENCE), None)


def _rater_fault(scores: list[float], anchors: list[float], rule: ReferenceRule) -> str | None:
    """Tell what is wrong with a rater's reference ratings; None if nothing is."""
    mean, lowest = sum(scores) / len(scores), min(scores)
    below = sum(score < MIN_REFERENCE for score in scores) / len(scores)
    if rule.kind == "mean":
        return f"mean {mean:.4g}" if mean < MIN_REFERENCE else None
    if rule.kind == "any":
        return f"lowest {lowest:.4g}" if lowest < MIN_REFERENCE else None
    if rule.kind == "share":
        return f"{below:.0%} of {len(scores)} pages" if below > rule.share else None
    low = sum(score < BS1534_SCORE for score in scores) / len(scores)
    high = sum(score > BS1534_SCORE for score in anchors) / len(anchors) if anchors else 0.0
    if low > BS1534_SHARE:
        return f"{low:.0%} of {len(scores)} pages"
    return f"7 kHz anchor above 90 on {high:.0%}" if high > BS1534_SHARE else None


def _by_agreement(
    ratings: Sequence[Rating], least: float, rule: str, min_pages: int, flags: list[str]
) -> tuple[list[Rating], list[DroppedRatings]]:
    """Drop raters whose correlation with the others is below `least`; with fewer than `min_pages` pages, flag them."""
    n_pages: dict[str, int] = defaultdict(int)
    scores: dict[str, set[float]] = defaultdict(set)
    for (rater, _), page in pages(ratings).items():
        n_pages[rater] += 1
        scores[rater] |= {rating.score for rating in page}
    faults = {}
    for rater, r in agreements(ratings).items():
        if r is None and len(scores[rater]) == 1 and n_pages[rater] >= 3 and not min_pages:
            faults[rater] = f"every rating is {min(scores[rater]):g}"
        elif r is not None and r < least:
            if n_pages[rater] >= min_pages:
                faults[rater] = f"r = {r:.3f}"
            else:
                flags.append(f"{rater}: r = {r:.3f} < {least:g} on {n_pages[rater]} pages, too few to drop")
    return _drop_raters(ratings, faults, f"{rule} (r < {least:g})")
