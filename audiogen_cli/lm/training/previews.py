"""Sounds generated during a training, so that somebody can listen to what the model has learned so far."""

from __future__ import annotations

import math
import re
from pathlib import Path

import torch
from accelerate import Accelerator

from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.data.audio import write_audio
from audiogen_cli.lm.config import PreviewConfig
from audiogen_cli.lm.decoding.engine import Engine
from audiogen_cli.lm.decoding.requests import Job
from audiogen_cli.lm.generation.requests import model_text
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.text.encoders import TextEncoder
from audiogen_cli.lm.training.state import State, best_weights

SLUG_LENGTH = 40


def write_previews(
    state: State, previews: PreviewConfig, codec: Path, encoder: TextEncoder, out: Path, accelerator: Accelerator
) -> None:
    """Generate the recipe's prompts into `<out>/samples/step-NNNNNN/NN-words.wav`.

    Every process must call it; the main one works. A prompt without a word that the encoder knows has no text.
    """
    weights = best_weights(state, accelerator.is_main_process)
    if not accelerator.is_main_process:
        return
    lm = AudioLanguageModel(state.model.config)
    lm.load_state_dict(weights)
    decoder = AudioCodec.load(codec, accelerator.device)
    n_samples = round(previews.duration * decoder.sample_rate)
    jobs = []
    for number, prompt in enumerate(previews.prompts):
        text = encoder.encode([model_text(prompt, lm.config)])[0]
        n_frames = math.ceil(n_samples / decoder.hop_length)
        jobs.append(Job(text if len(text) else None, n_frames, number, lm.config.sampling))
    folder = out / "samples" / f"step-{state.step:06d}"
    folder.mkdir(parents=True, exist_ok=True)
    with torch.inference_mode():
        for index, codes in Engine(lm.to(accelerator.device)).generate(jobs):
            wav = decoder.decode(codes[None].to(accelerator.device))[0, 0, :n_samples].float().cpu().numpy()
            write_audio(folder / f"{index + 1:02d}-{_slug(previews.prompts[index])}.wav", wav, decoder.sample_rate)


def _slug(prompt: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:SLUG_LENGTH].strip("-") or "sound"
