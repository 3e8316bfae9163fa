"""The sections of each task: the paper's Table 1, Table 4, Figures 2 and 4, and listening tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from audiogen_cli.data.audio import SAMPLE_RATE
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.audio_sources import Recording
from audiogen_cli.evaluation.report.audio import Budget, Recordings
from audiogen_cli.evaluation.report.parts import Figure, Sample, Section, readable
from audiogen_cli.evaluation.report.plots import Line, Panel, bars, curves, histogram, spectrograms
from audiogen_cli.evaluation.tables import (
    TEXTS,
    Results,
    Table,
    cell,
    grid_columns,
    grid_tables,
    metric_table,
    rating_tables,
)

EXTREMES = 6  # best and worst clips each
CONTINUED = 3  # clips whose continuations are shown


def generation(results: Results, sounds: Recordings, budget: Budget) -> list[Section]:
    """Show the table, the spread behind its means, and the best and worst clips."""
    clips = results["details"].get("clips", {})
    ranked = next((name for name in clips if name.startswith("kl")), None)
    sections = [Section("Results", tables=[metric_table(results)])]
    if ranked is None:
        shown = clips.get("id", [])[: 2 * EXTREMES]
        samples = [_pair(clip, "", sounds, budget) for clip in shown]
        sections.append(Section("Examples", samples=samples))
    else:
        values = dict(zip(clips["id"], clips[ranked], strict=True))
        order = sorted(values, key=lambda clip: values[clip])
        name = readable(ranked)
        spread = histogram(list(values.values()), name, f"How {name} is spread over the clips")
        sections += [Section("Clip by clip", figures=[spread])] if spread else []
        # Of few clips each is shown once: what is among the best is not among the worst.
        best = order[: min(EXTREMES, (len(order) + 1) // 2)]
        worst = order[::-1][: min(EXTREMES, len(order) // 2)]
        for title, chosen in ((f"Best pairs by {name}", best), (f"Worst pairs by {name}", worst)):
            samples = [_pair(clip, f"{name} {cell(values[clip])}", sounds, budget) for clip in chosen]
            sections.append(Section(title, samples=samples))
    if hits := results["details"].get("class_hits"):
        sections.append(_class_hits(hits))
    return _with_problem(sections, sounds)


def codec(results: Results, sounds: Recordings, budget: Budget) -> list[Section]:
    """Show losses, bitrates and the use of the codebooks."""
    sections = [Section("Results", tables=[metric_table(results)])]
    if usage := results["details"].get("code_usage"):
        streams = range(len(usage["entropy_bits"]))
        names = {"entropy_bits": "entropy, bits", "perplexity": "perplexity", "used": "share of codes used"}
        rows = [[f"stream {i + 1}", *(cell(usage[name][i]) for name in names)] for i in streams]
        groups = {title: {f"stream {i + 1}": usage[name][i] for i in streams} for name, title in names.items()}
        figure = bars(groups, {}, "Bars of entropy, perplexity and use of each stream", "How evenly codes are used")
        sections.append(
            Section("Code usage", tables=[Table("By stream", ["", *names.values()], rows)], figures=[figure])
        )
    return sections


def continuation(results: Results, sounds: Recordings, budget: Budget) -> list[Section]:
    """Show Table 4, Figure 2, and Figure 4's spectrograms with their sounds."""
    cells, columns = results["details"]["cells"], grid_columns(results)
    figures = [_figure_2([row for row in cells if row["scored"] == scored], columns, scored)
               for scored in dict.fromkeys(row["scored"] for row in cells)]  # fmt: skip
    drawn = [figure for figure in figures if figure]
    sections = [
        Section("Results (Table 4)", tables=grid_tables(results)),
        *([Section("KL against prompt length (Figure 2)", figures=drawn)] if drawn else []),
        _figure_4(results, cells, sounds, budget),
    ]
    return _with_problem(sections, sounds)


def listening(results: Results, sounds: Recordings, budget: Budget) -> list[Section]:
    """Show means and both intervals per system, and the ratings that were dropped."""
    sections = []
    for question, detail in results["details"].items():
        tables = [*rating_tables(detail), *_rater_tables(detail)]
        means = {name: row["mean"] for name, row in detail["systems"].items() if row["mean"] is not None}
        ends = {
            name: span
            for key, span in results["intervals"].items()
            if (name := key.removeprefix(f"{question}/")) != key
        }
        alt = ", ".join(f"{name} {mean:.1f}" for name, mean in means.items())
        figures = (
            [bars({question.upper(): means}, {question.upper(): ends}, alt, "Mean and 95% interval")] if means else []
        )
        before, after = detail["raters"]["before"], detail["raters"]["after"]
        sections.append(Section(question.upper(), [f"{after} of {before} raters count."], tables, figures))
    return sections


TASKS: dict[str, Callable[[Results, Recordings, Budget], list[Section]]] = {
    "generation": generation,
    "codec": codec,
    "continuation": continuation,
    "listening": listening,
}


