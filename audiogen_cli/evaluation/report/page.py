"""One self-contained HTML page from a results.json, or from a folder of several: a sweep.

Nothing is computed again: the page shows what eval wrote, and the sounds behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.report.audio import Budget, Recordings
from audiogen_cli.evaluation.report.parts import (
    FINDINGS,
    Section,
    dependence_table,
    flatten,
    plain,
    readable,
    skipped_tables,
)
from audiogen_cli.evaluation.report.plots import Line, Panel, bars, curves
from audiogen_cli.evaluation.report.sections import TASKS
from audiogen_cli.evaluation.results import read_results
from audiogen_cli.evaluation.tables import Table, cell
from audiogen_cli.evaluation.templates import render_page
from audiogen_cli.files import check_folder, write_text

RESULTS, REPORT = "results.json", "report.html"
MAX_RUNS = 200  # in one sweep
# What differs between runs without being a choice, or says the same as another name.
CONSEQUENCES = ("versions.", "reference_set", "generated", "windows", "codec_fingerprint", "plan.")
Runs = Mapping[str, Mapping[str, Any]]


def write_report(folder: Path) -> Path:
    """Write `<folder>/report.html` from its results.json, or from those in the folders in it (two levels deep).

    Raises InputError if there are no results, or a results.json is something else.
    """
    check_folder(folder.absolute())
    if (folder / RESULTS).is_file():
        page = _render_one(read_results(folder / RESULTS), folder)
    else:
        page = _render_sweep(_find_runs(folder), folder)
    write_text(folder / REPORT, page)
    return folder / REPORT


def _find_runs(folder: Path) -> dict[str, dict[str, Any]]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    paths = sorted([*folder.glob(f"*/{RESULTS}"), *folder.glob(f"*/*/{RESULTS}")])
    if not paths:
        raise InputError(f"{folder}: no {RESULTS} here or in the folders in it; run audiogen eval first")
    if len(paths) > MAX_RUNS:
        raise InputError(f"{folder}: {len(paths)} results are more than a page can show ({MAX_RUNS}); choose a folder")
    return {path.parent.relative_to(folder).as_posix(): read_results(path) for path in paths}


def _render_one(results: Mapping[str, Any], folder: Path) -> str:
    budget = Budget()
    sections = TASKS[results["task"]](results, Recordings(results, folder), budget)
    sections += [
        Section("What the numbers depend on", tables=[dependence_table(results)]),
        *([Section("Left out", tables=tables)] if (tables := skipped_tables(results)) else []),
    ]
    return _page(_title(results), [_count(results)], [*results["warnings"], *budget.notes], sections)


def _render_sweep(runs: Runs, folder: Path) -> str:
    varying = _varying(runs)
    columns = list(dict.fromkeys(name for results in runs.values() for name in results["metrics"]))
    rows = [
        [run, *(plain(facts.get(name)) for name in varying), str(results["n"]),
         *(cell(results["metrics"].get(name), results["intervals"].get(name)) for name in columns)]
        for (run, results), facts in zip(runs.items(), _facts(runs), strict=True)
    ]  # fmt: skip
    head = ["run", *map(_last, varying), "clips", *columns]
    sections = [Section("Results", tables=[Table("Metrics of every run, with 95% intervals over clips", head, rows)])]
    if figure := _sweep_figure(runs, varying, columns):
        sections.append(Section("Curves", figures=[figure]))
    warnings = _shared_warnings(runs)
    same = [[name, plain(value)] for name, value in _facts(runs)[0].items() if name not in varying]
    sections.append(Section("What all runs share", tables=[Table("Inputs and settings", ["", "value"], same)]))
    counts = {results["n"] for results in runs.values()}
    if len(counts) > 1:
        warnings.insert(0, "the runs scored different numbers of clips: their FAD does not compare")
    if len({results["task"] for results in runs.values()}) > 1:
        warnings.insert(0, "the runs are of different tasks")
    return _page(f"{len(runs)} runs in {folder.resolve().name}", [], warnings, sections)


def _shared_warnings(runs: Runs) -> list[str]:
    """List each warning once, with the runs that have it."""
    found: dict[str, list[str]] = {}
    for run, results in runs.items():
        for text in results["warnings"]:
            found.setdefault(text, []).append(run)
    return [f"{text} ({'all runs' if len(names) == len(runs) else ', '.join(names)})" for text, names in found.items()]


def _sweep_figure(runs: Runs, varying: Sequence[str], columns: Sequence[str]) -> Any:
    """Draw curves over the first number that varies (Figure 3: guidance), else bars (Table 5: names)."""
    shown = [name for name in columns if all(results["metrics"].get(name) is not None for results in runs.values())]
    if len(runs) < 2 or not shown:
        return None
    facts = _facts(runs)
    axis = next((name for name in varying if _numeric([fact.get(name) for fact in facts])), None)
    if axis is None:
        groups = {readable(name): {run: results["metrics"][name] for run, results in runs.items()} for name in shown}
        errors = {
            readable(name): {run: r["intervals"][name] for run, r in runs.items() if name in r["intervals"]}
            for name in shown
        }
        return bars(groups, errors, "Bars of each metric by run", "Each metric by run")
    others = [name for name in varying if name != axis]
    labels = [", ".join(f"{_last(name)} {plain(fact.get(name))}" for name in others) or "all runs" for fact in facts]
    panels = []
    for name in shown:
        lines = []
        for label in dict.fromkeys(labels):
            chosen = [(fact[axis], results) for fact, results, its in zip(facts, runs.values(), labels, strict=True)
                      if its == label]  # fmt: skip
            intervals = {x: results["intervals"][name] for x, results in chosen if name in results["intervals"]}
            lines.append(Line(label, {x: results["metrics"][name] for x, results in chosen}, intervals))
        panels.append(Panel(readable(name), _last(axis), readable(name), lines))
    return curves(panels, f"Curves of {', '.join(shown)} against {_last(axis)}", f"Each metric against {_last(axis)}")


def _facts(runs: Runs) -> list[dict[str, Any]]:
    """Return each run's inputs by dotted names."""
    return [dict(flatten({k: v for k, v in r.items() if k not in FINDINGS})) for r in runs.values()]


def _varying(runs: Runs) -> list[str]:
    """List the inputs in which runs differ, sampling first; of those that always differ together, the first."""
    facts = _facts(runs)
    names = list(dict.fromkeys(name for fact in facts for name in fact))
    names = [name for name in names if not name.startswith(CONSEQUENCES)]
    names.sort(key=lambda name: not name.startswith("sampling."))
    found: dict[tuple[int, ...], str] = {}
    for name in names:
        values = [repr(fact.get(name)) for fact in facts]
        pattern = tuple(values.index(value) for value in values)
        if len(set(values)) > 1:
            found.setdefault(pattern, name)
    return list(found.values())


def _numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _last(name: str) -> str:
    return readable(name.rsplit(".", 1)[-1])


def _title(results: Mapping[str, Any]) -> str:
    return f"{results['task'].capitalize()}: {results.get('split') or results.get('reference') or 'ratings'}"


def _count(results: Mapping[str, Any]) -> str:
    what = "raters" if results["task"] == "listening" else "clips"
    partial = f", of {results['n_available']}" if results["n"] < results["n_available"] else ""
    return f"{results['n']} {what}{partial}"


def _page(title: str, facts: Sequence[str], warnings: Sequence[str], sections: Sequence[Section]) -> str:
    parts = {"title": title, "facts": facts, "warnings": warnings, "sections": sections}
    return render_page("report/report.html", **parts, readable=readable)
