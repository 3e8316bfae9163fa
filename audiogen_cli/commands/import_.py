"""`audiogen import`: converts a public AudioGen checkpoint to a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A folder with state_dict.bin and compression_state_dict.bin, or a name on the hub."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="The model folder to make; must be new.")],
    text_encoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH",
            help="The T5 to use, by hub name or local folder. [default: the one named in the file]",
            show_default=False,
        ),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER[=STRENGTH]",
            help="SOURCE is a model folder; make one that has this adapter merged in (repeatable).",
        ),
    ] = None,
) -> None:
    """Example: audiogen import facebook/audiogen-medium --out models/medium

    Converts a public AudioGen checkpoint (audiocraft's format) to a model folder. Prints the folder. The text encoder
    is not part of it: generating loads it by name, or from a folder given here.

    \b
    audiogen import downloads/audiogen-medium --text-encoder models/t5-large --out models/medium
    audiogen generate "a dog barks" --model models/medium -o dog.wav
    audiogen import models/medium --adapter runs/lora=0.8 --out models/mine
    """
    from audiogen_cli.errors import InputError
    from audiogen_cli.interop.import_audiocraft import import_checkpoint, merge_adapters
    from audiogen_cli.lock import hold_folder
    from audiogen_cli.model_folder import license_line, read_license

    if adapter and text_encoder:
        raise InputError("--text-encoder is for a checkpoint to convert: with --adapter the model keeps its own")
    if not out.is_file():
        hold_folder(out, deep=False)
    if adapter:
        from audiogen_cli.lm.generation.requests import find_language_model

        merge_adapters(find_language_model(source)[0], adapter, out)
    else:
        import_checkpoint(source, out, text_encoder)
    typer.echo(f"weights {out.name}: {license_line(read_license(out))}", err=True)
    typer.echo(f'next: audiogen generate "a dog barks" --model {out} -o dog.wav', err=True)
    typer.echo(str(out))
