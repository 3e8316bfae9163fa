"""`audiogen generate`: generates audio from text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiogen_cli.commands.terminal.options import (
    MAX_COUNT,
    AdapterOption,
    BatchSizeOption,
    DeviceOption,
    Dtype,
    DtypeOption,
    JsonOption,
    ModelOption,
    OutputOption,
    SeedOption,
    sampling_flags,
)

if TYPE_CHECKING:
    from audiogen_cli.lm.generation.generator import Generator
    from audiogen_cli.lm.generation.requests import Prompt


@sampling_flags()
def generate(
    texts: Annotated[list[str] | None, typer.Argument(metavar="PROMPT", help="A description of the sound.")] = None,
    output: OutputOption = None,
    out_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write each sound there, with its settings beside it as .json. Nothing is replaced: sounds that an"
            " earlier run of the same command has finished are kept, other seeds and settings get names of their own,"
            " as in rain-seed7.wav. Without --seed an unfinished run is completed, a finished one gets new takes.",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Read prompts from a .txt, .csv or .jsonl file, or from stdin (-). Columns: prompt, and optionally"
            " name, seed, duration and every sampling flag, as in top_p.",
        ),
    ] = None,
    model: ModelOption = None,
    adapter: AdapterOption = None,
    duration: Annotated[float, typer.Option(metavar="SECONDS", help="Length of each sound.")] = 5.0,
    samples: Annotated[
        int,
        typer.Option(
            "-n",
            "--samples",
            metavar="N",
            min=1,
            max=MAX_COUNT,
            help="Sounds for each prompt; the i-th, from 0, uses seed + i.",
        ),
    ] = 1,
    seed: SeedOption = None,
    batch_size: BatchSizeOption = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Write a single sound while it is generated: into a .wav file, or with -o - to stdout as raw samples"
            " (16-bit little-endian mono at the model's rate).",
        ),
    ] = False,
    normalize: Annotated[
        bool,
        typer.Option(
            "--normalize", help="Bring each sound to -23 LUFS, with a peak of at most -1 dBFS. [default: off]"
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With --out-dir: replace the sounds of the same names.")
    ] = False,
    unconditional: Annotated[bool, typer.Option("--unconditional", help="Generate without a prompt.")] = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = Dtype.auto,
    json_: JsonOption = False,
    **sampling: Any,
) -> None:
    """Example: audiogen generate "a dog barks" -o dog.wav

    Generates sound from text. Prints the path of each file, in the order of the prompts; with --json all settings and
    measurements, one object a line.

    \b
    audiogen generate "a dog barks" "rain on a roof" -n 4 --out-dir out
    audiogen generate --prompts prompts.csv --out-dir out --json | jq -r .path
    audiogen generate "rain" --duration 60 --stream -o - | aplay -f S16_LE -r 16000
    accelerate launch -m audiogen_cli generate --prompts prompts.csv --out-dir out
    """
    from audiogen_cli.commands.terminal.announce import announce, plan_computing, plan_generation
    from audiogen_cli.commands.terminal.rendering import render, render_stream
    from audiogen_cli.devices import check_device
    from audiogen_cli.errors import InputError
    from audiogen_cli.lm.adapters import adapted_fingerprint, find_adapters
    from audiogen_cli.lm.generation.requests import GenerationRequest, find_language_model, override, plan_requests
    from audiogen_cli.lm.generation.writer import RenderOptions, choose_seed, load_generator

    if (output is None) == (out_dir is None):
        raise InputError("say where to write: either -o FILE or --out-dir FOLDER")
    if stream or str(output) == "-":
        _check_stream(stream, output, normalize, json_)
    chosen = _prompts(texts or [], prompts, unconditional)
    if stream:
        _check_single_draw({**sampling, **chosen[0].overrides})
    check_device(device)
    folder, config = find_language_model(model)
    adapters = find_adapters(adapter or [], folder)
    defaults = GenerationRequest(
        None,
        choose_seed() if seed is None else seed,
        duration,
        override(config.sampling, sampling),
        seed_drawn=seed is None,
    )
    requests = plan_requests(chosen, defaults, samples, output, out_dir)
    if out_dir is not None:
        from audiogen_cli.lock import hold_folder

        hold_folder(out_dir, deep=False)
    options = RenderOptions(batch_size, sidecars=json_ or out_dir is not None, normalize=normalize)

    def load() -> Generator:
        announce(plan_generation, folder, config, len(requests), sum(request.duration for request in requests))
        generator = load_generator(folder, device, dtype.value, adapters)
        announce(plan_computing, generator)
        return generator

    if stream:
        render_stream(requests[0], load, options, config.sample_rate, json_)
    else:
        keep_from = adapted_fingerprint(folder, adapters) if out_dir is not None and not overwrite else None
        render(requests, load, options, config.sample_rate, json_, keep_from)


def _check_stream(stream: bool, output: Path | None, normalize: bool, as_json: bool) -> None:
    import sys

    from audiogen_cli.errors import InputError

    if not stream:
        raise InputError("-o - writes sound to stdout while it is generated: add --stream")
    if output is None or (str(output) != "-" and output.suffix.lower() != ".wav"):
        raise InputError("--stream writes one sound: -o FILE.wav, or -o - for raw samples on stdout")
    if normalize:
        raise InputError("--normalize needs the whole sound, and --stream does not wait for it: use one of them")
    if str(output) != "-":
        return
    if as_json:
        raise InputError("--json and -o - would both go to stdout; stream into a file, or leave --json out")
    if sys.stdout.isatty():
        raise InputError(
            "-o - writes raw samples, which a terminal cannot show: pipe them, as in | aplay -f S16_LE -r 16000"
        )


def _check_single_draw(sampling: Mapping[str, Any]) -> None:
    from audiogen_cli.errors import InputError

    if (sampling.get("candidates") or 1) > 1:
        raise InputError("--stream writes at once and cannot choose among candidates: leave --candidates out")
    if (sampling.get("layers") or 1) > 1:
        raise InputError("--stream cannot mix layers, which must be complete first: leave --layers out")


def _prompts(texts: list[str], source: Path | None, unconditional: bool) -> list[Prompt]:
    from audiogen_cli.errors import InputError
    from audiogen_cli.lm.generation.requests import Prompt

    if (bool(texts), source is not None, unconditional).count(True) != 1:
        raise InputError('say what to generate: either prompts, as in "a dog barks", or --prompts, or --unconditional')
    if source is not None:
        from audiogen_cli.lm.generation.prompts import read_prompts

        return read_prompts(source)
    if unconditional:
        return [Prompt(None)]
    if not all(text.strip() for text in texts):
        raise InputError("a prompt is empty; describe a sound, or use --unconditional for sound without text")
    return [Prompt(text.strip(), where=f"prompt '{text.strip()}'") for text in texts]
