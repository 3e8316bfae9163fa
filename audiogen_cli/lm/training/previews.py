"""Sounds generated during a training, so that somebody can listen to what it has learnt so far."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.data.audio import write_audio
from audiogen_cli.lm.config import LMConfig, PreviewConfig
from audiogen_cli.lm.decoding.engine import Engine
from audiogen_cli.lm.decoding.requests import Job
from audiogen_cli.lm.generation.requests import model_text
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.text.encoders import TextEncoder

SLUG_LENGTH = 40


@torch.inference_mode()
def generate_samples(
    weights: Mapping[str, Tensor],
    lm_config: LMConfig,
    codec: AudioCodec,
    encoder: TextEncoder,
    previews: PreviewConfig,
    folder: Path,
) -> list[Path]:
    """Generate the prompts with these weights, on the codec's device; returns the files, `folder`/NN-words.wav.

    A prompt without a word that the encoder knows is generated without text.
    """
    lm = AudioLanguageModel(lm_config)
    lm.load_state_dict(dict(weights))
    device = next(codec.parameters()).device
    n_samples = round(previews.duration * codec.sample_rate)
    n_frames = math.ceil(n_samples / codec.hop_length)
    jobs = []
    for number, prompt in enumerate(previews.prompts):
        text = encoder.encode([model_text(prompt, lm_config)])[0]
        jobs.append(Job(text if len(text) else None, n_frames, number, lm_config.sampling))
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:02d}-{_slug(prompt)}.wav" for number, prompt in enumerate(previews.prompts, 1)]
    for index, codes in Engine(lm.to(device)).generate(jobs):
        wav = codec.decode(codes[None].to(device))[0, 0, :n_samples].float().cpu().numpy()
        write_audio(paths[index], wav, codec.sample_rate)
    return paths


def _slug(prompt: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:SLUG_LENGTH].strip("-") or "sound"
