"""Sounds generated during a training, so that somebody can listen to what the model has learned so far."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator

from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.errors import AudiogenError
from audiogen_cli.lm.config import PreviewConfig
from audiogen_cli.lm.decoder import find_decoder
from audiogen_cli.lm.generation.generator import Generator
from audiogen_cli.lm.generation.requests import GenerationRequest, slug
from audiogen_cli.lm.generation.writer import write_sounds
from audiogen_cli.lm.text.encoders import TextEncoder
from audiogen_cli.lm.training.lora import merged_weights
from audiogen_cli.lm.training.state import State, best_weights


def write_previews(
    state: State, previews: PreviewConfig, codec: Path, encoder: TextEncoder, out: Path, accelerator: Accelerator
) -> None:
    """Generate the recipe's prompts into `<out>/samples/step-NNNNNN/NN-words.wav`.

    Every process must call it; the main one works. A prompt without a word that the encoder knows is generated
    without text. Raises AudiogenError if a file cannot be written.
    """
    with state.best() if state.base else nullcontext():
        weights = merged_weights(state.model) if state.base else best_weights(state, accelerator.is_main_process)
    if not accelerator.is_main_process:
        return
    lm = find_decoder(state.model.config).build(state.model.config)
    lm.load_state_dict(weights)
    decoder = AudioCodec.load(codec, accelerator.device)
    generator = Generator(lm.to(accelerator.device), decoder, encoder)
    folder = out / "samples" / f"step-{state.step:06d}"
    requests = [
        GenerationRequest(
            prompt if generator.knows(prompt) else None,
            number,
            previews.duration,
            replace(lm.config.sampling, candidates=1, layers=1),
            output=folder / f"{number + 1:02d}-{slug(prompt)}.wav",
        )
        for number, prompt in enumerate(previews.prompts)
    ]
    for rendered in write_sounds(generator, requests):
        if rendered.failure:
            raise AudiogenError(rendered.failure)
