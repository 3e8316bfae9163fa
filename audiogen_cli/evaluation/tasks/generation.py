"""The task `generation`: FAD, KL and other metrics of generated clips against real ones (paper Table 1).

Further rows give the numbers a scale: the two halves of the references against each other (FAD's bias with half as many
clips, which is about twice as large), the references through the model's codec (the best that any language model over
it can reach), noise and silence, the references against other references, and against themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audiogen_cli.data.audio import LOSSLESS_SUFFIXES
from audiogen_cli.devices import is_main_process
from audiogen_cli.errors import AudiogenError
from audiogen_cli.evaluation.audio_sources import MAX_DURATION, RESAMPLER, Reconstructor, Recording
from audiogen_cli.evaluation.config import EvalConfig
from audiogen_cli.evaluation.inputs import load_inputs
from audiogen_cli.evaluation.metrics.base import Metric
from audiogen_cli.evaluation.metrics.frechet import FEW_CLIPS
from audiogen_cli.evaluation.metrics.kl import EPSILON
from audiogen_cli.evaluation.metrics.registry import GENERATION
from audiogen_cli.evaluation.networks.registry import EMBEDDING
from audiogen_cli.evaluation.published import published_rows
from audiogen_cli.evaluation.references import (
    Reference,
    folder_references,
    hash_references,
    limit_clips,
    pair,
    sample_rates,
    unmatched,
)
from audiogen_cli.evaluation.results import Begin, Findings, Progress, Skipped
from audiogen_cli.evaluation.score_table import GENERATED, REFERENCE, ROWS, ScoreTable
from audiogen_cli.evaluation.tasks.generate_clips import generate_clips

INTERVALS = {
    "fad": "first order over clips",  # see intervals.influence_interval
    "is": "first order over clips",
    "others": "bootstrap over clips, 1000 draws, percentiles",
}


@dataclass
class _Generated:
    """The clips to score. references: aligned with `recordings`, unless unpaired; recordings: with their ids."""

    references: list[Reference]
    recordings: list[tuple[str, Recording]]
    inputs: dict[str, Any]  # for results.json
    missing: list[Skipped] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)  # for results.json, too: how it went


def evaluate_generation(config: EvalConfig, progress: Progress, begin: Begin) -> Findings | None:
    """Score a model's audio, or a folder's.

    The processes of an accelerate launch share the work, and all but the main one return None.
    Raises InputError if the inputs do not fit each other, AudiogenError if no clip could be scored.
    """
    metrics = [GENERATION[name] for name in choose_metrics(config)]
    main = is_main_process()
    inputs = load_inputs(config, {metric.role for metric in metrics})
    everything, unfit, networks = inputs.references, inputs.unfit, inputs.networks
    references = limit_clips(everything, config.limit)
    if main:
        for metric in metrics:
            metric.check(references, networks)
        begin(len(references))
    generated = _from_model(references, config, progress) if config.generated is None else _from_folder(
        references, everything, config, config.generated)  # fmt: skip
    # The codec of the model that made the audio; a folder of audio has none, unless --model names one.
    has_codec = config.generated is None or config.model is not None
    reconstructor = Reconstructor.load(config.model, config.device) if has_codec else None
    table = ScoreTable(networks, config.seed, reconstructor, paired=not config.unpaired)
    skipped = [*unfit, *generated.missing, *table.fill(generated.references, generated.recordings, progress)]
    if not main:
        return None
    if not table.references or not table.generated_ids:
        raise AudiogenError(f"none of {len(references)} clips could be scored; the last: {skipped[-1].reason}")

    silent = table.count_near_silent(GENERATED)
    intervals = {name: span for metric in metrics for name, span in metric.intervals(table).items()}
    findings = Findings(
        n=len(table.references),
        n_available=len(everything) + len(unfit),
        metrics={**_score(table, GENERATED, metrics), "near_silent": silent},
        inputs={**generated.inputs, **_inputs(table, config, generated)},
        baselines=_baselines(table, metrics),
        intervals={name: span for name, span in intervals.items() if span is not None},
        details=_details(table, metrics),
        warnings=[*generated.warnings, *_warnings(table, generated, silent)],
        skipped=skipped,
        run=generated.run,
    )
    findings.published = published_rows(config, findings)
    return findings


def choose_metrics(config: EvalConfig) -> tuple[str, ...]:
    """Choose the metrics asked for, else FAD and KL, and a CLAP score if CLAP and texts are here."""
    if config.unpaired:
        return config.metrics or ("fad",)
    if config.metrics or config.split is None:
        return config.chosen_metrics
    from audiogen_cli.evaluation.networks.clap import is_here

    return (*config.chosen_metrics, "clap") if is_here() else config.chosen_metrics


def _from_model(references: list[Reference], config: EvalConfig, progress: Progress) -> _Generated:
    found = generate_clips(references, config, progress)
    recordings = [(reference.id, Recording(path)) for reference, path in found.files]
    inputs, run = {"generated": None, **found.inputs}, {"reused": found.reused}
    return _Generated([reference for reference, _ in found.files], recordings, inputs, found.failed, run=run)


def _from_folder(
    references: list[Reference], everything: list[Reference], config: EvalConfig, folder: Path
) -> _Generated:
    inputs = {"generated": str(folder), "model_fingerprint": None, "sampling": None}
    if config.unpaired:
        clips = limit_clips(folder_references(folder), config.limit)
        return _Generated(references, [(clip.id, clip.recording) for clip in clips], inputs)
    pairs, missing = pair(references, folder, everything)
    warnings = []
    if config.limit is None and (extra := unmatched(references, folder)):
        examples = ", ".join(extra[:3]) + (", …" if len(extra) > 3 else "")
        warnings.append(f"{len(extra)} files of {folder} belong to no clip and are not scored ({examples})")
    recordings = [(reference.id, Recording(path)) for reference, path in pairs]
    return _Generated([reference for reference, _ in pairs], recordings, inputs, missing, warnings)


def _score(table: ScoreTable, name: str, metrics: Sequence[Metric]) -> dict[str, float | None]:
    return {label: value for metric in metrics for label, value in metric.score(table, name).items()}


def _baselines(table: ScoreTable, metrics: Sequence[Metric]) -> dict[str, dict[str, float | None]]:
    """Score all other rows, in the order of the table."""
    rows = {name: _score(table, name, metrics) for name in table.sets if name != GENERATED}
    for metric in metrics:
        for name, values in metric.baselines(table).items():
            rows.setdefault(name, {}).update(values)
    return {name: rows[name] for name in ROWS if name in rows}


def _details(table: ScoreTable, metrics: Sequence[Metric]) -> dict[str, Any]:
    """Collect each generated clip's values, which tell the best and the worst, and the metrics' breakdowns."""
    clips: dict[str, Any] = {"id": table.generated_ids}
    details: dict[str, Any] = {"clips": clips}
    for metric in metrics:
        for label, values in metric.per_clip(table).items():
            clips[label] = [round(float(value), 6) for value in values]
        details.update(metric.details(table))
    return details


def _inputs(table: ScoreTable, config: EvalConfig, generated: _Generated) -> dict[str, Any]:
    scored = set(table.generated_ids)
    files = [Reference(name, name, recording) for name, recording in generated.recordings if name in scored]
    return {
        **table.networks.describe(),
        "windows": len(table.embeddings(REFERENCE, EMBEDDING)) if table.networks.embedding else None,
        "codec_fingerprint": table.reconstructor.fingerprint if table.reconstructor else None,
        "resampler": RESAMPLER,
        "seed": config.seed,
        "reference_set": hash_references(table.references),
        "generated_set": hash_references(files) if config.generated else None,  # else seed and model say it
        "paired": table.paired,
        "captions": "the first of each clip, else its tags, as published; a model processes it as a prompt",
        "max_duration": MAX_DURATION,
        "loudness": "as in the files",
        "kl": {"direction": "reference to generated, unless the name says otherwise", "epsilon": EPSILON},
        "interval_methods": INTERVALS,
    }


def _warnings(table: ScoreTable, generated: _Generated, silent: int) -> list[str]:
    n_references, n = len(table.references), len(table.generated_ids)
    paths = [recording.path for _, recording in generated.recordings]
    rates = sample_rates([*(reference.recording.path for reference in generated.references), *paths])
    lossy = sum(path.suffix.lower() not in LOSSLESS_SUFFIXES for path in paths)
    found = []
    if not table.paired and n != n_references:
        found.append(f"{n_references} references but {n} generated clips")
    if network := table.networks.embedding:
        if (fewest := min(n, n_references)) < FEW_CLIPS:
            found.append(f"only {fewest} clips (< {FEW_CLIPS}): FAD is biased upward, compare runs of equal n")
        if (windows := min(len(table.embeddings(name, EMBEDDING)) for name in (REFERENCE, GENERATED))) < network.dim:
            found.append(f"only {windows} windows for embeddings of {network.dim} numbers: FAD is mostly bias")
    if len(rates) > 1:
        found.append(f"mixed sample rates ({', '.join(map(str, rates))} Hz): bandwidths may differ")
    if lossy:
        found.append(
            f"{lossy} generated clips are lossy files (mp3, ogg, …): the numbers include the compression's loss"
        )
    if table.unequal:
        found.append(f"{table.unequal} generated clips are not as long as their reference")
    for name, ids in ((REFERENCE, [each.id for each in table.references]), (GENERATED, table.generated_ids)):
        if loud := table.over_scale(name):
            number, peak = max(loud, key=lambda clip: clip[1])
            found.append(
                f"{len(loud)} {name} clips go beyond full scale, {ids[number]} to {peak:,.0f} times of it: they distort"
                " all numbers; are they integers stored as floats?"
            )
    if silent:
        found.append(f"{silent} of {n} generated clips are near silent")
    return found
