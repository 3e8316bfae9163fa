"""The task `codec`: the cost of a codec and its loss over real clips (paper Table 2)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict

import numpy as np

from audiogen_cli.devices import count_processes, gather_values, is_main_process, process_index
from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.evaluation.audio_sources import MAX_DURATION, RESAMPLER, Reconstructor
from audiogen_cli.evaluation.config import EvalConfig
from audiogen_cli.evaluation.inputs import load_inputs
from audiogen_cli.evaluation.metrics.base import CodecMetric
from audiogen_cli.evaluation.metrics.codes import bitrate, code_usage, count_codes
from audiogen_cli.evaluation.metrics.reconstruction import ReconstructionScores, summarize_si_snr
from audiogen_cli.evaluation.metrics.registry import CODEC
from audiogen_cli.evaluation.published import published_codecs
from audiogen_cli.evaluation.references import Reference, hash_references, limit_clips
from audiogen_cli.evaluation.results import Begin, Findings, Progress, Skipped
from audiogen_cli.evaluation.tasks.generate_clips import find_scored

OTHER_CLIP = "another clip"
SLOW_CLIPS = 100  # ours: for metrics of seconds a clip, such as ViSQOL; the same clips in every run


def evaluate_codec(config: EvalConfig, progress: Progress, begin: Begin) -> Findings | None:
    """Reconstruct a split's clips and measure the loss and the codes.

    The processes of an accelerate launch share the clips, and all but the main one return None.
    Raises InputError if split or model are unusable, AudiogenError if no clip could be read.
    """
    metrics, warnings = _installed([CODEC[name] for name in config.chosen_metrics], asked_for=bool(config.metrics))
    inputs = load_inputs(config)
    everything = inputs.references
    reconstructor = Reconstructor.load(config.model, config.device)
    codec = reconstructor.codec
    n_available = len(everything) + len(inputs.unfit)
    references = limit_clips(everything, config.limit)
    if is_main_process():
        begin(len(references))
    slow = {reference.id for reference in limit_clips(references, SLOW_CLIPS)}
    scores, other = (ReconstructionScores(metrics, codec.sample_rate) for _ in range(2))
    counts = np.zeros((codec.n_q, codec.codebook_size), np.int64)
    scored, skipped = list[Reference](), list[Skipped]()
    # Each process takes neighbors: the clip before its first one, which is to be read, too, is its neighbor's last.
    ends = [len(references) * rank // count_processes() for rank in range(count_processes() + 1)]
    own = range(ends[process_index()], ends[process_index() + 1])
    previous = _last_readable(reconstructor, references[: own.start])
    for done, reference in enumerate(references[own.start : own.stop], 1):
        progress(done, len(own))
        try:
            wav, decoded, codes = reconstructor.reconstruct(reference.recording)
        except InputError as error:
            skipped.append(Skipped(reference.id, str(error)))
            continue
        scores.add(wav, decoded, reference.id in slow)
        if previous is not None:  # a codec that scores no better than this keeps nothing
            other.add(wav, np.resize(previous, len(wav)), reference.id in slow)
        counts += count_codes(codes, codec.codebook_size)
        scored.append(reference)
        previous = wav
    shares = gather_values((scores.values, other.values, counts, scored, skipped))
    if not is_main_process():
        return None
    for later in shares[1:]:
        scores.join(later[0])
        other.join(later[1])
        counts += later[2]
        scored += later[3]
        skipped += later[4]
    skipped = [*inputs.unfit, *skipped]
    if not scored:
        raise AudiogenError(f"none of {n_available} clips could be read; the last: {skipped[-1].reason}")

    usage = code_usage(counts, codec.frame_rate)
    bits_per_second = bitrate(codec.frame_rate, codec.n_q, codec.codebook_size)
    costs = {name: value for metric in metrics for name, value in metric.judge_codes(bits_per_second, usage).items()}
    quality = summarize_si_snr(scores.values["si_snr"])
    if quality.lost:
        warnings.append(f"{quality.lost} of {len(scored)} reconstructions hold nothing of their clip: not in si_snr")
    findings = Findings(
        n=len(scored),
        n_available=n_available,
        metrics={**scores.means(), **costs},
        baselines={OTHER_CLIP: other.means()},
        intervals=scores.intervals(config.seed),
        inputs={
            **find_scored(config)[1],
            "codec_fingerprint": codec.fingerprint,
            "device": reconstructor.device.partition(":")[0],
            "dtype": str(next(codec.parameters()).dtype).removeprefix("torch."),
            "resampler": RESAMPLER,
            "seed": None,  # nothing is drawn: a codec's own noise is always the same
            "reference_set": hash_references(scored),
            "max_duration": MAX_DURATION,
        },
        details={
            "si_snr": asdict(quality),
            "lag": scores.lag,
            "visqol_clips": int(np.isfinite(scores.values["visqol"]).sum()),
            "code_usage": asdict(usage),
        },
        warnings=warnings,
        skipped=skipped,
    )
    findings.published = published_codecs(config, findings)
    return findings


def _last_readable(reconstructor: Reconstructor, references: Sequence[Reference]) -> np.ndarray | None:
    for reference in reversed(references):
        with suppress(InputError):
            return reference.recording.read(reconstructor.codec.sample_rate)
    return None


def _installed(metrics: Sequence[CodecMetric], asked_for: bool) -> tuple[list[CodecMetric], list[str]]:
    """Leave out metrics without their package, with a warning each. Raises InputError if they were asked for."""
    found, warnings = [], []
    for metric in metrics:
        try:
            metric.check()
            found.append(metric)
        except InputError as error:
            if asked_for:
                raise
            warnings.append(str(error))
    return found, warnings
