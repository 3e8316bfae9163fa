"""The task `codec`: what a codec costs and what it loses over real clips (paper Table 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.evaluation import signal
from audiogen_cli.evaluation.classifiers.base import RESAMPLER
from audiogen_cli.evaluation.clips import (
    MAX_DURATION,
    Recording,
    Reference,
    hash_references,
    limit_clips,
    load_references,
)
from audiogen_cli.evaluation.config import EvalConfig, Findings, Progress, Skipped
from audiogen_cli.interop.model_folder import find_model

if TYPE_CHECKING:
    from audiogen_cli.codec.model import AudioCodec

OTHER_CLIP = "another clip"


class Reconstructor:
    """Takes recordings through a codec and back."""

    def __init__(self, codec: AudioCodec, device: str) -> None:
        self.codec = codec
        self.device = device
        self.fingerprint = codec.fingerprint

    @classmethod
    def load(cls, model: str | Path | None, device: str = "auto") -> Reconstructor:
        """Load a codec folder, or the codec of a language model's folder. Raises InputError if it is unusable."""
        import torch

        from audiogen_cli.codec.model import AudioCodec

        folder = find_model(model)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        inside = folder / "codec"
        return cls(AudioCodec.load(inside if inside.is_dir() else folder, device), device)

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
    """SI-SNR (dB) and mel distance (dB) of each clip of one row."""

    sample_rate: int
    si_snr: list[float] = field(default_factory=list)
    mel_distance: list[float] = field(default_factory=list)

    def add(self, wav: np.ndarray, other: np.ndarray) -> None:
        """Compare two waveforms [N]."""
        self.si_snr.append(signal.si_snr(wav, other))
        self.mel_distance.append(signal.mel_distance(wav, other, self.sample_rate))

    def score(self, metrics: Sequence[str]) -> dict[str, float | None]:
        """Means over clips of the chosen metrics."""
        values: dict[str, float | None] = {}
        if "si_snr" in metrics:
            values["si_snr"] = signal.summarize_si_snr(self.si_snr).mean
        if "mel_distance" in metrics and self.mel_distance:
            values["mel_distance_db"] = float(np.mean(self.mel_distance))
        return values


def evaluate_codec(config: EvalConfig, progress: Progress) -> Findings:
    """Reconstruct a split's clips and measure the loss and the codes.

    Raises InputError if split or model are unusable, AudiogenError if no clip could be read.
    """
    reconstructor = Reconstructor.load(config.model, config.device)
    codec, metrics = reconstructor.codec, config.chosen_metrics
    everything, skipped = load_references(config.split, config.manifests, config.reference)
    n_available = len(everything) + len(skipped)
    counts = np.zeros((codec.n_q, codec.codebook_size), np.int64)
    losses, floor = Losses(codec.sample_rate), Losses(codec.sample_rate)
    scored: list[Reference] = []
    previous = None
    references = limit_clips(everything, config.limit)
    for done, reference in enumerate(references, 1):
        progress(done, len(references))
        try:
            wav, decoded, codes = reconstructor.passes(reference.recording)
        except InputError as error:
            skipped.append(Skipped(reference.id, str(error)))
            continue
        losses.add(wav, decoded)
        if previous is not None:  # each clip against the one before it: a codec that scores so keeps nothing
            floor.add(wav, np.resize(previous, len(wav)))
        counts += signal.count_codes(codes, codec.codebook_size)
        scored.append(reference)
        previous = wav
    if not scored:
        raise AudiogenError(f"none of {n_available} clips could be read; the last: {skipped[-1].reason}")

    usage = signal.code_usage(counts, codec.frame_rate)
    return Findings(
        n=len(scored),
        n_available=n_available,
        metrics={**losses.score(metrics), **_score_codes(codec, usage, metrics)},
        baselines={OTHER_CLIP: floor.score(metrics)},
        inputs={
            "codec_fingerprint": codec.fingerprint,
            "resampler": RESAMPLER,
            "reference_set": hash_references(scored),
            "max_duration": MAX_DURATION,
        },
        details={"si_snr": asdict(signal.summarize_si_snr(losses.si_snr)), "code_usage": asdict(usage)},
        skipped=skipped,
    )


def _score_codes(codec: AudioCodec, usage: signal.CodeUsage, metrics: Sequence[str]) -> dict[str, float | None]:
    shape = (codec.frame_rate, codec.n_q, codec.codebook_size)
    values: dict[str, float | None] = {}
    if "bitrate" in metrics:
        values |= {"kbps": signal.kbps(*shape), "paper_kbps": signal.paper_kbps(*shape)}
    if "code_usage" in metrics:
        values |= {"entropy_kbps": usage.kbps, "codes_used": float(np.mean(usage.used))}
    return values
