"""Two models on the same clips, for `eval --before`: what a training has gained on new sounds, and lost on old ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from audiogen_cli.commands.terminal.tables import print_table, shorten
from audiogen_cli.errors import printable
from audiogen_cli.files import write_text

if TYPE_CHECKING:
    from audiogen_cli.evaluation.config import EvalConfig

Results = Mapping[str, Any]


def compare(
    out: Path,
    pairs: Mapping[str, tuple[EvalConfig, EvalConfig]],
    score: Callable[[EvalConfig], Results | None],
    as_json: bool,
) -> int:
    """Score both models of each split; write `<out>/comparison.json` and print one table. Return the exit code.

    pairs: split → the evaluation before and the one after. score: runs one; None in the helping processes of a launch.
    """
    rows, lines = [], []
    for split, pair in pairs.items():
        before, after = (score(config) for config in pair)
        if before is None or after is None:
            continue
        for name in before["metrics"].keys() & after["metrics"].keys():
            values = [results["metrics"][name] for results in (before, after)]
            change = None if None in values else values[1] - values[0]
            intervals = [results["intervals"].get(name) for results in (before, after)]
            rows.append({"split": split, "n": after["n"], "metric": name, "before": values[0], "after": values[1],
                         "change": change, "intervals": intervals})  # fmt: skip
        lines += [f"warning: {split}: {each}" for results in (before, after) for each in results["warnings"]]
        lines += [f"skipped {item['id']}: {item['reason']}" for each in (before, after) for item in each["skipped"]]
    if not rows:  # a helping process
        return 0
    rows.sort(key=lambda row: (list(pairs).index(row["split"]), row["metric"]))
    write_text(out / "comparison.json", json.dumps(rows, indent=2, allow_nan=False) + "\n")
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        _print(rows)
    for line in [*shorten(list(dict.fromkeys(lines))), f"all of it: {out / 'comparison.json'}"]:
        typer.echo(printable(line), err=True)
    return 1 if any(line.startswith("skipped") for line in lines) else 0


def _print(rows: list[dict[str, Any]]) -> None:
    from audiogen_cli.evaluation.tables import cell

    head = ("split", "clips", "metric", "before", "after", "change")
    print_table(
        [
            (row["split"], str(row["n"]), row["metric"], cell(row["before"], row["intervals"][0]),
             cell(row["after"], row["intervals"][1]), "–" if row["change"] is None else f"{row['change']:+.3g}")
            for row in rows
        ],
        head,
    )  # fmt: skip
