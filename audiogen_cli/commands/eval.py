"""`audiogen eval`: scores a model, or audio, on a split; writes results.json and prints a table."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiogen_cli.commands.terminal import options
from audiogen_cli.commands.terminal.announce import announce, describe_identity, plan_evaluation
from audiogen_cli.commands.terminal.comparison import compare
from audiogen_cli.commands.terminal.listening import LISTENING, prepare_listening, score_listening, show_report
from audiogen_cli.commands.terminal.progress import progress_bar
from audiogen_cli.commands.terminal.tables import print_table, shorten
from audiogen_cli.devices import is_main_process
from audiogen_cli.errors import InputError, printable, read_seconds

if TYPE_CHECKING:
    from audiogen_cli.evaluation.config import EvalConfig

MANIFESTS = Path("data/manifests")


@options.sampling_flags(without=("timing", "loop"))
def eval_(
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="DATASET-SPLIT",
            help="Clips to compare with, such as audiocaps-test; with --before several, A,B.",
        ),
    ] = None,
    manifests: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Manifests, as audiogen prep writes them.")
    ] = MANIFESTS,
    task: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="generation; continuation: prompts of 0.5 to 4 s; codec: SI-SNR, ViSQOL, mel distance, bitrates;"
            " listening: a test for human raters.",
        ),
    ] = "generation",
    model: options.ModelOption = None,
    adapter: options.AdapterOption = None,
    before: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Also score this model, which a training began with, and print one table: before, after, change.",
        ),
    ] = None,
    generated: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Score these files, named like the clips, instead of a model's sounds."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Real audio, instead of the split's; also a pattern: 'audio/1-*'."),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="generation: fad, kl (by default), fad-infinity, kl-reverse, kl-exact, kl-sigmoid, is, clap"
            " (by default where its weights are), class-hits (ESC-50's classes); continuation: fad, kl;"
            " codec: si-snr, visqol (if installed), mel-distance, bitrate, code-usage.",
        ),
    ] = None,
    classifier: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Network of KL, inception score, class hits: passt, pann, pann-16k, yamnet; auto: the best installed.",
        ),
    ] = "auto",
    embedding: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Network of FAD: vggish-google (the paper's), vggish-torch, clap or a classifier."
            " [default: vggish-google with --classifier auto if it is installed, else the classifier]",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        list[str] | None, typer.Option("--weights", metavar="NAME=FILE", help="A network's weights (repeatable).")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Download missing weights.")] = False,
    unpaired: Annotated[
        bool, typer.Option("--unpaired", help="The generated files belong to no clips: only fad and is.")
    ] = False,
    prompt_seconds: Annotated[
        str, typer.Option("--prompt-seconds", metavar="A,B", help="continuation: lengths of the prompts.")
    ] = "0.5,1,2,3,4",
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=options.MAX_COUNT, help="Score only N clips, spread over the texts."),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, max=options.MAX_SEED, help="Seed of the sounds and of the intervals.")
    ] = 0,
    batch_size: options.BatchSizeOption = None,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = options.Dtype.auto,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="For results.json and sounds. [default: runs/TASK-SPLIT]"),
    ] = None,
    system: Annotated[
        list[str] | None,
        typer.Option("--system", metavar="NAME=FOLDER", help="listening: a system's audio (repeatable)."),
    ] = None,
    score: Annotated[
        list[Path] | None,
        typer.Option("--score", metavar="CSV", help="listening: score ratings, a file or a folder (repeatable)."),
    ] = None,
    reference_rule: Annotated[
        str,
        typer.Option(
            metavar="RULE",
            help="listening: drop raters of the hidden reference below 85: mean, any, share:0.15, page; or bs1534.",
        ),
    ] = "mean",
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Also write report.html: tables, plots and sounds on one page. With --out alone: of results that are"
            " in that folder, or in the folders in it.",
        ),
    ] = False,
    json_: options.JsonOption = False,
    **sampling: Any,
) -> int:
    """Example: audiogen eval --split audiocaps-test --model runs/lm-base

    Scores a model, or a folder of audio from any system, against real clips. Run again with the same --out, it
    generates only what is missing. --task listening writes a page for raters; --score reads their ratings.

    \b
    audiogen eval --split audiocaps-test --classifier passt --embedding vggish-google --download
    audiogen eval --reference 'audio/1-*' --generated 'audio/2-*' --unpaired --model embedded
    audiogen eval --split audiocaps-test --task continuation --model runs/lm-base
    audiogen eval --split mine-val,esc50-val --before embedded --model embedded --adapter runs/mine
    accelerate launch -m audiogen_cli eval --split audiocaps-test --model runs/lm-base
    """
    from audiogen_cli.evaluation.config import EvalConfig
    from audiogen_cli.evaluation.inputs import refuse_another
    from audiogen_cli.evaluation.run import evaluate
    from audiogen_cli.lock import hold_folder

    if before and task == LISTENING:
        raise InputError("--before is for generation and continuation; a listening test takes --system NAME=FOLDER")
    if system and task != LISTENING:
        raise InputError("--system is for --task listening; to score a folder of sounds: --generated FOLDER")
    if score:
        return score_listening(score, reference_rule, out, seed, json_, report)
    if report and out is not None and split is None and reference is None:
        return show_report(out)
    folder = out or Path("runs") / f"{'eval' if task == 'generation' else task}-{split or 'folders'}"
    splits = options.split_names(split or "") if before else [split]
    config = EvalConfig(
        out=folder,
        task="generation" if task == LISTENING else task,
        split=next(iter(splits), None),
        manifests=manifests,
        model=Path(model) if model else None,
        adapters=tuple(adapter or ()),
        generated=generated,
        reference=reference,
        metrics=_metrics(metrics),
        classifier=classifier,
        embedding=embedding,
        weights=_weights(weights or []),
        download=download,
        unpaired=unpaired,
        prompt_seconds=_seconds(prompt_seconds),
        limit=limit,
        seed=seed,
        sampling=sampling,
        batch_size=batch_size,
        device=device,
        dtype=dtype.value,
    )
    if task == LISTENING:
        return prepare_listening(config, system or [], json_, report)

    def run(config: EvalConfig) -> dict[str, Any] | None:
        hold_folder(config.out)  # to the end: reports are written there, too
        with progress_bar("scoring") as progress:
            return evaluate(config, progress, begin=lambda n: announce(plan_evaluation, config, n))

    if before:
        code = compare(folder, _pairs(config, before, splits), run, json_)
        if report and is_main_process():
            show_report(folder)
        return code
    if out is None:
        refuse_another(config)
    results = run(config)
    if results is None:  # a helping process of an accelerate launch
        return 0
    if json_:
        print(json.dumps(results, indent=2))
    else:
        _print_tables(results)
    for line in [*_notes(results), f"all of it: {folder / 'results.json'}"]:
        typer.echo(printable(line), err=True)
    if report:
        show_report(folder)
    return 1 if results["skipped"] else 0


def _pairs(config: EvalConfig, before: str, splits: Sequence[str | None]) -> dict[str, tuple[EvalConfig, EvalConfig]]:
    """Return split → the evaluations of the model before and of the model after. Raises InputError if it has none."""
    if config.generated is not None or config.task not in ("generation", "continuation") or None in splits:
        raise InputError("--before compares two models on the clips of --split")
    from audiogen_cli.model_folder import find_model

    model = find_model(before)
    return {
        split: (
            replace(config, split=split, out=config.out / f"{split}-before", model=model, adapters=()),
            replace(config, split=split, out=config.out / f"{split}-after"),
        )
        for split in splits
        if split
    }


def _print_tables(results: dict[str, Any]) -> None:
    from audiogen_cli.evaluation.tables import grid_tables, metric_table

    partial = ", partial" if results["partial"] else ""
    typer.echo(f"{results['split'] or results['reference']}, {results['n']} clips{partial}")
    if results.get("model_name"):
        typer.echo(describe_identity(results))
    for table in grid_tables(results) if results["task"] == "continuation" else [metric_table(results)]:
        print_table(table.rows, table.head)


def _notes(results: dict[str, Any]) -> list[str]:
    """List warnings, what was skipped, and what the numbers compare with."""
    lines = [f"warning: {warning}" for warning in results["warnings"]]
    lines += shorten([f"skipped {item['id']}: {item['reason']}" for item in results["skipped"]])
    names = {network["name"] for role in ("classifier", "embedding", "clap") if (network := results.get(role))}
    if names and not results["published"] and not results["details"].get("published"):
        lines.append(f"numbers by {', '.join(sorted(names))} rank runs of one protocol; no published row compares")
    return lines


def _metrics(names: str | None) -> tuple[str, ...]:
    """Read a list of metrics, by their short names or as results.json has them (`fad_yamnet`)."""
    from audiogen_cli.evaluation.config import METRICS
    from audiogen_cli.evaluation.networks.registry import NETWORKS

    networks = [f"_{name.partition('-')[0]}" for name in NETWORKS]
    found = []
    for word in options.split_names(names or ""):
        name = re.sub("^fd(?=_|$)", "fad", word.replace("-", "_"))
        begun = {each for task in METRICS.values() for each in task if name.startswith(f"{each}_")}
        found.append(max(begun, key=len, default=name) if any(each in name for each in networks) else name)
    return tuple(dict.fromkeys(found))


def _weights(given: list[str]) -> tuple[tuple[str, Path], ...]:
    for pair in given:
        if "=" not in pair:
            raise InputError(f"--weights {pair}: give NAME=FILE, as in pann=Cnn14_mAP=0.431.pth")
    return tuple((name, Path(path)) for name, path in (pair.split("=", 1) for pair in given))


def _seconds(text: str) -> tuple[float, ...]:
    try:
        return tuple(map(read_seconds, options.split_names(text)))
    except ValueError as error:
        raise InputError(f"--prompt-seconds {text}: {error}") from None
