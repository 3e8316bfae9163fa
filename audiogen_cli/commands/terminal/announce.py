"""Announcements: a few lines on stderr before a stage works, and a warning for each departure from the paper.

One `Announcement` a stage, of the same few sentences: codec, model, data, processes and time. stdout stays untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from audiogen_cli.errors import format_seconds, printable
from audiogen_cli.model_folder import NO_SELLING

if TYPE_CHECKING:
    import torch

    from audiogen_cli.codec.config import CodecConfig, CodecTrainConfig
    from audiogen_cli.commands.terminal.rendering import ModelChoice
    from audiogen_cli.data.totals import Totals
    from audiogen_cli.evaluation.config import EvalConfig
    from audiogen_cli.lm.config import TrainConfig
    from audiogen_cli.lm.generation.generator import Generator

PUBLIC_MODEL = "facebook/audiogen-medium"
PAPER_FRAME_RATES = (500, 250, 125)  # Table 2: a codec's frames a second
PAPER_SHAPES = ((768, 24, 16), (1280, 36, 20))  # sec. 4.1: dim, layers, heads of base and large


@dataclass
class Announcement:
    """Lines to print before the work, and warnings."""

    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def say(self) -> None:
        """Print it on stderr."""
        for line in [*self.lines, *(f"warning: {warning}" for warning in self.warnings)]:
            typer.echo(printable(line), err=True)


def announce(plan: Callable[..., Announcement], *arguments: Any) -> None:
    """Say what a stage plans; of several processes only the main one finds it out and says it."""
    from audiogen_cli.devices import is_main_process

    if is_main_process():
        plan(*arguments).say()


def plan_prep(
    total: int, sources: Sequence[str], out: Path, workers: int | None, engine: str, keep_speech: bool, copies: bool
) -> Announcement:
    """Say what `prep` reads and writes."""
    from joblib import cpu_count

    from audiogen_cli.commands.terminal import estimates

    workers = workers or cpu_count()
    where = f"on {workers} processes" if engine == "processes" else f"on {engine}"
    time = f"very roughly {format_seconds(estimates.preparing(total, workers, copies))}, less for known files"
    what = f"preparing {total:,} items of {', '.join(sources)} into {out} {where}"
    plan = Announcement([f"{what}; texts by the paper's rules (sec. 4.1); {time}"])
    if keep_speech:
        plan.warnings.append("clips that mention speech stay in training: the paper drops them (sec. 4.1)")
    return plan


def plan_codec_training(recipe: CodecTrainConfig, data: Totals) -> Announcement:
    """Say what `train-codec` trains, and on what."""
    from audiogen_cli.commands.terminal import estimates

    size = estimates.codec_parameters(recipe.codec)
    network = recipe.codec.network.kind
    batch = f"{recipe.batch_size} crops of {recipe.crop_seconds:g} s"
    return Announcement(
        [
            f"codec to train ({network}): {describe_codec(recipe.codec)}; {_millions(size)} parameters",
            f"clips: {_rows(data)}; {batch} a step, {recipe.max_steps:,} steps; {_processes()}",
        ],
        _data_warnings(data),
    )


def plan_tokenizing(
    folder: Path, config: CodecConfig, data: Totals, mix: int, copies: int, device: torch.device
) -> Announcement:
    """Say what `tokenize` encodes, with which codec, on which device."""
    from audiogen_cli.commands.terminal import estimates

    hours = sum(data.hours.values()) + (mix + copies) * data.hours["train"]
    plan = _with_codec(folder, config)
    more = [f"{count * data.rows['train']:,} {what}" for count, what in ((mix, "mixed"), (copies, "varied")) if count]
    rows = " and ".join([f"clips: {_rows(data)}", *more])
    seconds, memory = estimates.encoding(folder, hours, device)
    work = f"{_processes()}, very roughly {format_seconds(seconds)} and {memory / 1e9:.2g} GB each"
    plan.lines.append(f"{rows}, {format_seconds(3600 * hours)} to encode; {work}")
    plan.warnings += _data_warnings(data)
    if not mix:
        plan.warnings.append("no mixed rows: the paper mixes pairs of clips (sec. 4.1); --mix 1 does")
    return plan


def plan_lm_training(
    recipe: TrainConfig,
    folder: Path,
    codec: CodecConfig,
    data: Totals,
    on_the_fly: bool,
    start_from: Path | None = None,
) -> Announcement:
    """Say what `train-lm` trains, and on what. on_the_fly: on recordings, mixed while it trains."""
    from audiogen_cli.commands.terminal import estimates
    from audiogen_cli.lm.config import LMConfig
    from audiogen_cli.model_folder import license_line, load_config, read_license

    base = load_config(start_from, "lm", LMConfig) if start_from else None
    size, encoder, memory = estimates.lm_training(recipe, codec, base)
    mixed = f"{recipe.mix:.0%} of the samples mixed" if on_the_fly else f"{data.mixed:,} of them mixed"
    shape = recipe.model
    plan = _with_codec(folder, codec)
    plan.lines += [
        f"model: {shape.n_layers} layers of {shape.dim}, {_millions(size)} parameters; text encoder "
        f"{text_encoder_name(recipe.text)}{f', with it {_millions(size + encoder)}' if encoder else ''}",
        f"rows: {_rows(data)}, {mixed}; {recipe.optim.batch_size} a step, {recipe.max_steps:,} steps"
        f"{', the first after minutes of compiling' * recipe.compile}; {_processes()}, at least "
        f"{memory / 1e9:.2g} GB each for weights, gradients and optimizer",
    ]
    if start_from:
        license = license_line(read_license(start_from))
        rank = recipe.lora.rank
        what = f"an adapter of rank {rank} for" if rank else "begins with"
        plan.lines.insert(1, f"{what} {start_from}: {license}")
        plan.warnings += license_warnings("the model to begin with", license)
    if not (recipe.mix if on_the_fly else data.mixed):
        plan.warnings.append("no mixed rows: the paper mixes pairs of clips (sec. 4.1); tokenize --mix 1 makes them")
    if not (recipe.text_dropout or start_from) and (guidance := recipe.sampling.guidance) != 1:
        plan.warnings.append(
            f"text_dropout is 0: guidance ({guidance:g}) needs the paper's 0.1 (sec. 3.2); or set sampling.guidance=1"
        )
    if (shape.dim, shape.n_layers, shape.n_heads) in PAPER_SHAPES and codec.frame_rate not in PAPER_FRAME_RATES:
        rates = ", ".join(map(str, PAPER_FRAME_RATES))
        plan.warnings.append(f"the codec makes {codec.frame_rate:g} frames/s, the paper's models are on {rates}")
    plan.warnings += _data_warnings(data)
    return plan


def plan_generation(model: ModelChoice, n_sounds: int, seconds: float) -> Announcement:
    """Say which model generates."""
    from audiogen_cli.lm.adapters import read_licenses
    from audiogen_cli.model_folder import CODEC_FOLDER, license_line, weight_facts

    folder, adapters = model.folder, model.adapters
    facts = weight_facts(folder / "model.safetensors")
    sounds = f"{n_sounds:,} sound{'s' * (n_sounds != 1)}, {format_seconds(seconds)} in all"
    license, name = license_line(read_licenses(folder, adapters)), " + ".join([model_name(folder), *map(str, adapters)])
    shape = f"{_millions(facts['parameters'])} parameters, text by {text_encoder_name(model.config.text)}"
    codec = _load_codec(folder / CODEC_FOLDER)
    return Announcement(
        [f"model {name}: {shape}; codec {describe_codec(codec)}; {sounds}; {license}"],
        license_warnings("these weights", license),
    )


def plan_computing(generator: Generator) -> Announcement:
    """Say in which number format a loaded model's weights are, where they are rounded, and the memory in use: `--dtype
    auto` chooses by size and processor.

    The folder's own precision needs no word.
    """
    from audiogen_cli.devices import used_memory

    if generator.dtype == "float32":
        return Announcement()
    used = f"{used_memory(generator.device) / 1e9:.2g} GB of memory"
    where = f"computing on {generator.device} with weights in {generator.dtype} (--dtype chooses another)"
    return Announcement([f"{where}, {used} so far"])


def plan_evaluation(config: EvalConfig, n_clips: int) -> Announcement:
    """Say what `eval` scores: the model with its folder, fingerprint and license, or a folder of audio."""
    from audiogen_cli.evaluation.tasks.generate_clips import find_scored
    from audiogen_cli.evaluation.tasks.generation import choose_metrics
    from audiogen_cli.model_folder import find_codec

    against = config.split or str(config.reference)
    metrics = ", ".join(choose_metrics(config) if config.task == "generation" else config.chosen_metrics)
    plan = Announcement([f"scoring {config.task} on {n_clips:,} clips of {against}: {metrics}"])
    if config.generated is not None:
        plan.lines.append(f"audio in {config.generated}")
        return plan
    folder, facts = find_scored(config)
    plan.lines += [describe_identity(facts), f"codec: {describe_codec(_load_codec(find_codec(folder)))}"]
    plan.warnings += license_warnings("these weights", facts["model_license"])
    return plan


def describe_identity(facts: Mapping[str, Any]) -> str:
    """Name a scored model: name, folder, fingerprint, license."""
    fingerprint = facts["model_fingerprint"][:12]
    return f"model {facts['model_name']} ({facts['model']}), {fingerprint}: {facts['model_license']}"


def describe_codec(config: CodecConfig) -> str:
    """Give a codec's frame rate, streams and nominal bitrate (kbit = 1000 bit)."""
    from math import log2

    kbps = config.frame_rate * config.n_q * log2(config.codebook_size) / 1000
    streams = f"{config.n_q} stream{'s' * (config.n_q != 1)} of {config.codebook_size} codes"
    return f"{config.frame_rate:g} frames/s, {streams}, {kbps:.3g} kbit/s"


def model_name(folder: Path) -> str:
    """Name a model by its folder; the packaged one with a way to the public one."""
    from audiogen_cli import model_folder

    name = model_folder.model_name(folder)
    if folder != model_folder.EMBEDDED_MODEL:
        return name
    return f"{name} (small; `--model {PUBLIC_MODEL}` is the public one)"


def text_encoder_name(text: Any) -> str:
    """Name a text encoder of a configuration."""
    default = {
        "t5": "t5-base",
        "clip": "CLIP ViT-B/32",
        "static": "the package's word vectors",
        "lookup": "a table of words, learned with it",
    }
    return text.name or default[text.kind]


def license_warnings(what: str, *licenses: str) -> list[str]:
    """Warn if a license forbids selling what comes of it."""
    parts = [part.strip() for license in licenses for part in license.split(";")]
    forbidding = [part.partition(":")[0] for part in parts if NO_SELLING.search(part)]
    return [f"the license of {what} forbids selling: {', '.join(forbidding)}"] if forbidding else []


def _with_codec(folder: Path, config: CodecConfig) -> Announcement:
    from audiogen_cli.model_folder import license_line, read_license

    license = license_line(read_license(folder))
    return Announcement(
        [f"codec {folder}: {describe_codec(config)}; {license}"], license_warnings("the codec", license)
    )


def _load_codec(folder: Path) -> CodecConfig:
    from audiogen_cli.codec.config import CodecConfig
    from audiogen_cli.model_folder import load_config

    return load_config(folder, "codec", CodecConfig)


def _data_warnings(data: Totals) -> list[str]:
    forbidding = {license: n for license, n in data.licenses.items() if NO_SELLING.search(license)}
    if not forbidding:
        return []
    named = ", ".join(sorted(forbidding)[:3]) + (", …" if len(forbidding) > 3 else "")
    return [f"{sum(forbidding.values()):,} clips are under licenses that forbid selling what is made of them: {named}"]


def _rows(data: Totals) -> str:
    lengths = {split: format_seconds(3600 * hours) for split, hours in data.hours.items()}
    return ", ".join(f"{n:,} {split} ({lengths[split]})" for split, n in data.rows.items() if n)


def _processes() -> str:
    from audiogen_cli.devices import count_processes

    n = count_processes()
    return f"{n} process{'es' * (n != 1)}"


def _millions(parameters: int) -> str:
    return f"{parameters / 1e9:.2f}B" if parameters >= 1e9 else f"{parameters / 1e6:.1f}M"
