"""`audiogen continue`: audio (and text) → longer audio."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audiogen_cli.commands.terminal.options import (
    CandidatesOption,
    DeviceOption,
    Dtype,
    DtypeOption,
    GuidanceOption,
    JsonOption,
    ModelOption,
    OutputOption,
    SeedOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
)


def continue_(
    audio: Annotated[Path, typer.Argument(metavar="AUDIO", help="The sound to go on from; any rate, any channels.")],
    text: Annotated[str | None, typer.Argument(metavar="PROMPT", help="What to hear next.")] = None,
    output: OutputOption = None,
    prompt_seconds: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="How much of AUDIO to keep. [default: all]", show_default=False),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Length of the whole result. [default: 5 more than are kept]", show_default=False
        ),
    ] = None,
    model: ModelOption = None,
    guidance: GuidanceOption = None,
    top_p: TopPOption = None,
    top_k: TopKOption = None,
    temperature: TemperatureOption = None,
    candidates: CandidatesOption = None,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = Dtype.auto,
    json_: JsonOption = False,
) -> None:
    """Example: audiogen continue rain.wav "thunder" -o storm.wav

    Goes on from a sound, with a text to lead it or without. The result is mono at the model's rate and begins with
    AUDIO at that rate, sample for sample. Prints its path, or with --json what made it and how it came out.

    \b
    audiogen continue dog.wav --prompt-seconds 1 --duration 4 -o more.wav
    """
    from audiogen_cli.commands.terminal.rendering import How, run
    from audiogen_cli.data.prompts import Prompt
    from audiogen_cli.devices import check_device
    from audiogen_cli.errors import InputError
    from audiogen_cli.lm.generation.requests import check_texts, find_language_model, plan_continuation
    from audiogen_cli.lm.generation.writer import choose_seed

    if output is None:
        raise InputError("say where to write: -o FILE")
    if text is not None and not text.strip():
        raise InputError("the prompt is empty; leave it out to continue without text")
    check_device(device)
    folder, config = find_language_model(model)
    chosen = choose_seed() if seed is None else seed
    settings = (guidance, top_p, top_k, temperature, candidates)
    prompt = Prompt(text, chosen, duration, *settings, layers=1, where=str(audio))  # one sound goes on
    job = plan_continuation(prompt, audio, prompt_seconds, output, config.sample_rate)
    check_texts([job], config)
    how = How(device, dtype.value, as_json=json_, sidecars=json_, drawn_seed=chosen if seed is None else None)
    run([job], folder, config, how)
