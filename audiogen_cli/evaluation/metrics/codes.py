"""The cost of a codec's codes: bitrates and the use of its codebooks (paper Table 2)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from audiogen_cli.evaluation.metrics.base import CodecMetric, CodeUsage


class Bitrate(CodecMetric):
    """The nominal bitrate, in kbit/s of 1000 bit/s and as Table 2 prints it: 5.37, 4.88 and 4.39 are units of 1024."""

    name = "bitrate"

    def judge_codes(self, bits_per_second: float, usage: CodeUsage) -> Mapping[str, float]:
        """Return both units."""
        return {"kbps": bits_per_second / 1000, "paper_kbps": bits_per_second / 1024}


class CodebookUse(CodecMetric):
    """The bitrate that the codes' entropy implies, and the share of codes that occur."""

    name = "code_usage"

    def judge_codes(self, bits_per_second: float, usage: CodeUsage) -> Mapping[str, float]:
        """Return kbit/s, and the mean share over streams."""
        return {"entropy_kbps": usage.kbps, "codes_used": float(np.mean(usage.used))}


def bitrate(frame_rate: float, n_q: int, codebook_size: int) -> float:
    """Compute the nominal bits per second: frames/s × streams × log2(codebook)."""
    return frame_rate * n_q * math.log2(codebook_size)


def count_codes(codes: np.ndarray, codebook_size: int) -> np.ndarray:
    """Count each code in each stream: codes [K, T] → [K, codebook_size]; counts of clips add up."""
    return np.stack([np.bincount(stream, minlength=codebook_size) for stream in codes])


def code_usage(counts: np.ndarray, frame_rate: float) -> CodeUsage:
    """Compute entropy and use from counts [K, V]. Raises ValueError if a stream has no codes."""
    totals = counts.sum(1, keepdims=True)
    if not totals.all():
        raise ValueError("no codes were counted")
    shares = counts / totals
    logs = np.log2(shares, where=shares > 0, out=np.zeros_like(shares))
    entropies = np.abs((shares * logs).sum(1))  # abs: -0.0 for a single code
    return CodeUsage(
        entropy_bits=tuple(entropies.tolist()),
        perplexity=tuple((2**entropies).tolist()),
        used=tuple((counts > 0).mean(1).tolist()),
        kbps=float(frame_rate * entropies.sum() / 1000),
    )
