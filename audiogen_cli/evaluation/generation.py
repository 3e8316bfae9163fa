"""The task `generation`: FAD, KL and class hits of generated clips against real ones (paper Table 1).

Beside the generated clips stand rows that give the numbers a scale: the two halves of the references against each
other (what FAD's bias makes of so few clips), the references through the model's codec (the best that any language
model over it can reach), silence, and white noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.evaluation.classifiers.base import RESAMPLER, load_classifier
from audiogen_cli.evaluation.clips import (
    MAX_DURATION,
    Recording,
    Reference,
    hash_references,
    limit_clips,
    load_references,
    pair,
    sample_rates,
)
from audiogen_cli.evaluation.config import EvalConfig, Findings, Progress, Skipped
from audiogen_cli.evaluation.fad import FEW_CLIPS
from audiogen_cli.evaluation.kl import EPSILON
from audiogen_cli.evaluation.produce import produce
from audiogen_cli.evaluation.rows import CODEC, GENERATED, HALVES, NOISE, REFERENCE, SILENCE, Rows

Pairs = list[tuple[Reference, Recording]]


def evaluate_generation(config: EvalConfig, progress: Progress) -> Findings:
    """Score a model's audio, or a folder's.

    Raises InputError if the inputs do not fit each other, AudiogenError if no clip could be scored.
    """
    classifier = load_classifier(config.classifier)
    everything, unfit = load_references(config.split, config.manifests, config.reference)
    references = limit_clips(everything, config.limit)
    metrics = config.chosen_metrics
    if "class_hits" in metrics and not all(reference.category for reference in references):
        raise InputError("class_hits needs clips of the 50 ESC-50 classes, such as --split esc50-test")
    pairs, missing, inputs = _pairs(references, config, progress)
    rows = Rows(classifier, config.seed, _load_reconstructor(config))
    skipped = [*unfit, *missing, *rows.fill(pairs, progress)]
    if not rows.scored:
        raise AudiogenError(f"none of {len(references)} clips could be scored; the last: {skipped[-1].reason}")

    findings = Findings(
        n=len(rows.scored),
        n_available=len(everything) + len(unfit),
        metrics={**rows.score(GENERATED, metrics), "near_silent": rows.heard[GENERATED].near_silent},
        inputs={**inputs, **_inputs(rows, config)},
        intervals=rows.intervals(metrics),
        skipped=skipped,
    )
    if "fad" in metrics:
        findings.baselines[HALVES] = rows.score_halves()
    for name in (CODEC, SILENCE, NOISE):
        if name in rows.heard:
            findings.baselines[name] = rows.score(name, metrics)
    if "class_hits" in metrics:
        findings.baselines[REFERENCE] = rows.score(REFERENCE, ["class_hits"])
        sets = [name for name in (GENERATED, CODEC, REFERENCE) if name in rows.heard]
        findings.details["class_hits"] = {name: asdict(rows.class_hits(name))["per_class"] for name in sets}
    findings.warnings = _warnings(rows, pairs)
    return findings


def _pairs(
    references: Sequence[Reference], config: EvalConfig, progress: Progress
) -> tuple[Pairs, list[Skipped], dict[str, Any]]:
    """The references with their generated recordings, those without one, and what the recordings depend on."""
    if config.generated is not None:
        found, missing = pair(references, config.generated)
        inputs = {"generated": str(config.generated), "model_fingerprint": None, "sampling": None}
        return [(reference, Recording(path)) for reference, path in found], missing, inputs
    produced = produce(references, config, progress)
    pairs = [(reference, Recording(path)) for reference, path in produced.files]
    return pairs, produced.failed, {"generated": None, **produced.settings, "reused": produced.reused}


def _load_reconstructor(config: EvalConfig) -> Any:
    """The codec of the model that made the audio; a folder of audio has none, unless --model names one."""
    if config.generated is not None and config.model is None:
        return None
    from audiogen_cli.evaluation.reconstruction import Reconstructor

    return Reconstructor.load(config.model, config.device)


def _inputs(rows: Rows, config: EvalConfig) -> dict[str, Any]:
    classifier = rows.classifier
    return {
        "classifier": {
            "name": classifier.name,
            "file": classifier.path.name,
            "sha256": classifier.sha256,
            "licence": classifier.licence,
            "sample_rate": classifier.sample_rate,
            "embedding_size": classifier.dim,
            "windows": len(rows.heard[REFERENCE].embeddings),
        },
        "codec_fingerprint": rows.reconstructor.fingerprint if rows.reconstructor else None,
        "resampler": RESAMPLER,
        "seed": config.seed,
        "reference_set": hash_references(rows.scored),
        "captions": "the first text of each clip",
        "max_duration": MAX_DURATION,
        "loudness": "as in the files",
        "kl_epsilon": EPSILON,
    }


def _warnings(rows: Rows, pairs: Pairs) -> list[str]:
    n, n_windows = len(rows.scored), len(rows.heard[REFERENCE].embeddings)
    dim, silent = rows.classifier.dim, rows.heard[GENERATED].near_silent
    rates = sample_rates(
        [path for reference, recording in pairs for path in (reference.recording.path, recording.path)]
    )
    return [
        text
        for applies, text in (
            (n < FEW_CLIPS, f"only {n} clips (< {FEW_CLIPS}): FAD is biased upward, compare runs of equal n only"),
            (n_windows < dim, f"only {n_windows} windows for embeddings of {dim} numbers: FAD is mostly bias"),
            (len(rates) > 1, f"mixed sample rates ({', '.join(map(str, rates))} Hz): bandwidths may differ"),
            (rows.unequal, f"{rows.unequal} generated clips are not as long as their reference"),
            (silent, f"{silent} of {n} generated clips are near silent"),
        )
        if applies
    ]
