"""`audiogen train-codec`: trains a codec on the clips of manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audiogen_cli.commands.terminal.options import (
    MaxStepsOption,
    ProcessesOption,
    SetOption,
    SettingsOption,
    split_names,
)


def train_codec(
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|NAME",
            help="Recipe: a file, or a shipped one by name. [default: the settings of codec-x32]",
            show_default=False,
        ),
    ] = None,
    manifests: Annotated[Path, typer.Option(metavar="PATH", help="Manifest file or folder of manifests.")] = Path(
        "data/manifests"
    ),
    datasets: Annotated[str, typer.Option(metavar="A,B", help="Only these datasets. [default: all]")] = "",
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Run folder; the finished model folder is written there too.")
    ] = Path("runs/codec"),
    start_from: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FOLDER",
            help="Codec (or language model, for its codec) to start from; parts that it lacks start untrained.",
        ),
    ] = None,
    set_: SetOption = None,
    max_steps: MaxStepsOption = None,
    processes: ProcessesOption = 1,
    settings: SettingsOption = False,
) -> None:
    """Example: audiogen train-codec --config recipes/codec-x32.yaml --out runs/codec-x32

    Trains a neural codec on the train split; run again to resume. Prints the model's folder. Validates on the val
    split and writes reconstructions to OUT/reconstructions.
    """
    from audiogen_cli.codec.config import CodecTrainConfig
    from audiogen_cli.data.manifest import load_manifests
    from audiogen_cli.devices import is_main_process
    from audiogen_cli.lock import hold_folder
    from audiogen_cli.training.launch import relaunch
    from audiogen_cli.training.recipe import load_recipe

    if settings:
        from audiogen_cli.commands.terminal.tables import print_settings

        return print_settings(CodecTrainConfig, "codec-x32")
    overrides = [*(set_ or []), *([f"max_steps={max_steps}"] if max_steps else [])]
    recipe = load_recipe(CodecTrainConfig, config or "codec-x32", overrides)
    clips = load_manifests(manifests, split_names(datasets) or None)
    if processes > 1:
        return relaunch(processes)
    hold_folder(out)
    from audiogen_cli.codec.train import train
    from audiogen_cli.commands.terminal.announce import announce, plan_codec_training
    from audiogen_cli.data.totals import manifest_totals
    from audiogen_cli.evaluation.tasks.codec_validation import validate_codec
    from audiogen_cli.model_folder import find_codec

    announce(plan_codec_training, recipe, manifest_totals(manifests, split_names(datasets)))
    base = start_from and find_codec(start_from)
    folder = train(recipe, clips.select("train"), clips.select("val"), out, validate_codec, base)
    if is_main_process():
        typer.echo(folder)
        typer.echo(f"next: audiogen tokenize --manifests {manifests} --codec {folder}", err=True)
