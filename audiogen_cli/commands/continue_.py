"""`audiogen continue`: continues audio, with or without a text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiogen_cli.commands.terminal.options import (
    AdapterOption,
    DeviceOption,
    Dtype,
    DtypeOption,
    JsonOption,
    ModelOption,
    OutputOption,
    SeedOption,
    sampling_flags,
)

if TYPE_CHECKING:
    from audiogen_cli.lm.generation.generator import Generator


@sampling_flags(without=("layers",))
def continue_(
    audio: Annotated[Path, typer.Argument(metavar="AUDIO", help="The sound to continue; any rate, any channels.")],
    text: Annotated[str | None, typer.Argument(metavar="PROMPT", help="A description of what follows.")] = None,
    output: OutputOption = None,
    prompt_seconds: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Length of the part of AUDIO to continue. [default: all]", show_default=False
        ),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Length of the whole result. [default: 5 s more than the part to continue]",
            show_default=False,
        ),
    ] = None,
    model: ModelOption = None,
    adapter: AdapterOption = None,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = Dtype.auto,
    json_: JsonOption = False,
    **sampling: Any,
) -> None:
    """Example: audiogen continue rain.wav "thunder" -o storm.wav

    Continues a sound, with or without a text. The result is mono at the model's rate and begins with AUDIO at that
    rate, sample for sample. Prints its path, or with --json all settings and measurements.

    \b
    audiogen continue dog.wav --prompt-seconds 1 --duration 4 -o more.wav
    """
    from audiogen_cli.commands.terminal.announce import announce, plan_computing, plan_generation
    from audiogen_cli.commands.terminal.rendering import render
    from audiogen_cli.devices import check_device
    from audiogen_cli.errors import InputError
    from audiogen_cli.lm.adapters import find_adapters
    from audiogen_cli.lm.generation.requests import Prompt, find_language_model, override, plan_continuation
    from audiogen_cli.lm.generation.writer import RenderOptions, choose_seed, load_generator

    if output is None:
        raise InputError("say where to write: -o FILE")
    if text is not None and not text.strip():
        raise InputError("the prompt is empty; leave it out to continue without text")
    check_device(device)
    folder, config = find_language_model(model)
    adapters = find_adapters(adapter or [], folder)
    prompt = Prompt(text, choose_seed() if seed is None else seed, duration, where=str(audio))
    settings = override(config.sampling, {**sampling, "layers": 1})  # a single sound is continued
    request = plan_continuation(prompt, settings, audio, prompt_seconds, output, config.sample_rate)
    request = replace(request, seed_drawn=seed is None)

    def load() -> Generator:
        announce(plan_generation, folder, config, 1, request.duration)
        generator = load_generator(folder, device, dtype.value, adapters)
        announce(plan_computing, generator)
        return generator

    render([request], load, RenderOptions(sidecars=json_), config.sample_rate, json_)
