"""Options that several commands share, each worded once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import typer

from audiogen_cli.errors import InputError, read_seconds
from audiogen_cli.lm.sampling_config import MAX_SEED, SETTINGS

# Bounds beyond any use, below what would fill a machine.
MAX_COUNT = 1_000_000
MAX_STEPS = 1_000_000_000
MAX_PROCESSES = 4096

Command = TypeVar("Command", bound=Callable[..., Any])


def check_place(output: Path | None, out_dir: Path | None) -> None:
    """Raise InputError unless one of both says where to write."""
    if (output is None) == (out_dir is None):
        raise InputError("say where to write: either -o FILE or --out-dir FOLDER")


def parse_seconds(text: object) -> float:
    """Read a duration as typed (`read_seconds`)."""
    try:
        return read_seconds(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


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
        metavar="MODEL",
        help="Model folder, checkpoint or run, or owner/name[@revision] on the hub. [default: $AUDIOGEN_MODEL, else the"
        " model in the package]",
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
    Dtype,
    typer.Option("--dtype", metavar="NAME", help="auto, float32; int8, int4 on a CPU; bfloat16, float16 elsewhere."),
]
SamplesOption = Annotated[
    int,
    typer.Option(
        "-n",
        "--samples",
        metavar="N",
        min=1,
        max=MAX_COUNT,
        help="Sounds for each prompt; the i-th, from 0, uses seed + i.",
    ),
]
OutDirOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Write each sound there, with its settings beside it as .json. Nothing is replaced: sounds that an"
        " earlier run of the same command has finished are kept, other seeds and settings get names of their own,"
        " as in rain-seed7.wav. Without --seed an unfinished run is completed, a finished one gets new takes.",
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="With --out-dir: replace the sounds of the same names.")
]
KeepCandidatesOption = Annotated[
    bool,
    typer.Option(
        "--keep-candidates", help="Write the other candidates, too, beside each sound: NAME-candidate02 and so on."
    ),
]
StreamOption = Annotated[
    bool,
    typer.Option(
        "--stream",
        help="Write a single sound while it is generated: into a .wav file, or with -o - to stdout as raw samples"
        " (16-bit little-endian mono at the model's rate). It draws one candidate, all sounds in one: where the model"
        " takes more, not the sound that the same seed gives without.",
    ),
]
RateOption = Annotated[
    int | None,
    typer.Option(
        "--rate", metavar="HZ", help="Resample, as to 44100 or 48000; adds no higher frequencies. [default: unchanged]"
    ),
]
ChannelsOption = Annotated[
    int | None,
    typer.Option("--channels", metavar="N", help="1: the mean of both; 2: a mono sound on both. [default: unchanged]"),
]
SubtypeOption = Annotated[
    str | None,
    typer.Option(
        "--subtype", metavar="NAME", help="PCM_16, PCM_24, FLOAT (.wav). [default: PCM_16; convert: as it is]"
    ),
]
NormalizeOption = Annotated[
    str | None,
    typer.Option(
        "--normalize",
        metavar="LEVEL",
        help="Bring each sound to a loudness in LUFS, as in -23 (its peak stays below -1 dBFS), or to a peak in dBFS,"
        " as in peak:-1. [default: off]",
    ),
]
TrimOption = Annotated[bool, typer.Option("--trim", help="Cut off silence before and after.")]
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


def delivery_flags(command: Command) -> Command:
    """Decorate a command that takes a `delivery` with the flags that say it; see `Delivery`."""
    signature = inspect.signature(command, eval_str=True)
    types = {
        "rate": RateOption,
        "channels": ChannelsOption,
        "subtype": SubtypeOption,
        "normalize": NormalizeOption,
        "trim": TrimOption,
    }
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    flags = [inspect.Parameter(name, kind, default=None, annotation=type_) for name, type_ in types.items()]
    flags[-1] = flags[-1].replace(default=False)

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        from audiogen_cli.lm.generation.delivery import Delivery

        given = [options.pop(flag.name, flag.default) for flag in flags]
        return command(*arguments, delivery=Delivery.parse(*given), **options)

    own = list(signature.parameters.values())
    place = list(signature.parameters).index("delivery")
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*own[:place], *flags, *own[place + 1 :]]
    )
    return cast("Command", run)


def sampling_flags(without: tuple[str, ...] = ()) -> Callable[[Command], Command]:
    """Decorate a command that takes `**sampling` with a flag for each setting of `Sampling`, before its `--seed`.

    The command gets every setting, None where the user leaves it to the model.
    """

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        flags = [_flag(setting) for setting in SETTINGS if setting.name not in without]
        place = [each.name for each in own].index("seed")
        command.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*own[:place], *flags, *own[place:]]
        )
        return command

    return decorate


def _flag(setting: Any) -> inspect.Parameter:
    option = typer.Option(metavar=setting.metadata["metavar"] or None, help=_with_default(setting))
    kind, type_ = inspect.Parameter.POSITIONAL_OR_KEYWORD, type(setting.default)
    return inspect.Parameter(setting.name, kind, default=None, annotation=Annotated[type_ | None, option])


def _with_default(setting: Any) -> str:
    if setting.default is False:
        return f"{setting.metadata['help']} [default: the model's own; no in the paper]"
    paper = setting.default if setting.default != "" else "none"
    return f"{setting.metadata['help']} [default: the model's own; {paper} in the paper]"


def split_names(text: str) -> list[str]:
    """Split a comma-separated option into names, each once, in the order given."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
