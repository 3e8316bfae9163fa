"""`audiogen train-codec`: manifests → codec model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train_codec(
    config: Annotated[Path | None, typer.Option(help="Recipe; without one the paper's x32 codec is trained.")] = None,
    manifests: Annotated[Path, typer.Option(help="Manifest file or folder of manifests.")] = Path("data/manifests"),
    datasets: Annotated[str | None, typer.Option(help="Only these datasets, comma-separated.")] = None,
    out: Annotated[Path, typer.Option(help="Run folder; the finished model folder is written there too.")] = Path(
        "runs/codec"
    ),
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a setting: key=value (repeatable).")] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Stop after this many steps.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes on this machine (one a GPU).")] = 1,
) -> None:
    """Example: audiogen train-codec --config recipes/codec-x32.yaml --out runs/codec-x32

    Trains a neural codec on the train split; run again to resume.
    """
    from audiogen_cli.codec.config import CodecTrainConfig
    from audiogen_cli.data.manifest import load_manifests
    from audiogen_cli.training.recipe import load_recipe

    overrides = [*(set_ or []), *([f"max_steps={max_steps}"] if max_steps else [])]
    recipe = load_recipe(CodecTrainConfig, config, overrides)
    chosen = datasets.split(",") if datasets else None
    clips = load_manifests(manifests, chosen)
    if processes > 1:
        from audiogen_cli.training.launch import relaunch

        return relaunch(processes)
    from audiogen_cli.codec.train import train

    parts = {split: [clip for clip in clips if clip.split == split] for split in ("train", "val")}
    typer.echo(train(recipe, parts["train"], parts["val"], out))
