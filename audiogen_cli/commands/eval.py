"""`audiogen eval`: audio or a model + a split → results.json and a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from audiogen_cli.commands.options import (
    BatchSizeOption,
    DeviceOption,
    Dtype,
    DtypeOption,
    GuidanceOption,
    JsonOption,
    ModelOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
)
from audiogen_cli.commands.progress import progress_bar

MANIFESTS = Path("data/manifests")


def eval_(
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="DATASET-SPLIT", help="Clips to compare with, such as audiocaps-test."),
    ] = None,
    manifests: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Manifests, as audiogen prep writes them.")
    ] = MANIFESTS,
    task: Annotated[
        str, typer.Option(metavar="NAME", help="generation, or codec: SI-SNR, mel distance, bitrates.")
    ] = "generation",
    model: ModelOption = None,
    generated: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Score these files, named like the clips, instead of a model's."),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Real audio, instead of the split's own recordings.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="generation: fad, kl (these two by default), kl-reverse, kl-exact, kl-sigmoid, class-hits;"
            " codec: si-snr, mel-distance, bitrate, code-usage.",
        ),
    ] = None,
    classifier: Annotated[
        str, typer.Option(metavar="NAME", help="The network behind FAD, KL and class hits: yamnet.")
    ] = "yamnet",
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Score so many clips only, spread over the texts.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the generated sounds and of the intervals.")] = 0,
    guidance: GuidanceOption = None,
    top_p: TopPOption = None,
    top_k: TopKOption = None,
    temperature: TemperatureOption = None,
    batch_size: BatchSizeOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = Dtype.auto,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="For results.json and generated/. [default: runs/eval-SPLIT]"),
    ] = None,
    json_: JsonOption = False,
) -> int:
    """Example: audiogen eval --split audiocaps-test --model runs/lm-base

    Scores a model, or a folder of audio by any system, against real clips. Run again with the same --out, it
    generates only what is missing.
    """
    from audiogen_cli.evaluation.config import EvalConfig
    from audiogen_cli.evaluation.run import evaluate
    from audiogen_cli.lm.jobs import Settings

    folder = out or Path("runs") / f"eval-{split or 'folders'}"
    with progress_bar("scoring") as progress:
        results = evaluate(
            EvalConfig(
                out=folder,
                task=task,
                split=split,
                manifests=manifests,
                model=Path(model) if model else None,
                generated=generated,
                reference=reference,
                metrics=_metrics(metrics, classifier),
                classifier=classifier,
                limit=limit,
                seed=seed,
                settings=Settings(guidance, top_p, top_k, temperature),
                batch_size=batch_size,
                device=device,
                dtype=dtype.value,
            ),
            progress=progress,
        )
    print(json.dumps(results, indent=2) if json_ else _table(results))
    for line in [*_notes(results), f"all of it: {folder / 'results.json'}"]:
        typer.echo(line, err=True)
    return 1 if results["skipped"] else 0


def _metrics(names: str | None, classifier: str) -> tuple[str, ...]:
    """The metrics of a comma-separated list, by their short names or as results.json has them (`fad_yamnet`)."""
    words = [name.strip().replace("-", "_") for name in (names or "").split(",")]
    return tuple(dict.fromkeys(word.removesuffix(f"_{classifier}") for word in words if word))


def _table(results: dict[str, Any]) -> str:
    """A plain text table: one row per set of clips, one column per metric, intervals beside their value."""
    intervals = results["intervals"]
    columns = list(results["metrics"])
    first = "generated" if results["task"] == "generation" else "codec"
    lines = [["", *columns], [first, *(_cell(results["metrics"][name], intervals.get(name)) for name in columns)]]
    for row, values in results["baselines"].items():
        lines.append([row, *(_cell(values.get(name)) for name in columns)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    title = (
        f"{results['split'] or results['reference']}, {results['n']} clips{', partial' if results['partial'] else ''}"
    )
    body = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([title, *body])


def _cell(value: float | None, interval: tuple[float, float] | None = None) -> str:
    if value is None:
        return "–"
    text = f"{value:.4g}"
    return f"{text} [{interval[0]:.3g}, {interval[1]:.3g}]" if interval else text


def _notes(results: dict[str, Any]) -> list[str]:
    notes = [f"warning: {warning}" for warning in results["warnings"]]
    skipped = results["skipped"]
    notes += [f"skipped {item['id']}: {item['reason']}" for item in skipped[:10]]
    if len(skipped) > 10:
        notes.append(f"skipped {len(skipped) - 10} more, listed in results.json")
    if "classifier" in results:
        name = results["classifier"]["name"]
        notes.append(f"numbers by {name} rank runs of one project; they do not compare with published ones")
    return notes
