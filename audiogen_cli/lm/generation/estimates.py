"""What generating takes, before it begins: seconds by a short trial, memory by counting."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from audiogen_cli.devices import used_memory
from audiogen_cli.errors import format_seconds
from audiogen_cli.lm.decoding.requests import DecodingRequest
from audiogen_cli.lm.generation.generator import Generator
from audiogen_cli.lm.generation.requests import GenerationRequest
from audiogen_cli.lm.sampling_config import Sampling

LONG_WAIT = 10.0  # seconds of computing from which on an estimate is worth showing
TIMED_FRAMES = 24  # decoded, and read, to estimate the time of longer sounds


def describe_work(
    generator: Generator, requests: Sequence[GenerationRequest], durations: Sequence[float], batch_size: int | None
) -> str:
    """Say in a line what requests take; "" if they do not take long. durations: of all that is drawn for them."""
    seconds, n_bytes = estimate(generator, durations, batch_size, requests[0].sampling)
    if seconds < LONG_WAIT:
        return ""
    total = format_seconds(sum(request.new_seconds(generator.sample_rate) for request in requests))
    work = f"about {format_seconds(seconds)} of computing on {generator.device}"
    return f"{total} of sound, {work}, at least {n_bytes / 1e9:.2g} GB of memory"


def estimate(
    generator: Generator, durations: Sequence[float], batch_size: int | None = None, sampling: Sampling | None = None
) -> tuple[float, int]:
    """Estimate what sounds of these durations take: the seconds, sliding windows included, and the bytes of memory.

    Times the first steps of as many sounds as are decoded at once and, where windows slide, the reading of frames.
    sampling: theirs; None: the model's own.
    """
    engine, config = generator.engine, generator.config
    sampling = sampling or generator.sampling
    together = min(batch_size or engine.default_batch, max(1, len(durations)))
    vectors = torch.zeros(1, config.text_width)  # any: they make the sound a guided one
    timed = DecodingRequest(vectors, TIMED_FRAMES, 0, sampling, negative=vectors if sampling.negative.strip() else None)
    if engine.exact:
        together = min(together, max(1, engine.most_rows // len(timed.texts)))
    frames = [math.ceil(each * config.frame_rate) for each in durations]
    counts = [engine.count_frames(0, each) for each in frames]
    per_step = _time(generator, timed, together) / TIMED_FRAMES
    per_read = 0.0
    if any(n_read for _, n_read in counts):
        nothing = torch.zeros(config.n_q, TIMED_FRAMES, dtype=torch.long)
        prompted = replace(timed, n_frames=TIMED_FRAMES + 1, prompt=nothing)
        per_read = max(0.0, _time(generator, prompted, together) - per_step) / TIMED_FRAMES
    seconds = [per_step * n_steps + per_read * n_read for n_steps, n_read in counts]
    longest = replace(timed, n_frames=max(frames, default=0))
    n_bytes = used_memory(generator.device) + engine.count_bytes(longest, together)
    return max(sum(seconds) / together, max(seconds, default=0.0)), n_bytes


def _time(generator: Generator, request: DecodingRequest, n: int) -> float:
    """Measure the seconds of decoding a request n times side by side."""
    for _ in range(1 if generator.engine.exact else 2):  # a GPU's first step compiles, the second is recorded
        begun = time.perf_counter()
        for _ in generator.engine.generate([request] * n, n):
            pass
    return time.perf_counter() - begun
