"""`audiogen generate`: generates audio from text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiogen_cli.commands.terminal import options

if TYPE_CHECKING:
    from audiogen_cli.lm.generation.requests import Prompt


@options.sampling_flags()
@options.delivery_flags
def generate(
    texts: Annotated[list[str] | None, typer.Argument(metavar="PROMPT", help="A description of the sound.")] = None,
    output: options.OutputOption = None,
    out_dir: options.OutDirOption = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Read prompts from a .txt, .csv or .jsonl file, or from stdin (-). Columns: prompt, and optionally"
            " name, seed, duration and every sampling flag, as in top_p.",
        ),
    ] = None,
    model: options.ModelOption = None,
    adapter: options.AdapterOption = None,
    duration: Annotated[
        float,
        typer.Option(metavar="SECONDS", parser=options.parse_seconds, help="Length of each sound; also as 30s or 2m."),
    ] = 5.0,
    samples: options.SamplesOption = 1,
    seed: options.SeedOption = None,
    batch_size: options.BatchSizeOption = None,
    stream: options.StreamOption = False,
    delivery: Any = None,
    keep_candidates: options.KeepCandidatesOption = False,
    overwrite: options.OverwriteOption = False,
    unconditional: Annotated[bool, typer.Option("--unconditional", help="Generate without a prompt.")] = False,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = options.Dtype.auto,
    json_: options.JsonOption = False,
    **sampling: Any,
) -> None:
    """Example: audiogen generate "a dog barks" -o dog.wav

    Generates sound from text. Prints the path of each file, in the order of the prompts; with --json all settings and
    measurements, one object a line.

    \b
    audiogen generate "a dog barks" "rain on a roof" -n 4 --out-dir out
    audiogen generate --prompts prompts.csv --out-dir out --json | jq -r .path
    audiogen generate "a dog barks@0-2, rain@1-5" -o walk.wav
    audiogen generate "wind" --loop --duration 20 -o ambience.wav
    audiogen generate "rain" --duration 60 --stream -o - | aplay -f S16_LE -r 16000
    accelerate launch -m audiogen_cli generate --prompts prompts.csv --out-dir out
    """
    from audiogen_cli.commands.terminal.rendering import ModelChoice, check_stream, render_with
    from audiogen_cli.lm.generation.requests import plan_requests

    options.check_place(output, out_dir)
    chosen = _prompts(texts or [], prompts, unconditional)
    check_stream(stream, output, delivery, keep_candidates, json_, {**sampling, **chosen[0].overrides})
    chosen_model = ModelChoice.find(model, adapter, device, dtype.value)
    defaults = chosen_model.defaults(seed, duration, sampling)
    requests = plan_requests(chosen, defaults, samples, output, out_dir)
    render_with(chosen_model, requests, delivery, json_, out_dir, batch_size, keep_candidates, stream, overwrite)


def _prompts(texts: list[str], source: Path | None, unconditional: bool) -> list[Prompt]:
    from audiogen_cli.errors import InputError
    from audiogen_cli.lm.generation.requests import Prompt

    if (bool(texts), source is not None, unconditional).count(True) != 1:
        raise InputError('say what to generate: either prompts, as in "a dog barks", or --prompts, or --unconditional')
    if source is not None:
        from audiogen_cli.lm.generation.prompts import read_prompts

        return read_prompts(source)
    if unconditional:
        return [Prompt(None)]
    if not all(text.strip() for text in texts):
        raise InputError("a prompt is empty; describe a sound, or use --unconditional for sound without text")
    return [Prompt(text.strip(), where=f"prompt '{text.strip()}'") for text in texts]
