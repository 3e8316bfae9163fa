"""The task `generation`: FAD, KL and more of generated clips against real ones (paper Table 1).

Beside the generated clips stand rows that give the numbers a scale: the two halves of the references against each
other (what FAD's bias makes of so few clips), the references through the model's codec (the best that any language
model over it can reach), noise and silence, the references against other references, and against themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from audiogen_cli.data.audio import LOSSLESS_SUFFIXES
from audiogen_cli.devices import is_main_process
from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.evaluation.config import EvalConfig, Findings, Progress, Skipped
from audiogen_cli.evaluation.metrics.frechet import FEW_CLIPS
from audiogen_cli.evaluation.metrics.kl import EPSILON, VARIANTS
from audiogen_cli.evaluation.networks.base import RESAMPLER
from audiogen_cli.evaluation.networks.registry import Networks, load_networks
from audiogen_cli.evaluation.published import published_rows
from audiogen_cli.evaluation.references import (
    MAX_DURATION,
    Recording,
    Reference,
    find_audio,
    hash_references,
    limit_clips,
    load_references,
    pair,
    sample_rates,
    unmatched,
)
from audiogen_cli.evaluation.tasks.generate_clips import produce
from audiogen_cli.evaluation.tasks.score_table import (
    CODEC,
    GENERATED,
    HALVES,
    NOISE,
    REFERENCE,
    SHUFFLED,
    SILENCE,
    Rows,
)

Recordings = list[tuple[str, Recording]]  # ids and recordings of the generated clips
INTERVALS = {
    "fad": "first order over clips",  # see intervals.influence_interval
    "is": "first order over clips",
    "others": "bootstrap over clips, 1000 draws, percentiles",
}


def evaluate_generation(config: EvalConfig, progress: Progress) -> Findings | None:
    """Score a model's audio, or a folder's; None in the helping processes of an accelerate launch.

    Raises InputError if the inputs do not fit each other, AudiogenError if no clip could be scored.
    """
    metrics = choose_metrics(config)
    main = is_main_process()
    networks = load_chosen(config, metrics) if main else Networks(None, None, None)
    everything, unfit = load_references(config.split, config.manifests, config.reference)
    references = limit_clips(everything, config.limit)
    if main:
        _check_metrics(metrics, references, networks)
    n_wanted = len(references)
    references, recordings, missing, inputs, notes = _recordings(references, config, progress)
    if not main:
        return None
    rows = Rows(networks, config.seed, _load_reconstructor(config), paired=not config.unpaired)
    skipped = [*unfit, *missing, *rows.fill(references, recordings, progress)]
    if not rows.scored or not rows.generated_ids:
        raise AudiogenError(f"none of {n_wanted} clips could be scored; the last: {skipped[-1].reason}")

    findings = Findings(
        n=len(rows.scored),
        n_available=len(everything) + len(unfit),
        metrics={**rows.score(GENERATED, metrics), "near_silent": rows.near_silent(GENERATED)},
        inputs={**inputs, **_inputs(rows, config)},
        baselines=_baselines(rows, metrics),
        intervals=rows.intervals(metrics),
        details=_details(rows, metrics),
        skipped=skipped,
    )
    findings.warnings = [*notes, *_warnings(rows, references, recordings)]
    findings.published = published_rows(config, findings)
    return findings


def choose_metrics(config: EvalConfig) -> tuple[str, ...]:
    """The metrics to compute: those asked for, else FAD and KL, and a CLAP score if CLAP and texts are here."""
    if config.unpaired:
        return config.metrics or ("fad",)
    if config.metrics or config.split is None:
        return config.chosen_metrics
    from audiogen_cli.evaluation.networks.clap import is_here

    return (*config.chosen_metrics, "clap") if is_here() else config.chosen_metrics


def load_chosen(config: EvalConfig, metrics: Sequence[str]) -> Networks:
    """The networks that these metrics need, as the call says."""
    weights = dict(config.weights)
    return load_networks(metrics, config.classifier, config.embedding, weights, config.device, config.download)


def _check_metrics(metrics: Sequence[str], references: Sequence[Reference], networks: Networks) -> None:
    if "class_hits" in metrics:
        if not all(reference.category for reference in references):
            raise InputError("class_hits needs clips of the 50 ESC-50 classes, such as --split esc50-test")
        if not networks.for_kl.classes:
            raise InputError(f"class_hits needs class names, which {networks.for_kl.name} has not: --classifier yamnet")
    if "clap" in metrics and not all(reference.caption for reference in references):
        raise InputError("clap needs texts: give --split, whose manifest has them")


def _recordings(
    references: list[Reference], config: EvalConfig, progress: Progress
) -> tuple[list[Reference], Recordings, list[Skipped], dict[str, Any], list[str]]:
    """References and generated recordings (aligned unless unpaired), what is missing, inputs, warnings."""
    if config.generated is None:
        produced = produce(references, config, progress)
        made = [(reference.id, Recording(path)) for reference, path in produced.files]
        inputs = {"generated": None, **produced.settings, "reused": produced.reused}
        return [reference for reference, _ in produced.files], made, produced.failed, inputs, []
    inputs = {"generated": str(config.generated), "model_fingerprint": None, "sampling": None}
    if config.unpaired:
        files = find_audio(config.generated).items()
        others = limit_clips([Reference(name, name, Recording(path)) for name, path in files], config.limit)
        return references, [(other.id, other.recording) for other in others], [], inputs, []
    pairs, missing = pair(references, config.generated)
    notes = []
    if config.limit is None and (extra := unmatched(references, config.generated)):
        examples = ", ".join(extra[:3]) + (", …" if len(extra) > 3 else "")
        notes.append(f"{len(extra)} files of {config.generated} belong to no clip and are in no number ({examples})")
    made = [(reference.id, Recording(path)) for reference, path in pairs]
    return [reference for reference, _ in pairs], made, missing, inputs, notes


def _load_reconstructor(config: EvalConfig) -> Any:
    """The codec of the model that made the audio; a folder of audio has none, unless --model names one."""
    if config.generated is not None and config.model is None:
        return None
    from audiogen_cli.evaluation.tasks.codec import Reconstructor

    return Reconstructor.load(config.model, config.device)


def _baselines(rows: Rows, metrics: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """The other rows of the table, from the nearest to the furthest."""
    paired = [metric for metric in metrics if metric in VARIANTS]
    table: dict[str, dict[str, float | None]] = {REFERENCE: rows.score(REFERENCE, metrics)}
    if "fad" in metrics:
        table[HALVES] = rows.score_halves()
    if CODEC in rows.names:
        table[CODEC] = rows.score(CODEC, metrics)
    for name in (NOISE, SILENCE):
        table[name] = rows.score(name, metrics)
    if paired:
        table[SHUFFLED] = rows.score_shuffled(paired)
    return table


def _details(rows: Rows, metrics: Sequence[str]) -> dict[str, Any]:
    details: dict[str, Any] = {"clips": _per_clip(rows, metrics)}
    if "class_hits" in metrics:
        sets = [name for name in (GENERATED, CODEC, REFERENCE) if name in rows.names]
        details["class_hits"] = {name: asdict(rows.class_hits(name))["per_class"] for name in sets}
    if "is" in metrics:
        score = rows.inception(GENERATED)
        details["is"] = {"std": score.std, "splits": score.splits}
    if "fad_infinity" in metrics:
        details["fad_infinity"] = asdict(rows.infinity) if rows.infinity else None
    return details


def _per_clip(rows: Rows, metrics: Sequence[str]) -> dict[str, Any]:
    """Each generated clip's share in the numbers: who is best and worst can be read from it."""
    values: dict[str, Any] = {"id": rows.generated_ids}
    for metric in metrics:
        name = rows.networks.named(metric)
        if metric in VARIANTS:
            values[name] = _rounded(rows.divergences(GENERATED, metric))
        elif metric == "clap":
            values[name] = _rounded(rows.clap_scores(GENERATED))
    return values


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in values]


