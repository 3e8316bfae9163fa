"""`audiogen continue`: continues audio, with or without a text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from audiogen_cli.commands.terminal.options import (
    AdapterOption,
    BatchSizeOption,
    DeviceOption,
    Dtype,
    DtypeOption,
    JsonOption,
    KeepCandidatesOption,
    ModelOption,
    OutDirOption,
    OutputOption,
    OverwriteOption,
    SamplesOption,
    SeedOption,
    StreamOption,
    check_place,
    delivery_flags,
    parse_seconds,
    sampling_flags,
)


@sampling_flags(without=("layers", "timing", "loop"))
@delivery_flags
def continue_(
    audio: Annotated[Path, typer.Argument(metavar="AUDIO", help="The sound to continue; any rate, any channels.")],
    text: Annotated[str | None, typer.Argument(metavar="PROMPT", help="A description of what follows.")] = None,
    output: OutputOption = None,
    prompt_seconds: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            parser=parse_seconds,
            help="Length of the part of AUDIO to continue. [default: all]",
            show_default=False,
        ),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            parser=parse_seconds,
            help="Length of the whole result. [default: 5 s more than the part to continue]",
            show_default=False,
        ),
    ] = None,
    out_dir: OutDirOption = None,
    model: ModelOption = None,
    adapter: AdapterOption = None,
    samples: SamplesOption = 1,
    seed: SeedOption = None,
    batch_size: BatchSizeOption = None,
    stream: StreamOption = False,
    delivery: Any = None,
    keep_candidates: KeepCandidatesOption = False,
    overwrite: OverwriteOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = Dtype.auto,
    json_: JsonOption = False,
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
    from audiogen_cli.lm.generation.requests import Prompt, continue_from, plan_requests

    check_place(output, out_dir)
    check_stream(stream, output, delivery, keep_candidates, json_, sampling)
    if text is not None and not text.strip():
        raise InputError("the prompt is empty; leave it out to continue without text")
    chosen = ModelChoice.find(model, adapter, device, dtype.value)
    defaults = chosen.defaults(seed, 0.0, {**sampling, "layers": 1})  # a single sound is continued
    defaults = continue_from(defaults, audio, prompt_seconds, chosen.config.sample_rate)
    prompt = Prompt(text, duration=duration, name=f"{audio.stem}-continued", where=str(audio))
    requests = plan_requests([prompt], defaults, samples, output, out_dir)
    render_with(chosen, requests, delivery, json_, out_dir, batch_size, keep_candidates, stream, overwrite)
