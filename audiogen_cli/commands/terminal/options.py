"""Options that several commands share, each worded once: the same word means the same thing everywhere."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Dtype(str, Enum):
    """Number formats a model can run in."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    int8 = "int8"


ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="FOLDER",
        help="Model folder, checkpoint or run. [default: $AUDIOGEN_MODEL, else the model in the package]",
        show_default=False,
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="FILE", help="The file to write: .wav, .flac or .ogg; replaced if there."),
]
SeedOption = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="N",
        min=0,
        max=2**53,  # what JSON readers keep exact
        help="Same seed, same sound; another one, another take. [default: drawn, and printed]",
        show_default=False,
    ),
]
GuidanceOption = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        metavar="X",
        help="How closely to follow the text: more is closer, and less varied. [default: the model's own; 3.0 in the"
        " paper]",
    ),
]
TopPOption = Annotated[
    float | None,
    typer.Option(
        "--top-p",
        metavar="P",
        help="Draw from the likeliest tokens of this mass: less is safer and plainer, 1 allows all. [default: the"
        " model's own; 0.25 in the paper]",
    ),
]
TopKOption = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        metavar="N",
        help="Draw from so many likeliest tokens; 0 = off. [default: the model's own; off in the paper]",
    ),
]
TemperatureOption = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        metavar="X",
        help="Above 1 surprises more, below 1 less; 0 always takes the likeliest. [default: the model's own; 1.0 in the"
        " paper]",
    ),
]
CandidatesOption = Annotated[
    int | None,
    typer.Option(
        "--candidates",
        metavar="N",
        help="Draw so many sounds for each one and keep what fits its text best, as the model itself judges."
        " [default: the model's own; 1 in the paper]",
    ),
]
LayersOption = Annotated[
    int | None,
    typer.Option(
        "--layers",
        metavar="N",
        help="Make up to so many sounds of a prompt (a dog barks while it rains) apart, and lay them over each other;"
        " 1 makes all at once, as the paper does. [default: the model's own]",
    ),
]
BatchSizeOption = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        min=1,
        help="Sounds computed at once; halved if memory runs out. [default: chosen by device]",
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps; auto takes an accelerator if there is one."
    ),
]
DtypeOption = Annotated[
    Dtype, typer.Option("--dtype", metavar="NAME", help="auto, float32, bfloat16, float16; int8 on a CPU.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, as in --set seed=1 (repeatable)."),
]
MaxStepsOption = Annotated[int | None, typer.Option("--max-steps", metavar="N", min=1, help="Stop after N steps.")]
ProcessesOption = Annotated[
    int, typer.Option("--processes", metavar="N", min=1, help="Processes on this machine (one a GPU).")
]


def split_names(text: str) -> list[str]:
    """The names in a comma-separated option, each once, in the order given."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