def _inputs(rows: Rows, config: EvalConfig) -> dict[str, Any]:
    networks = rows.networks
    return {
        **networks.describe(),
        "windows": len(rows.embeddings(REFERENCE, networks.for_fad)) if networks.embedding else None,
        "codec_fingerprint": rows.reconstructor.fingerprint if rows.reconstructor else None,
        "resampler": RESAMPLER,
        "seed": config.seed,
        "reference_set": hash_references(rows.scored),
        "paired": rows.paired,
        "captions": "the first text of each clip",
        "max_duration": MAX_DURATION,
        "loudness": "as in the files",
        "kl": {"direction": "reference to generated, unless the name says otherwise", "epsilon": EPSILON},
        "interval_methods": INTERVALS,
    }


def _warnings(rows: Rows, references: Sequence[Reference], recordings: Recordings) -> list[str]:
    n, silent = len(rows.generated_ids), rows.near_silent(GENERATED)
    paths = [recording.path for _, recording in recordings]
    rates = sample_rates([*(reference.recording.path for reference in references), *paths])
    lossy = sum(path.suffix.lower() not in LOSSLESS_SUFFIXES for path in paths)
    fad, few, windows, dim = rows.networks.embedding, False, 0, 0
    if fad is not None:
        sides = [rows.embeddings(name, fad) for name in (REFERENCE, GENERATED)]
        few, windows, dim = min(n, len(rows.scored)) < FEW_CLIPS, min(map(len, sides)), fad.dim
    return [
        text
        for applies, text in (
            (not rows.paired and n != len(rows.scored), f"{len(rows.scored)} references but {n} generated clips"),
            (
                few,
                f"only {min(n, len(rows.scored))} clips (< {FEW_CLIPS}): FAD is biased upward, compare runs of equal n",
            ),
            (windows < dim, f"only {windows} windows for embeddings of {dim} numbers: FAD is mostly bias"),
            (len(rates) > 1, f"mixed sample rates ({', '.join(map(str, rates))} Hz): bandwidths may differ"),
            (
                lossy,
                f"{lossy} generated clips are lossy files (mp3, ogg, …): what the compression lost is in the numbers",
            ),
            (rows.unequal, f"{rows.unequal} generated clips are not as long as their reference"),
            (silent, f"{silent} of {n} generated clips are near silent"),
        )
        if applies
    ]
