"""Several takes of one sound, and the language model's own judgement which of them fits its text best.

# ours: the paper takes what it draws. Guidance makes every step likely given the text, but a draw may still lead astray
and the rest then follows it. The model's probe tells (`lm.probe`); models without one, such as imported ones, tell by
how much likelier the whole is with the text than without. On a CPU, whose steps have room for several rows, a few
takes cost little more than one.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import torch
from torch import Tensor

from audiogen_cli.lm.decoding.requests import Job
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.probe import Probe


def takes(job: Job) -> list[Job]:
    """The job once for each candidate, with seeds that follow from its own; the first is the job itself.

    Without a text there is nothing to fit, so one.
    """
    others = range(1, 1 if job.text is None else job.sampling.candidates)
    return [job, *(replace(job, seed=derive_seed(job.seed, str(take))) for take in others)]


def fit(model: AudioLanguageModel, probe: Probe | None, codes: Tensor, text: Tensor) -> float:
    """How well codes [K, T] fit a text [L, D]; comparable among takes of one sound only."""
    return probe.fit(model, codes, text) if probe else likelihood_gain(model, codes, text)


@torch.inference_mode()
def likelihood_gain(model: AudioLanguageModel, codes: Tensor, text: Tensor) -> float:
    """log p(codes | text) - log p(codes), per frame, in nats: the mutual information of this sound and this text.

    codes: [K, T] int64; text: [L, D], the encoder's vectors. Beyond the trained window, that of consecutive windows.
    """
    weight = model.null_text
    texts = torch.stack([text, torch.zeros_like(text)]).to(weight.device, weight.dtype)
    mask = torch.tensor([[True], [False]], device=weight.device).expand(2, len(text))
    total = 0.0
    for window in codes.to(weight.device).split(model.config.max_frames, dim=1):
        both = window.expand(2, -1, -1)
        likely = model(both, texts, mask).logits.float().log_softmax(-1).gather(-1, both[..., None])
        with_text, without = likely.double().sum((1, 2, 3)).tolist()
        total += with_text - without
    return total / codes.shape[1]


def derive_seed(seed: int, part: str) -> int:
    """The seed of a part of a sound: far from the seeds next to `seed`, which other sounds have."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{part}".encode()).digest()[:6], "big")
