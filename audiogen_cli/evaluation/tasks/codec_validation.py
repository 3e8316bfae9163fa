"""The validation of a codec in training: the loss, the use of the codes, and the causes of what goes wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.codec.quantizer import VectorQuantizer
from audiogen_cli.codec.train import ValidationReport
from audiogen_cli.data.audio import write_audio
from audiogen_cli.data.loudness import LOST_OUTPUT_DB, NO_SIGNAL
from audiogen_cli.data.manifest import Clip
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.audio_sources import Reconstructor, Recording
from audiogen_cli.evaluation.metrics.base import CodeUsage
from audiogen_cli.evaluation.metrics.codes import bitrate, code_usage, count_codes
from audiogen_cli.evaluation.metrics.reconstruction import ReconstructionScores
from audiogen_cli.evaluation.metrics.registry import CODEC

SAVED_CLIPS = 4  # reconstructions to listen to
SLOW_CLIPS = 4  # clips for ViSQOL, which takes seconds each

# ours: thresholds between a weak codec and a broken one.
COLLAPSED_USAGE = 0.5  # share of a codebook that occurs at all
ENOUGH_CODES = 10  # codes seen per code of the codebook, before usage means anything
POINT = 0.02  # spread of a codebook over its vectors' length: below it the latents are one point
CLOSE = 0.3  # share of the latents' variance that Q loses: below it few codes suffice for them
SHIFT_GAIN_DB = 1.0  # gain of SI-SNR by alignment: above it the output counts as shifted


def validate_codec(codec: AudioCodec, clips: Sequence[Clip], folder: Path) -> ValidationReport:
    """Reconstruct clips; write a few pairs into `folder` as WAV: `<clip>.wav` beside `<clip>-original.wav`.

    The metrics: SI-SNR plain and at the best lag (dB), mel distance (dB), the output's level relative to the original
    (dB), ViSQOL of the first clips if it is installed, nominal and entropy bitrate (kbit/s), usage and perplexity per
    stream.
    """
    if not codec.quantizer.started:
        learning, seen = codec.quantizer.learning, int(codec.quantizer.passes)
        wanted = f"{learning.kmeans_vectors:g} vectors per code and quantizer.start_step = {learning.start_step}"
        return ValidationReport({}, [f"the codebooks have not started after {seen} steps: k-means wants {wanted}"])
    reconstructor = Reconstructor(codec, str(next(codec.parameters()).device))
    scores = ReconstructionScores([CODEC[name] for name in _metrics()], codec.sample_rate)
    counts, levels = np.zeros((codec.n_q, codec.codebook_size), np.int64), []
    unreadable: dict[str, str] = {}
    for i, clip in enumerate(clips):
        try:
            wav, decoded, codes = reconstructor.reconstruct(Recording(clip.audio_path, clip.start, clip.duration))
        except InputError as error:
            unreadable[clip.id] = str(error)
            continue
        scores.add(wav, decoded, slow=i < SLOW_CLIPS)
        levels.append(_relative_level(wav, decoded))
        counts += count_codes(codes, codec.codebook_size)
        if i < SAVED_CLIPS:
            name = (
                clip.id.replace("/", "_").encode()[-200:].decode(errors="ignore")
            )  # of a path, more than a name holds
            write_audio(folder / f"{name}.wav", decoded, codec.sample_rate)
            write_audio(folder / f"{name}-original.wav", wav, codec.sample_rate)

    if not levels:
        return ValidationReport({}, unreadable=unreadable)
    usage = code_usage(counts, codec.frame_rate)
    level = float(np.nanmedian(levels)) if np.isfinite(levels).any() else -math.inf
    metrics = {name: value for name, value in scores.means().items() if value is not None}
    if math.isfinite(level):
        metrics["level_db"] = level
    metrics["kbps"] = bitrate(codec.frame_rate, codec.n_q, codec.codebook_size) / 1000
    metrics["entropy_kbps"] = usage.kbps
    for k in range(codec.n_q):
        metrics |= {f"usage_{k}": usage.used[k], f"perplexity_{k}": usage.perplexity[k]}
    enough = counts[0].sum() >= ENOUGH_CODES * codec.codebook_size
    collapsed = [k for k in range(codec.n_q) if enough and usage.used[k] < COLLAPSED_USAGE]
    warnings = [_explain_collapse(codec, k, usage.used[k], wav) for k in collapsed]
    warnings += _explain_output(scores.lag or 0, level, metrics, usage)
    return ValidationReport(metrics, warnings, unreadable)


def _metrics() -> list[str]:
    try:
        CODEC["visqol"].check()
    except InputError:
        return ["si_snr", "mel_distance"]
    return ["si_snr", "mel_distance", "visqol"]


def _relative_level(wav: np.ndarray, decoded: np.ndarray) -> float:
    """Compute the level of a reconstruction relative to its original in dB; NaN for a silent original."""
    before, after = (float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) for x in (wav, decoded))
    return 20 * math.log10(max(after, 1e-10) / before) if before > NO_SIGNAL else math.nan


def _explain_collapse(codec: AudioCodec, k: int, used: float, wav: np.ndarray) -> str:
    """Tell why stream k uses so few codes, from the codes' use in training and the latents of wav [N]."""
    stream = codec.quantizer.streams[k]
    assert isinstance(stream, VectorQuantizer)
    found, learning = f"stream {k} uses {used:.0%} of its codes", codec.quantizer.learning
    share = (stream.cluster_size / stream.cluster_size.sum()).clamp(min=1e-12)
    in_training = float((-share * share.log()).sum().exp()) / codec.codebook_size
    spread, length = float(stream.codebook.std(0).norm()), float(stream.codebook.norm(dim=1).mean())
    if not math.isfinite(spread) or spread < POINT * length or _quantization_loss(codec, wav) < CLOSE:
        return f"{found}: the latents hardly differ from sound to sound; lower losses.commitment or lr"
    if in_training > COLLAPSED_USAGE:
        return f"{found}, but in training {in_training:.0%}: validation clips are unlike the training clips"
    if learning.decay == 1:
        return f"{found}: codes stay where k-means put them; lower quantizer.decay from 1"
    if learning.dead_below <= 0:
        return f"{found}: dead codes are not revived; raise quantizer.dead_below from {learning.dead_below:g}"
    return f"{found}: latents run away from their codes; raise losses.commitment, lower lr or quantizer.decay"


