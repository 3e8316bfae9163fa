"""`audiogen bench`: speed on this machine, beside its limit or a peer."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiogen_cli.commands.options import DeviceOption, JsonOption, ModelOption

if TYPE_CHECKING:
    from audiogen_cli.data.manifest import Clip


class Kind(str, Enum):
    """What is measured."""

    data = "data"


def bench(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help="data: prep and tokenize.")],
    folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Measure with these sounds. [default: made ones]")
    ] = None,
    model: ModelOption = None,
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Clips encoded at once.")] = 16,
    workers: Annotated[int, typer.Option(metavar="N", min=1, help="Processes, compared with one.")] = 2,
    repeats: Annotated[int, typer.Option(metavar="N", min=1, help="Rounds, of which the best counts.")] = 3,
    device: DeviceOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Example: audiogen bench data

    Measures speed on this machine. data: hours of audio per minute through prep's probe, its conversion to 16 kHz and
    tokenize (with the codec of --model), beside plain soundfile and soxr on the same files.
    """
    import json
    import tempfile

    from audiogen_cli.data.benchmark import find_sounds, make_sounds, measure_data

    encode, facts = _tokenizer(model, batch_size, device)
    with tempfile.TemporaryDirectory(prefix="audiogen-bench-") as made:
        sounds = find_sounds(folder) if folder else make_sounds(Path(made))
        results = {"kind": kind.value, **measure_data(sounds, encode, workers, repeats), **facts}
    if json_:
        typer.echo(json.dumps(results))
    else:
        _print_table(results)


def _tokenizer(
    model: str | None, batch_size: int, device: str
) -> tuple[Callable[[list[Clip], Path], Any] | None, dict[str, Any]]:
    """What turns clips into shards, and the facts its speed depends on; None if no model is asked for or at hand."""
    from audiogen_cli.errors import InputError
    from audiogen_cli.interop.model_folder import find_model
    from audiogen_cli.lm.jobs import check_device

    check_device(device)
    try:
        folder = find_model(model)
    except InputError as error:
        if model:
            raise
        typer.echo(f"tokenize is not measured: {error}", err=True)
        return None, {"device": "cpu", "threads": 1, "dtype": "float32"}

    import torch

    from audiogen_cli.codec.model import AudioCodec
    from audiogen_cli.codec.tokenize import tokenize
    from audiogen_cli.lm.generator import choose_device

    where = choose_device(device)
    codec = AudioCodec.load(folder / "codec" if (folder / "codec").is_dir() else folder, where)
    facts = {"device": str(where), "threads": torch.get_num_threads(), "dtype": "float32"}
    return lambda clips, out: tokenize(clips, codec, out, batch_size=batch_size), facts


def _print_table(results: dict[str, Any]) -> None:
    width = max(map(len, results))
    for name, value in results.items():
        typer.echo(f"{name:{width}}  {value:.3g}" if isinstance(value, float) else f"{name:{width}}  {value}")
