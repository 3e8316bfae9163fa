"""`audiogen generate`: text → audio."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiogen_cli.commands.terminal.options import (
    BatchSizeOption,
    CandidatesOption,
    DeviceOption,
    Dtype,
    DtypeOption,
    GuidanceOption,
    JsonOption,
    LayersOption,
    ModelOption,
    OutputOption,
    SeedOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
)

if TYPE_CHECKING:
    from audiogen_cli.data.prompts import Prompt


def generate(
    texts: Annotated[list[str] | None, typer.Argument(metavar="PROMPT", help="What to hear.")] = None,
    output: OutputOption = None,
    out_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write each sound there, and what made it as .json. Sounds that an earlier run of the same command has"
            " finished are kept; other namesakes are replaced.",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Prompts from a .txt, .csv or .jsonl file, - for stdin; columns prompt, and if wanted seed, duration,"
            " guidance, top_p, top_k, temperature, candidates, layers, name.",
        ),
    ] = None,
    model: ModelOption = None,
    duration: Annotated[float, typer.Option(metavar="SECONDS", help="Length of each sound.")] = 5.0,
    samples: Annotated[
        int,
        typer.Option(
            "-n", "--samples", metavar="N", min=1, help="Sounds for each prompt; the i-th uses seed + i, from 0."
        ),
    ] = 1,
    guidance: GuidanceOption = None,
    top_p: TopPOption = None,
    top_k: TopKOption = None,
    temperature: TemperatureOption = None,
    candidates: CandidatesOption = None,
    layers: LayersOption = None,
    seed: SeedOption = None,
    batch_size: BatchSizeOption = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Write a single sound while it is made: into a growing .wav, or with -o - to stdout as raw samples"
            " (16-bit little-endian mono at the model's rate).",
        ),
    ] = False,
    normalize: Annotated[
        bool,
        typer.Option(
            "--normalize", help="Bring each sound to -23 LUFS, its peak to -1 dBFS at most. [default: as it comes]"
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With --out-dir: make finished sounds again, too.")
    ] = False,
    unconditional: Annotated[bool, typer.Option("--unconditional", help="Without any text.")] = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = Dtype.auto,
    json_: JsonOption = False,
) -> None:
    """Example: audiogen generate "a dog barks" -o dog.wav

    Generates sound from text. Prints the path of each file, in the order of the prompts, or with --json what made it
    and how it came out, one object a line.

    \b
    audiogen generate "a dog barks" "rain on a roof" -n 4 --out-dir out
    audiogen generate --prompts prompts.csv --out-dir out --json | jq -r .path
    audiogen generate "rain" --duration 60 --stream -o - | aplay -f S16_LE -r 16000
    accelerate launch -m audiogen_cli generate --prompts prompts.csv --out-dir out
    """
    from audiogen_cli.commands.terminal.rendering import How, run, run_stream
    from audiogen_cli.devices import check_device
    from audiogen_cli.errors import InputError
    from audiogen_cli.lm.generation.requests import Defaults, Settings, check_texts, find_language_model, plan
    from audiogen_cli.lm.generation.writer import choose_seed

    if (output is None) == (out_dir is None):
        raise InputError("say where to write: either -o FILE or --out-dir FOLDER")
    if stream or str(output) == "-":
        _check_stream(stream, output, normalize, json_)
    chosen = _prompts(texts or [], prompts, unconditional)
    first_seed = choose_seed() if seed is None else seed
    settings = Settings(guidance, top_p, top_k, temperature, candidates, layers)
    defaults = Defaults(first_seed, duration, settings, seed is None)
    jobs = plan(chosen, defaults, samples, output, out_dir)
    if stream and (jobs[0].settings.candidates or 1) > 1:
        raise InputError("--stream plays what is drawn and cannot choose among candidates: leave --candidates out")
    if stream and (jobs[0].settings.layers or 1) > 1:
        raise InputError("--stream cannot level layers that it does not know whole: leave --layers out")
    check_device(device)
    folder, config = find_language_model(model)
    check_texts(jobs, config)
    how = How(
        device,
        dtype.value,
        batch_size,
        json_,
        sidecars=json_ or out_dir is not None,
        normalize=normalize,
        keep=out_dir is not None and not overwrite,
        drawn_seed=first_seed if any(job.seed_drawn for job in jobs) else None,
    )
    if stream:
        run_stream(jobs[0], folder, config, how)
    else:
        run(jobs, folder, config, how)


def _check_stream(stream: bool, output: Path | None, normalize: bool, as_json: bool) -> None:
    import sys

    from audiogen_cli.errors import InputError

    if not stream:
        raise InputError("-o - sends sound to stdout while it is made: add --stream")
    if output is None or (str(output) != "-" and output.suffix.lower() != ".wav"):
        raise InputError("--stream writes one sound: -o FILE.wav, or -o - for raw samples on stdout")
    if normalize:
        raise InputError("--normalize needs the whole sound, which --stream does not wait for: use one of them")
    if str(output) != "-":
        return
    if as_json:
        raise InputError("--json and -o - would both go to stdout; stream into a file, or leave --json out")
    if sys.stdout.isatty():
        raise InputError(
            "-o - sends raw samples, which a terminal cannot show: pipe it, as in | aplay -f S16_LE -r 16000"
        )


def _prompts(texts: list[str], source: Path | None, unconditional: bool) -> list[Prompt]:
    from audiogen_cli.data.prompts import Prompt, read_prompts
    from audiogen_cli.errors import InputError

    if (bool(texts), source is not None, unconditional).count(True) != 1:
        raise InputError('say what to generate: either prompts, as in "a dog barks", or --prompts, or --unconditional')
    if source is not None:
        return read_prompts(source)
    if unconditional:
        return [Prompt(None)]
    if not all(text.strip() for text in texts):
        raise InputError("a prompt is empty; describe a sound, or use --unconditional for sound without text")
    return [Prompt(text.strip(), where=f"prompt '{text.strip()}'") for text in texts]
