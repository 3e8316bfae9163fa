"""`audiogen train-lm`: trains a language model on token shards or manifests."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from audiogen_cli.commands.terminal.options import MaxStepsOption, ProcessesOption, SetOption, SettingsOption


class Size(str, Enum):
    """The sizes that have a recipe of their own: lm-SIZE."""

    tiny = "tiny"
    base = "base"
    large = "large"


class Tracker(str, Enum):
    """Trackers that metrics can go to, besides metrics.jsonl."""

    tensorboard = "tensorboard"
    wandb = "wandb"


def train_lm(
    size: Annotated[
        Size | None,
        typer.Option(help="Short for --config lm-SIZE. [default: base; with --from: finetune]", show_default=False),
    ] = None,
    config: Annotated[
        str | None, typer.Option(metavar="FILE|NAME", help="Recipe: a file, or a shipped one by name, as lm-large.")
    ] = None,
    streams: Annotated[
        int | None,
        typer.Option(metavar="K", help="Refuse a codec of another number of streams; the paper's have 1, 2 or 4."),
    ] = None,
    tokens: Annotated[Path, typer.Option(metavar="FOLDER", help="Token shards, made by audiogen tokenize.")] = Path(
        "data/tokens"
    ),
    manifests: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Manifests instead of shards: recordings are mixed and encoded (by --codec) while the model trains.",
        ),
    ] = None,
    codec: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="The codec that made the shards. [default: the copy beside them]", show_default=False
        ),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Language model to start from. Its shape, text encoder, window and sampling hold where the recipe says"
            " nothing else.",
        ),
    ] = None,
    lora: Annotated[
        int | None,
        typer.Option(
            metavar="RANK",
            min=1,
            max=4096,
            help="With --from: train an adapter of this rank (--config lora: of 16); the model stays as it is.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Run folder; the finished model folder is written there too. [default: runs/lm-SIZE]",
            show_default=False,
        ),
    ] = None,
    track: Annotated[
        list[Tracker] | None, typer.Option(metavar="NAME", help="Send metrics to tensorboard or wandb (repeatable).")
    ] = None,
    set_: SetOption = None,
    max_steps: MaxStepsOption = None,
    processes: ProcessesOption = 1,
    settings: SettingsOption = False,
) -> None:
    """Example: audiogen train-lm --size base --tokens data/tokens

    Trains a language model on the train split of token shards, or of manifests; run again to resume. Prints the
    model's folder.
    """
    from audiogen_cli.devices import is_main_process
    from audiogen_cli.errors import InputError
    from audiogen_cli.lm.config import TrainConfig
    from audiogen_cli.lm.generation.requests import find_language_model
    from audiogen_cli.lm.text.hub import HUB_NAMES, find_on_hub
    from audiogen_cli.lm.training.preflight import check_data, inherited_settings
    from audiogen_cli.lock import hold_folder
    from audiogen_cli.training.launch import check_trackers, relaunch
    from audiogen_cli.training.recipe import load_recipe

    if settings:
        from audiogen_cli.commands.terminal.tables import print_settings

        return print_settings(TrainConfig, "lm-base")
    if size and config:
        raise InputError("give either --size or --config")
    begin_with, base = find_language_model(start_from) if start_from else (None, None)
    name = config or (("lora" if lora else "finetune") if base and not size else f"lm-{(size or Size.base).value}")
    overrides = [*(set_ or []), *([f"max_steps={max_steps}"] if max_steps else [])]
    overrides += [f"lora.rank={lora}"] if lora else []
    recipe = load_recipe(TrainConfig, name, overrides, inherited_settings(base) if base else None)
    if recipe.lora.rank and recipe.sampling != (base and base.sampling):
        raise InputError("--lora changes weights of a model: give --from MODEL, and settings of sampling to generate")
    trackers = [tracker.value for tracker in track or []]
    check_trackers(trackers)
    folder, codec_config = check_data(tokens, manifests, codec)
    if streams not in (None, codec_config.n_q):
        raise InputError(f"the codec in {folder} makes {codec_config.n_q} streams, not {streams}: use another codec")
    if recipe.text.kind in HUB_NAMES:
        find_on_hub(recipe.text.name or HUB_NAMES[recipe.text.kind])
    if processes > 1:
        return relaunch(processes)
    from audiogen_cli.commands.terminal.announce import announce, plan_lm_training
    from audiogen_cli.data.totals import manifest_totals, shard_totals
    from audiogen_cli.lm.training.train import train

    run = out or Path("runs") / f"lm-{Path(name).stem.removeprefix('lm-')}"
    hold_folder(run)
    data = manifest_totals(manifests, splits=("train", "val")) if manifests else shard_totals(tokens)
    announce(plan_lm_training, recipe, folder, codec_config, data, manifests is not None, begin_with)
    model = train(recipe, None if manifests else tokens, folder, run, manifests, begin_with, trackers)
    if is_main_process():
        typer.echo(model)
        result = f"{begin_with} --adapter {model}" if recipe.lora.rank else model
        typer.echo(f'next: audiogen generate "a dog barks" --model {result} -o dog.wav', err=True)