def _pair(clip: str, note: str, sounds: Recordings, budget: Budget) -> Sample:
    """Show a prompt with its recording and the clip generated for it."""
    reference, made = sounds.reference(clip), sounds.generated(clip)
    players = [budget.player("recording", reference.recording)] if reference else []
    players.append(budget.player("generated", made))
    text = (reference.caption or reference.text) if reference else None
    return Sample(text or clip, f"{clip} · {note}" if note else clip, players)


def _class_hits(hits: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Section:
    head = ["class", *(f"{name}, top {k}" for name in hits for k in (1, 5))]
    first = next(iter(hits.values()))
    order = sorted(first, key=lambda name: (-first[name]["top5"], name))
    rows = [[name, *(f"{hits[row][name][key]:.0%}" for row in hits for key in ("top1", "top5"))] for name in order]
    return Section("Does it follow the class?", tables=[Table("Hits by class", head, rows, folded=True)])


def _figure_2(cells: Sequence[Results], columns: Sequence[str], scored: str) -> Figure | None:
    """Draw the paper's three panels: prompt against text; with text and without."""
    src, rnd = (next((name for name in columns if name.startswith("kl") and name.endswith(side)), None)
                for side in ("_src", "_rnd"))  # fmt: skip
    if src is None or rnd is None:
        return None

    def line(label: str, text: str, column: str) -> Line:
        rows = {row["prompt_seconds"]: row for row in cells if row["text"] == text and row.get(column) is not None}
        intervals = {at: row["intervals"][column] for at, row in rows.items() if column in row["intervals"]}
        return Line(label, {at: row[column] for at, row in rows.items()}, intervals)

    panels = [
        ("(a) another clip's text", [line("KL w. SRC", "rnd", src), line("KL w. RND", "rnd", rnd)]),
        ("(b) KL w. RND", [line("with RND text", "rnd", rnd), line("without text", "none", rnd)]),
        ("(c) KL w. SRC", [line("with SRC text", "src", src), line("without text", "none", src)]),
    ]
    alt = "KL against prompt length in three panels: under another clip's text, with and without text"
    what = "with the prompt in the scored audio" if scored == "whole" else "on what follows the prompt"
    return curves([Panel(title, "prompt, s", "KL", lines) for title, lines in panels], alt, f"Scored {what}")


def _figure_4(results: Results, cells: Sequence[Results], sounds: Recordings, budget: Budget) -> Section:
    """Show some clips with their continuations at the middle prompt length; dashed where generation starts."""
    lengths = sorted({row["prompt_seconds"] for row in cells})
    seam = lengths[len(lengths) // 2]
    texts = list(dict.fromkeys(row["text"] for row in cells))
    samples = []
    for clip in list(results["details"].get("pairs", {}))[:CONTINUED]:
        reference = sounds.reference(clip)
        found: dict[str, Recording | None] = {"recording": reference.recording if reference else None}
        found |= {TEXTS.get(text, text): sounds.continued(clip, f"{seam:g}s-{text}") for text in texts}
        players = [budget.player(label, recording, picture=False) for label, recording in found.items()]
        other = sounds.reference(results["details"]["pairs"][clip])
        note = f"{clip}, continued after {seam:g} s" + (f"; RND text: {other.caption}" if other else "")
        figure = _mels(found, seam, clip)
        samples.append(Sample((reference.caption if reference else None) or clip, note, players, figure))
    text = [f"Prompts of {seam:g} s; the dashed line is where generation starts."]
    return Section("Continuations (Figure 4)", text, samples=samples)


def _mels(recordings: Mapping[str, Recording | None], seam: float, clip: str) -> Figure | None:
    wavs = {}
    for label, recording in recordings.items():
        try:
            if recording is not None:
                wavs[label] = recording.read()
        except InputError:
            continue  # its player says so
    if not any(np.any(wav) for wav in wavs.values()):
        return None
    alt = f"Mel spectrograms of {clip}: {', '.join(wavs)}; dashed at {seam:g} s"
    return spectrograms(wavs, SAMPLE_RATE, alt, "", seam)


def _rater_tables(detail: Mapping[str, Any]) -> list[Table]:
    tables = []
    if dropped := detail["dropped"]:
        rows = [[d["rater"], d["item"] or "all", d["rule"], d["value"], str(d["ratings"])] for d in dropped]
        tables.append(
            Table("Ratings that do not count", ["rater", "item", "rule", "value", "ratings"], rows, len(rows) > 10)
        )
    if detail["flags"]:
        tables.append(Table("Odd, but counted", ["what"], [[flag] for flag in detail["flags"]], folded=True))
    rows = [[rater, cell(r)] for rater, r in detail["agreement"].items()]
    return [*tables, Table("Agreement of each rater with the others", ["rater", "r"], rows, folded=True)]


def _with_problem(sections: list[Section], sounds: Recordings) -> list[Section]:
    if sounds.problem:
        sections.append(Section("Recordings that are not here", [sounds.problem]))
    return sections
