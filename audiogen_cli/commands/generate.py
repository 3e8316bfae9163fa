"""`audiogen generate`: text → audio."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiogen_cli.commands.options import (
    BatchSizeOption,
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

if TYPE_CHECKING:
    from audiogen_cli.data.prompts import Prompt


def generate(
    texts: Annotated[list[str] | None, typer.Argument(metavar="PROMPT", help="What to hear.")] = None,
    output: OutputOption = None,
    out_dir: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write each sound there, and what made it as .json; replaces namesakes."),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Prompts from a .txt, .csv or .jsonl file, - for stdin; columns prompt, and if wanted seed, duration,"
            " guidance, top_p, top_k, temperature, name.",
        ),
    ] = None,
    model: ModelOption = None,
    duration: Annotated[float, typer.Option(metavar="SECONDS", help="Length of each sound.")] = 5.0,
    samples: Annotated[
        int,
        typer.Option(
            "-n", "--samples", metavar="N", min=1, help="Sounds for each prompt; the i-th uses seed + i, from 0."
        ),
    ] = 1,
    guidance: GuidanceOption = None,
    top_p: TopPOption = None,
    top_k: TopKOption = None,
    temperature: TemperatureOption = None,
    seed: SeedOption = None,
    batch_size: BatchSizeOption = None,
    unconditional: Annotated[bool, typer.Option("--unconditional", help="Without any text.")] = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = Dtype.auto,
    json_: JsonOption = False,
) -> None:
    """Example: audiogen generate "a dog barks" -o dog.wav

    Generates sound from text. Prints the path of each file, in the order of the prompts, or with --json what made it
    and how it came out, one object a line.

    \b
    audiogen generate "a dog barks" "rain on a roof" -n 4 --out-dir out
    audiogen generate --prompts prompts.csv --out-dir out --json | jq -r .path
    accelerate launch -m audiogen_cli generate --prompts prompts.csv --out-dir out
    """
    from audiogen_cli.commands.rendering import run
    from audiogen_cli.errors import InputError
    from audiogen_cli.lm.jobs import Defaults, Settings, check_device, check_texts, find_language_model, plan
    from audiogen_cli.lm.render import choose_seed

    if (output is None) == (out_dir is None):
        raise InputError("say where to write: either -o FILE or --out-dir FOLDER")
    chosen = _prompts(texts or [], prompts, unconditional)
    first_seed = choose_seed() if seed is None else seed
    settings = Settings(guidance, top_p, top_k, temperature)
    jobs = plan(chosen, Defaults(first_seed, duration, settings), samples, output, out_dir)
    check_device(device)
    folder, config = find_language_model(model)
    check_texts(jobs, config)
    drawn = first_seed if seed is None and any(prompt.seed is None for prompt in chosen) else None
    run(jobs, folder, device, dtype.value, batch_size, json_, json_ or out_dir is not None, drawn)


def _prompts(texts: list[str], source: Path | None, unconditional: bool) -> list[Prompt]:
    from audiogen_cli.data.prompts import Prompt, read_prompts
    from audiogen_cli.errors import InputError

    if (bool(texts), source is not None, unconditional).count(True) != 1:
        raise InputError('say what to generate: either prompts, as in "a dog barks", or --prompts, or --unconditional')
    if source is not None:
        return read_prompts(source)
    if unconditional:
        return [Prompt(None)]
    if not all(text.strip() for text in texts):
        raise InputError("a prompt is empty; describe a sound, or use --unconditional for sound without text")
    return [Prompt(text.strip(), where=f"prompt '{text.strip()}'") for text in texts]
