"""`audiogen tokenize`: manifests + codec → token shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audiogen_cli.commands.options import JsonOption

FAILURES_SHOWN = 5


def tokenize(
    codec: Annotated[
        str | None,
        typer.Option(help="Codec: model folder, run or checkpoint; of a language model's folder, the codec in it."),
    ] = None,
    manifests: Annotated[Path, typer.Option(help="Manifest file or folder of manifests.")] = Path("data/manifests"),
    datasets: Annotated[str, typer.Option(help="Only these datasets, comma-separated. [default: all]")] = "",
    splits: Annotated[str, typer.Option(help="Only these of train, val and test. [default: all]")] = "",
    out: Annotated[Path, typer.Option(help="Folder for the shards; finished shards in it are kept.")] = Path(
        "data/tokens"
    ),
    mix: Annotated[int, typer.Option(min=0, help="Mixed copies per training clip (paper sec. 4.1).")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips encoded at once.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Of the mixed copies.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Example: audiogen tokenize --codec runs/codec --datasets esc50 --mix 2

    Turns clips into codes, in shards a language model trains on; run again to resume.
    """
    import json

    from accelerate import PartialState

    from audiogen_cli.codec.model import AudioCodec
    from audiogen_cli.codec.tokenize import tokenize as run
    from audiogen_cli.commands.progress import progress_bar
    from audiogen_cli.data.manifest import load_manifests
    from audiogen_cli.errors import AudiogenError
    from audiogen_cli.interop.model_folder import find_model

    clips = load_manifests(manifests, _names(datasets), _names(splits))
    folder = find_model(codec)
    state = PartialState(cpu=device == "cpu")
    where = state.device if device == "auto" else device
    model = AudioCodec.load(folder / "codec" if (folder / "codec").is_dir() else folder, where)
    with progress_bar("tokenizing") as progress:
        result = run(clips, model, out, mix, batch_size, seed, progress, state)
    if not state.is_main_process:
        return
    counts = result.meta.counts
    document = {"out": str(out), "codec": result.meta.codec_fingerprint, **counts, "failed": len(result.failed)}
    typer.echo(json.dumps(document) if as_json else out)
    typer.echo(f"{counts['rows']} rows in {counts['shards']} shards ({result.kept} were there already)", err=True)
    for failure in result.failed[:FAILURES_SHOWN]:
        typer.echo(f"left out: {failure['id']}: {failure['reason']}", err=True)
    if result.failed:
        raise AudiogenError(f"{len(result.failed)} rows could not be read and are left out")
    typer.echo(f"next: audiogen train-lm --tokens {out}", err=True)


def _names(text: str) -> list[str] | None:
    return [name.strip() for name in text.split(",") if name.strip()] or None
