"""Options that several commands share, each worded once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from audiogen_cli.lm.sampling_config import SETTINGS

# Bounds beyond any use, below what would fill a machine.
MAX_SEED = 2**53  # what JSON readers keep exact
MAX_COUNT = 1_000_000
MAX_STEPS = 1_000_000_000
MAX_PROCESSES = 4096

Command = TypeVar("Command", bound=Callable[..., Any])


class Dtype(str, Enum):
    """Number formats a model can run in."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    int8 = "int8"
    int4 = "int4"


ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="FOLDER",
        help="Model folder, checkpoint or run. [default: $AUDIOGEN_MODEL, else the model in the package]",
        show_default=False,
    ),
]
AdapterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter",
        metavar="FOLDER[=STRENGTH]",
        help="Add what train-lm --lora has learned to the model: 1 as trained (the default), 0 nothing (repeatable).",
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", metavar="FILE", help="The .wav, .flac or .ogg file to write; replaced if it exists."
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="N",
        min=0,
        max=MAX_SEED,
        help="The same seed gives the same sound. [default: a random one, which is printed]",
        show_default=False,
    ),
]
BatchSizeOption = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        min=1,
        max=MAX_COUNT,
        help="Most sounds decoded at once; halved if memory runs out. [default: depends on the device]",
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps; auto takes an accelerator if there is one."
    ),
]
DtypeOption = Annotated[
    Dtype, typer.Option("--dtype", metavar="NAME", help="auto, float32, bfloat16, float16; int8 or int4 on a CPU.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, as in --set seed=1 (repeatable)."),
]
MaxStepsOption = Annotated[
    int | None, typer.Option("--max-steps", metavar="N", min=1, max=MAX_STEPS, help="Stop after N steps.")
]
SettingsOption = Annotated[
    bool, typer.Option("--settings", help="List every setting of a recipe, with its default and source, and exit.")
]
ProcessesOption = Annotated[
    int,
    typer.Option("--processes", metavar="N", min=1, max=MAX_PROCESSES, help="Processes on this machine (one a GPU)."),
]


def sampling_flags(without: tuple[str, ...] = ()) -> Callable[[Command], Command]:
    """Decorate a command that takes `**sampling` with a flag for each setting of `Sampling`, before its `--seed`.

    The command gets every setting, None where the user leaves it to the model.
    """

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        flags = [
            inspect.Parameter(
                setting.name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=None,
                annotation=Annotated[
                    type(setting.default) | None,
                    typer.Option(metavar=setting.metadata["metavar"], help=_with_default(setting)),
                ],
            )
            for setting in SETTINGS
            if setting.name not in without
        ]
        place = [each.name for each in own].index("seed")
        command.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*own[:place], *flags, *own[place:]]
        )
        return command

    return decorate


def _with_default(setting: Any) -> str:
    paper = setting.default if setting.default != "" else "none"
    return f"{setting.metadata['help']} [default: the model's own; {paper} in the paper]"


def split_names(text: str) -> list[str]:
    """Split a comma-separated option into names, each once, in the order given."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