@torch.no_grad()
def _quantization_loss(codec: AudioCodec, wav: np.ndarray) -> float:
    """Compute the share of the variance of wav's latents that Q loses."""
    device = next(codec.parameters()).device
    latent = codec.encoder(torch.from_numpy(wav)[None, None].to(device)).float()
    quantized = codec.quantizer.decode(codec.quantizer.encode(latent))
    return float((latent - quantized).square().mean() / latent.var(2).mean().clamp(min=1e-20))


def _explain_output(lag: float, level: float, metrics: dict[str, float], usage: CodeUsage) -> list[str]:
    """Tell why the output is silent or shifted by `lag` samples."""
    warnings = []
    if level < LOST_OUTPUT_DB:
        same = max(usage.perplexity) < 2
        cause = "all sounds get the same code" if same else "the decoder gives nothing for codes that differ"
        mend = "see the codebooks" if same else "raise losses.mel and losses.time beside the others, or lower lr"
        warnings.append(f"the output is silent, {level:.0f} dB beside its original: {cause}; {mend}")
    aligned = metrics.get("si_snr_aligned", 0.0)
    gain = aligned - metrics.get("si_snr", 0.0)
    if lag and gain > SHIFT_GAIN_DB and aligned > 0:  # below, no shift brings the original back: it has other phases
        late = f"{abs(lag):g} samples {'late' if lag > 0 else 'early'}"
        warnings.append(f"the output is {late}: the networks' padding is wrong (SI-SNR {gain:+.1f} dB aligned)")
    return warnings
