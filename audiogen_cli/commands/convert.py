"""`audiogen convert`: delivers existing sounds at another rate, with other channels, samples or levels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from audiogen_cli.commands.terminal.options import JsonOption, OutputOption, check_place, delivery_flags


@delivery_flags
def convert(
    sounds: Annotated[list[Path], typer.Argument(metavar="AUDIO", help="The sounds; any format, rate and channels.")],
    output: OutputOption = None,
    out_dir: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write each sound there under its own name. [default: none]")
    ] = None,
    delivery: Any = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="With --out-dir: replace files.")] = False,
    json_: JsonOption = False,
) -> None:
    """Example: audiogen convert out/*.wav --rate 48000 --channels 2 --subtype PCM_24 --out-dir delivery

    Brings existing sounds to another rate, channels, sample format, level or length. What is not asked for stays as it
    is; prompt, seed and license go along. Prints the path of each file.

    \b
    audiogen convert rain.wav --normalize -23 -o loud.wav
    audiogen convert take.flac --trim --normalize peak:-1 -o take.wav
    """
    from audiogen_cli.commands.terminal.rendering import is_held_down, to_json
    from audiogen_cli.errors import AudiogenError, InputError, printable
    from audiogen_cli.files import sweep
    from audiogen_cli.lm.generation.convert import convert as convert_file
    from audiogen_cli.lm.generation.convert import plan_outputs

    check_place(output, out_dir)
    outputs = plan_outputs(sounds, output, out_dir, delivery)
    if out_dir and not overwrite and (taken := [path for path in outputs if path.exists()]):
        raise InputError(f"{taken[0]} exists{f' and {len(taken) - 1} more' * (len(taken) > 1)}; --overwrite replaces")
    sweep(path.parent for path in outputs)
    failed = 0
    for source, path in zip(sounds, outputs, strict=True):
        try:
            record = convert_file(source, path, delivery)
        except AudiogenError as error:
            if len(sounds) == 1:
                raise
            failed += 1
            typer.echo(printable(f"failed: {error}"), err=True)
        else:
            typer.echo(to_json(record) if json_ else path)
            if is_held_down(record):
                typer.echo(f"note: {path} stays below the loudness asked for: its peak reaches -1 dBFS", err=True)
    if failed:
        raise AudiogenError(f"{failed} of {len(sounds)} sounds failed")
