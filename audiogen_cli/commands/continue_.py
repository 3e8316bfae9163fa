"""`audiogen continue`: continues audio, with or without a text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from audiogen_cli.commands.terminal import options


@options.sampling_flags(without=("layers", "timing", "loop"))
@options.delivery_flags
def continue_(
    audio: Annotated[Path, typer.Argument(metavar="AUDIO", help="The sound to continue; any rate, any channels.")],
    text: Annotated[str | None, typer.Argument(metavar="PROMPT", help="A description of what follows.")] = None,
    output: options.OutputOption = None,
    prompt_seconds: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            parser=options.parse_seconds,
            help="Length of the part of AUDIO to continue. [default: all]",
            show_default=False,
        ),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            parser=options.parse_seconds,
            help="Length of the whole result. [default: 5 s more than the part to continue]",
            show_default=False,
        ),
    ] = None,
    out_dir: options.OutDirOption = None,
    model: options.ModelOption = None,
    adapter: options.AdapterOption = None,
    samples: options.SamplesOption = 1,
    seed: options.SeedOption = None,
    batch_size: options.BatchSizeOption = None,
    stream: options.StreamOption = False,
    delivery: Any = None,
    keep_candidates: options.KeepCandidatesOption = False,
    overwrite: options.OverwriteOption = False,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = options.Dtype.auto,
    json_: options.JsonOption = False,
    **sampling: Any,
) -> None:
    """Example: audiogen continue rain.wav "thunder" -o storm.wav

    Continues a sound, with or without a text. The result is mono at the model's rate and begins with AUDIO at that
    rate, sample for sample, unless --rate, --normalize or --trim change it. Prints the path of each file, or with
    --json all settings and measurements.

    \b
    audiogen continue dog.wav --prompt-seconds 1 --duration 4 -o more.wav
    audiogen continue dog.wav "a dog barks" -n 4 --out-dir out
    """
    from audiogen_cli.commands.terminal.rendering import ModelChoice, check_stream, render_with
    from audiogen_cli.errors import InputError
    from audiogen_cli.lm.generation.requests import SINGLE, Prompt, check_source, continue_from, plan_requests

    options.check_place(output, out_dir)
    check_stream(stream, output, delivery, keep_candidates, json_, sampling)
    if text is not None and not text.strip():
        raise InputError("the prompt is empty; leave it out to continue without text")
    chosen = ModelChoice.find(model, adapter, device, dtype.value)
    defaults = chosen.defaults(seed, 0.0, {**sampling, **SINGLE})
    check_source(audio, output, chosen.config.sample_rate)
    defaults = continue_from(defaults, audio, prompt_seconds, chosen.config.sample_rate)
    prompt = Prompt(text and text.strip(), duration=duration, name=f"{audio.stem}-continued", where=str(audio))
    requests = plan_requests([prompt], defaults, samples, output, out_dir)
    render_with(chosen, requests, delivery, json_, out_dir, batch_size, keep_candidates, stream, overwrite)
