"""The task `codec`: what a codec costs and what it loses over real clips (paper Table 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audiogen_cli.devices import choose_device
from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.evaluation.config import EvalConfig, Findings, Progress, Skipped
from audiogen_cli.evaluation.metrics import reconstruction as signal
from audiogen_cli.evaluation.networks.base import RESAMPLER
from audiogen_cli.evaluation.references import (
    MAX_DURATION,
    Recording,
    Reference,
    hash_references,
    limit_clips,
    load_references,
)
from audiogen_cli.model_folder import find_codec

if TYPE_CHECKING:
    from audiogen_cli.codec.model import AudioCodec

OTHER_CLIP = "another clip"
VISQOL_CLIPS = 100  # ours: at 3 s a clip, more take longer than they tell; the same ones in every run


class Reconstructor:
    """Takes recordings through a codec and back."""

    def __init__(self, codec: AudioCodec, device: str) -> None:
        self.codec = codec
        self.device = device
        self.fingerprint = codec.fingerprint

    @classmethod
    def load(cls, model: str | Path | None, device: str = "auto") -> Reconstructor:
        """Load a codec folder, or the codec of a language model's folder. Raises InputError if it is unusable."""
        from audiogen_cli.codec.model import AudioCodec

        folder, where = find_codec(model), choose_device(device)
        return cls(AudioCodec.load(folder, where), str(where))

    def __call__(self, recording: Recording) -> tuple[np.ndarray, int]:
        """The reconstruction [N] float32 of a recording, and its rate in Hz."""
        _, decoded, _ = self.passes(recording)
        return decoded, self.codec.sample_rate

    def passes(self, recording: Recording) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A recording [N] at the codec's rate, its reconstruction [N] and its codes [K, T]."""
        import torch

        wav = recording.read(self.codec.sample_rate)
        with torch.inference_mode():
            codes = self.codec.encode(torch.from_numpy(wav)[None, None].to(self.device))
            decoded = self.codec.decode(codes)[0, 0, : len(wav)]
        return wav, decoded.float().cpu().numpy(), codes[0].cpu().numpy()


@dataclass
class Losses:
    """What a codec lost of each clip of one row. metrics: those to measure."""

    sample_rate: int
    metrics: Sequence[str]
    si_snr: list[float] = field(default_factory=list)  # dB
    si_snr_aligned: list[float] = field(default_factory=list)  # dB, at the best lag
    lags: list[int] = field(default_factory=list)  # samples that the reconstruction comes late
    mel_distance: list[float] = field(default_factory=list)  # dB
    visqol: list[float] = field(default_factory=list)  # MOS-LQO

    def add(self, wav: np.ndarray, other: np.ndarray, heard: bool = True) -> None:
        """Compare two waveforms [N]. heard: by ViSQOL too, which takes seconds."""
        if "si_snr" in self.metrics:
            self.si_snr.append(signal.si_snr(wav, other))
            aligned, lag = signal.aligned_si_snr(wav, other, self.sample_rate)
            self.si_snr_aligned.append(aligned)
            self.lags.append(lag)
        if "mel_distance" in self.metrics:
            self.mel_distance.append(signal.mel_distance(wav, other, self.sample_rate))
        if "visqol" in self.metrics and heard:
            self.visqol.append(signal.visqol(wav, other, self.sample_rate))

    def score(self) -> dict[str, float | None]:
        """Means over clips; None where no clip has a value."""
        values: dict[str, float | None] = {}
        if "si_snr" in self.metrics:
            values["si_snr"] = signal.summarize_si_snr(self.si_snr).mean
            values["si_snr_aligned"] = signal.summarize_si_snr(self.si_snr_aligned).mean
        if "mel_distance" in self.metrics:
            values["mel_distance_db"] = float(np.mean(self.mel_distance)) if self.mel_distance else None
        if "visqol" in self.metrics:
            scores = [score for score in self.visqol if np.isfinite(score)]
            values["visqol"] = float(np.mean(scores)) if scores else None
        return values


def evaluate_codec(config: EvalConfig, progress: Progress) -> Findings:
    """Reconstruct a split's clips and measure the loss and the codes.

    Raises InputError if split or model are unusable, AudiogenError if no clip could be read.
    """
    metrics, warnings = _available(config)
    reconstructor = Reconstructor.load(config.model, config.device)
    codec = reconstructor.codec
    everything, skipped = load_references(config.split, config.manifests, config.reference)
    n_available = len(everything) + len(skipped)
    counts = np.zeros((codec.n_q, codec.codebook_size), np.int64)
    losses, floor = Losses(codec.sample_rate, metrics), Losses(codec.sample_rate, metrics)
    scored: list[Reference] = []
    previous = None
    references = limit_clips(everything, config.limit)
    heard = {reference.id for reference in limit_clips(references, VISQOL_CLIPS)}
    for done, reference in enumerate(references, 1):
        progress(done, len(references))
        try:
            wav, decoded, codes = reconstructor.passes(reference.recording)
        except InputError as error:
            skipped.append(Skipped(reference.id, str(error)))
            continue
        losses.add(wav, decoded, reference.id in heard)
        if previous is not None:  # each clip against the one before it: a codec that scores so keeps nothing
            floor.add(wav, np.resize(previous, len(wav)), reference.id in heard)
        counts += signal.count_codes(codes, codec.codebook_size)
        scored.append(reference)
        previous = wav
    if not scored:
        raise AudiogenError(f"none of {n_available} clips could be read; the last: {skipped[-1].reason}")

    usage = signal.code_usage(counts, codec.frame_rate)
    return Findings(
        n=len(scored),
        n_available=n_available,
        metrics={**losses.score(), **_score_codes(codec, usage, metrics)},
        baselines={OTHER_CLIP: floor.score()},
        inputs={
            "codec_fingerprint": codec.fingerprint,
            "resampler": RESAMPLER,
            "reference_set": hash_references(scored),
            "max_duration": MAX_DURATION,
        },
        details={
            "si_snr": asdict(signal.summarize_si_snr(losses.si_snr)),
            "lag": float(np.median(losses.lags)) if losses.lags else None,
            "visqol_clips": len(losses.visqol),
            "code_usage": asdict(usage),
        },
        warnings=warnings,
        skipped=skipped,
    )


def _available(config: EvalConfig) -> tuple[tuple[str, ...], list[str]]:
    """The metrics to compute, and what to say of one that is left out. Raises InputError if it was asked for."""
    metrics = config.chosen_metrics
    try:
        if "visqol" in metrics:
            signal.check_visqol()
    except InputError as error:
        if config.metrics:
            raise
        return tuple(name for name in metrics if name != "visqol"), [f"no ViSQOL: {error}"]
    return metrics, []


def _score_codes(codec: AudioCodec, usage: signal.CodeUsage, metrics: Sequence[str]) -> dict[str, float | None]:
    shape = (codec.frame_rate, codec.n_q, codec.codebook_size)
    values: dict[str, float | None] = {}
    if "bitrate" in metrics:
        values |= {"kbps": signal.kbps(*shape), "paper_kbps": signal.paper_kbps(*shape)}
    if "code_usage" in metrics:
        values |= {"entropy_kbps": usage.kbps, "codes_used": float(np.mean(usage.used))}
    return values
