"""`audiogen bench`: measures speed on this machine, beside a limit or a peer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiogen_cli.commands.terminal.options import MAX_COUNT, DeviceOption, Dtype, DtypeOption, JsonOption, ModelOption
from audiogen_cli.commands.terminal.tables import print_table

if TYPE_CHECKING:
    from audiogen_cli.data.manifest import Clip


class Kind(str, Enum):
    """Parts of the toolkit to measure."""

    data = "data"
    codec = "codec"
    lm = "lm"
    start = "start"


def bench(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help="data: prep and tokenize; codec; lm: decoding; start.")],
    folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="data: sounds to measure with. [default: generated noise]")
    ] = None,
    model: ModelOption = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, max=MAX_COUNT, help="Clips or sounds at once. [default: data 16, codec 1 and 8, lm 1]"
        ),
    ] = None,
    size: Annotated[str, typer.Option(metavar="NAME", help="lm: tiny, base or large.")] = "base",
    streams: Annotated[int, typer.Option(metavar="K", help="lm: streams of codes, 1, 2 or 4.")] = 1,
    steps: Annotated[
        int, typer.Option(metavar="N", min=1, max=MAX_COUNT, help="lm: steps per round; of diffusion: passes.")
    ] = 40,
    cached: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            max=MAX_COUNT,
            help="lm: frames before the first step. [default: 0, on a GPU half a window]",
        ),
    ] = None,
    peer: Annotated[bool, typer.Option(help="lm: also measure transformers' MusicGen, with --train GPT-2.")] = True,
    train: Annotated[bool, typer.Option("--train", help="lm: a training step, beside transformers' GPT-2.")] = False,
    frames: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=MAX_COUNT,
            help="lm --train: length of a sample. [default: the recipe's on a GPU, else fewer]",
        ),
    ] = None,
    dtype: DtypeOption = Dtype.auto,
    workers: Annotated[
        int, typer.Option(metavar="N", min=1, max=MAX_COUNT, help="data: processes, compared with 1.")
    ] = 2,
    repeats: Annotated[
        int,
        typer.Option(metavar="N", min=1, max=MAX_COUNT, help="Rounds; data: their best, codec and lm: their median."),
    ] = 3,
    device: DeviceOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Example: audiogen bench data

    Measures speed on this machine. data: hours of audio per minute through prep's probe, its conversion to 16 kHz and
    tokenize (with the codec of --model), beside plain soundfile and soxr on the same files. lm: the engine with random
    weights (of --size and --streams, or in the shape of --model) and guidance, beside the bytes that a step must read
    and beside transformers' MusicGen of the same size (a diffusion model: whole windows of sound in --steps passes);
    with --train a training step beside a plain GPT-2 of transformers. codec: seconds of sound per second through the
    codec of --model (default: the paper's x32 with random weights), beside transformers' EncodecModel with the same
    weights. start: a whole generate and the loading of its model, as multiples of the import of torch.
    """
    import json

    from audiogen_cli.devices import check_device

    check_device(device)
    if kind is Kind.data:
        results = _measure_data(folder, model, batch_size or 16, workers, repeats, device)
    elif kind is Kind.codec:
        results = _measure_codec(model, batch_size, repeats, device)
    elif kind is Kind.start:
        from audiogen_cli.bench.start import measure_start

        results = measure_start(model, repeats)
    elif train:
        results = _measure_training(size, streams, batch_size, frames, repeats, device, peer)
    else:
        from audiogen_cli.bench.decode import Setup, measure_lm
        from audiogen_cli.bench.passes import measure_passes
        from audiogen_cli.devices import choose_device
        from audiogen_cli.lm.config import LMConfig
        from audiogen_cli.model_folder import find_model, load_config

        shape = load_config(find_model(model), "lm", LMConfig) if model else None
        where = choose_device(device)
        setup = Setup(size, streams, batch_size or 1, steps, dtype.value, repeats, cached or 0, peer, shape)
        if cached is None and where.type == "cuda":
            setup = replace(setup, cached=setup.config.max_frames // 2)
        measure = {"autoregressive": measure_lm, "diffusion": measure_passes}[setup.config.decoder]
        results = measure(setup, where)
    results = {"kind": kind.value, **results}
    if json_:
        typer.echo(json.dumps(results))
    else:
        print_table(_rows(results))


def _measure_training(
    size: str, streams: int, batch_size: int | None, n_frames: int | None, repeats: int, device: str, peer: bool
) -> dict[str, Any]:
    from audiogen_cli.errors import InputError
    from audiogen_cli.lm.config import SIZES

    if size not in SIZES:
        raise InputError(f"--size {size}: choose from {', '.join(SIZES)}")
    if streams not in (1, 2, 4):
        raise InputError(f"--streams {streams}: choose 1, 2 or 4")

    from audiogen_cli.bench.train_step import measure_training

    return measure_training(size, streams, batch_size, n_frames, repeats, device, peer)


def _measure_data(
    folder: Path | None, model: str | None, batch_size: int, workers: int, repeats: int, device: str
) -> dict[str, Any]:
    import tempfile

    from audiogen_cli.bench.data import find_sounds, make_sounds, measure_data

    encode, facts = _tokenizer(model, batch_size, device)
    with tempfile.TemporaryDirectory(prefix="audiogen-bench-") as made:
        sounds = find_sounds(folder) if folder else make_sounds(Path(made))
        return {**measure_data(sounds, encode, workers, repeats), **facts}


def _measure_codec(model: str | None, batch_size: int | None, repeats: int, device: str) -> dict[str, Any]:
    from audiogen_cli.devices import choose_device
    from audiogen_cli.model_folder import find_codec

    folder = find_codec(model) if model else None

    from audiogen_cli.bench.codec import make_codec, measure_codec
    from audiogen_cli.codec.model import AudioCodec

    where = choose_device(device)
    codec = AudioCodec.load(folder, where) if folder else make_codec(where)
    return measure_codec(codec, [batch_size] if batch_size else (), repeats)


def _tokenizer(
    model: str | None, batch_size: int, device: str
) -> tuple[Callable[[list[Clip], Path], Any] | None, dict[str, Any]]:
    """Return a function that turns clips into shards, or None without a model, and what its speed depends on."""
    from audiogen_cli.devices import choose_device
    from audiogen_cli.errors import InputError
    from audiogen_cli.model_folder import find_codec

    try:
        folder = find_codec(model)
    except InputError as error:
        if model:
            raise
        typer.echo(f"tokenize is not measured: {error}", err=True)
        return None, {"device": "cpu", "threads": 1, "dtype": "float32"}

    import torch

    from audiogen_cli.codec.model import AudioCodec
    from audiogen_cli.codec.tokenize import tokenize

    where = choose_device(device)
    codec = AudioCodec.load(folder, where)
    facts = {"device": str(where), "threads": torch.get_num_threads(), "dtype": "float32"}
    return lambda clips, out: tokenize(clips, codec, out, batch_size=batch_size), facts


def _rows(results: dict[str, Any]) -> list[tuple[str, str]]:
    values = {name: value for name, value in results.items() if not isinstance(value, dict)}
    for part, word in (("batches", "batch "), ("formats", "")):
        for key, speeds in results.get(part, {}).items():
            values |= {f"{name} ({word}{key})": value for name, value in speeds.items()}
    return [(name, f"{value:.3g}" if isinstance(value, float) else str(value)) for name, value in values.items()]
