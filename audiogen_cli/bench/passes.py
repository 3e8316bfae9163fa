"""Speed of the diffusion decoder: whole sounds in a number of passes, with random weights and guidance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from audiogen_cli.bench.decode import TEXT_LENGTH, Setup
from audiogen_cli.bench.timing import time_in_turn
from audiogen_cli.lm.decoder import find_decoder
from audiogen_cli.lm.decoding.requests import DecodingRequest
from audiogen_cli.lm.model import random_text


def measure_passes(setup: Setup, device: torch.device) -> dict[str, Any]:
    """Measure the speeds of `audiogen bench lm` for a diffusion model, where a step is a pass over the whole window.

    tokens_per_s counts final codes of every stream and sample; real_time_factor: seconds of computing per second of
    sound, of all samples together. What a step of the other decoder reads, and its peer, have no counterpart: None.
    """
    config = setup.config
    torch.manual_seed(0)
    decoder = find_decoder(config)
    engine = decoder.build_engine(decoder.build(config).to(device).requires_grad_(False), setup.dtype)
    sampling = replace(config.sampling, passes=min(setup.steps, config.diffusion.steps))
    text = random_text(config, TEXT_LENGTH)
    requests = [DecodingRequest(text, config.max_frames, seed, sampling) for seed in range(setup.batch_size)]

    def run() -> None:
        for _ in engine.generate(requests, setup.batch_size):
            pass

    run()
    seconds = time_in_turn({"ours": run}, setup.repeats, device).median("ours")
    return {
        "size": "model",
        "streams": config.n_q,
        "batch_size": setup.batch_size,
        "steps": sampling.passes,
        "tokens_per_s": setup.batch_size * config.n_q * config.max_frames / seconds,
        "steps_per_s": sampling.passes / seconds,
        "real_time_factor": seconds * config.frame_rate / config.max_frames / setup.batch_size,
        **dict.fromkeys(("bytes_per_step", "bandwidth_gb_s", "floor_ratio", "peer_ratio")),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "dtype": engine.dtype,
        "repeats": setup.repeats,
    }
