"""`audiogen inpaint`: generates parts of a sound anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiogen_cli.commands.terminal import options

if TYPE_CHECKING:
    from audiogen_cli.lm.generation.inpainting import Region


@options.sampling_flags(without=("layers", "timing", "loop"))
@options.delivery_flags
def inpaint(
    audio: Annotated[Path, typer.Argument(metavar="AUDIO", help="The sound; any rate, any channels.")],
    text: Annotated[str | None, typer.Argument(metavar="PROMPT", help="A description of what to put there.")] = None,
    output: options.OutputOption = None,
    from_: Annotated[float | None, typer.Option("--from", metavar="SECONDS", help="Where the part begins.")] = None,
    to: Annotated[float | None, typer.Option("--to", metavar="SECONDS", help="Where it ends.")] = None,
    region: Annotated[
        list[str] | None, typer.Option(metavar="FROM-TO", help="A part, as in 1.5-3.0; for several (repeatable).")
    ] = None,
    model: options.ModelOption = None,
    adapter: options.AdapterOption = None,
    seed: options.SeedOption = None,
    delivery: Any = None,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = options.Dtype.auto,
    json_: options.JsonOption = False,
    **sampling: Any,
) -> None:
    """Example: audiogen inpaint street.wav "a dog barks" --from 1.5 --to 3 --model runs/diffsound -o dog.wav

    Generates parts of a sound anew, with or without a text, from what is around them. Takes a diffusion model
    (train-lm --config diffsound). The result is mono at the model's rate; outside of the parts it is AUDIO at that
    rate, sample for sample, unless --rate, --normalize or --trim change it. Prints its path, or with --json all
    settings and measurements.

    \b
    audiogen inpaint take.wav --region 0-0.4 --region 2.1-2.6 --model runs/diffsound -o mended.wav
    """
    from audiogen_cli.commands.terminal.rendering import ModelChoice, render_with
    from audiogen_cli.errors import InputError
    from audiogen_cli.lm.decoder import check_inpainting
    from audiogen_cli.lm.generation.inpainting import fill_regions
    from audiogen_cli.lm.generation.requests import SINGLE, STDOUT, Prompt, check_source, plan_requests

    if output is None or str(output) == STDOUT:
        raise InputError("say where to write: -o FILE")
    if text is not None and not text.strip():
        raise InputError("the prompt is empty; leave it out to fill in without text")
    regions = _regions(from_, to, region or [])
    chosen = ModelChoice.find(model, adapter, device, dtype.value)
    check_inpainting(chosen.config, chosen.folder.name)
    defaults = chosen.defaults(seed, 0.0, {**sampling, **SINGLE})
    check_source(audio, output, chosen.config.sample_rate)
    defaults = fill_regions(defaults, audio, regions, chosen.config)
    requests = plan_requests([Prompt(text and text.strip(), where=str(audio))], defaults, 1, output, None)
    render_with(chosen, requests, delivery, json_)


def _regions(begin: float | None, end: float | None, given: list[str]) -> list[Region]:
    from audiogen_cli.errors import InputError
    from audiogen_cli.lm.generation.inpainting import parse_region

    if (begin is None) != (end is None):
        raise InputError("a part has both ends: give --from and --to")
    own = [] if begin is None or end is None else [(begin, end)]
    if not own and not given:
        raise InputError("say which part to generate anew: --from S --to S, or --region 1.5-3.0")
    return own + [parse_region(text) for text in given]
