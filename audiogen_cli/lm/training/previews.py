"""Sounds generated during a training, so that somebody can listen to what it has learned so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.errors import AudiogenError
from audiogen_cli.lm.config import LMConfig, PreviewConfig
from audiogen_cli.lm.generation.generator import Generator
from audiogen_cli.lm.generation.requests import GenerationRequest, slug
from audiogen_cli.lm.generation.writer import write_sounds
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.text.encoders import TextEncoder


def generate_samples(
    weights: Mapping[str, Tensor],
    lm_config: LMConfig,
    codec: AudioCodec,
    encoder: TextEncoder,
    previews: PreviewConfig,
    folder: Path,
) -> list[Path]:
    """Generate the prompts with these weights, on the codec's device; return the files, `folder`/NN-words.wav.

    A prompt without a word that the encoder knows is generated without text.
    """
    lm = AudioLanguageModel(lm_config)
    lm.load_state_dict(dict(weights))
    generator = Generator(lm.to(next(codec.parameters()).device), codec, encoder)
    requests = [
        GenerationRequest(
            prompt if generator.knows(prompt) else None,
            number,
            previews.duration,
            replace(lm_config.sampling, candidates=1, layers=1),
            output=folder / f"{number + 1:02d}-{slug(prompt)}.wav",
        )
        for number, prompt in enumerate(previews.prompts)
    ]
    for rendered in write_sounds(generator, requests):
        if rendered.failure:
            raise AudiogenError(rendered.failure)
    return [request.output for request in requests]
