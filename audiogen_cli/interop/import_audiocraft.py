"""Convert public checkpoints, which `interop.audiocraft` reads, to model folders; merge adapters into one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiogen_cli import model_folder
from audiogen_cli.codec.config import CodecConfig
from audiogen_cli.errors import InputError
from audiogen_cli.files import check_folder, delete, temporary_name
from audiogen_cli.interop import audiocraft
from audiogen_cli.interop.describe import T5_SHAPES, text_width
from audiogen_cli.lm.adapters import add_adapters, find_adapters, read_licenses
from audiogen_cli.lm.config import LMConfig, TextConfig
from audiogen_cli.lm.decoder import find_decoder
from audiogen_cli.lock import LOCK_FILE
from audiogen_cli.training.recipe import validate

if TYPE_CHECKING:
    from torch import Tensor, nn


def import_checkpoint(source: str, out: Path, text_encoder: str | None = None) -> None:
    """Convert a checkpoint in audiocraft's format to a model folder.

    source: its folder, or its hub name. out: must not exist yet; it appears whole or not at all. text_encoder: T5 by
    hub name or local path, in place of the one that the file names; it is not read, only its width is compared.
    Raises InputError if the checkpoint cannot be found (without importing torch), read, or built with our parts.
    """
    check_new(out)
    folder = audiocraft.find_checkpoint(source)
    codec, lm = audiocraft.read_codec(folder), audiocraft.read_lm(folder)
    codec_file, lm_file = folder / audiocraft.CODEC_FILE, folder / audiocraft.LM_FILE
    codec_config, codec_weights = _cut(
        validate(CodecConfig, codec.config, f"{codec_file}: its configuration cannot be built"),
        codec.weights,
        lm.config,
    )
    config = _lm_config(lm.config, codec_config, text_encoder, lm_file)
    from audiogen_cli.codec.model import AudioCodec
    from audiogen_cli.lm.model import AudioLanguageModel

    _check_weights(AudioCodec, codec_config, codec_weights, codec_file)
    _check_weights(AudioLanguageModel, config, lm.weights, lm_file)
    license = audiocraft.read_license(folder, source)
    with new_folder(out) as temporary:
        model_folder.save_model(temporary / model_folder.CODEC_FOLDER, "codec", codec_config, codec_weights, license)
        config = replace(config, codec_fingerprint=model_folder.fingerprint(temporary / model_folder.CODEC_FOLDER))
        model_folder.save_model(temporary, "lm", config, lm.weights, license)


def merge_adapters(model: Path, given: Sequence[str], out: Path) -> None:
    """Write a model folder whose weights, in float32, are a model's with adapters added; the rest is the model's.

    given: as `find_adapters` takes them. Raises InputError if one does not belong to the model.
    """
    check_new(out)
    adapters, config = find_adapters(given, model), model_folder.load_config(model, "lm", LMConfig)
    lm = find_decoder(config).model_class().load(model)
    add_adapters(lm, adapters)
    with new_folder(out) as temporary:
        model_folder.save_model(temporary, "lm", config, lm.state_dict(), read_licenses(model, adapters))
        model_folder.copy_model(model / model_folder.CODEC_FOLDER, temporary / model_folder.CODEC_FOLDER)
        model_folder.copy_file(model, temporary, model_folder.PROBE_FILE)


def check_new(out: Path) -> None:
    """Raise InputError unless a folder can be made there and holds nothing."""
    if out.exists() and (out.is_file() or any(path.name != LOCK_FILE for path in out.iterdir())):
        raise InputError(f"--out {out} is already there; give a new folder, or delete it first")
    check_folder(out.absolute().parent)


def _cut(
    config: CodecConfig, weights: Mapping[str, Tensor], lm: Mapping[str, Any]
) -> tuple[CodecConfig, dict[str, Tensor]]:
    """Keep only as many codebooks as the language model was trained on."""
    n_q = lm["codec_n_q"] or config.n_q
    unused = tuple(f"quantizer.streams.{k}." for k in range(n_q, config.n_q))
    kept = {name: value for name, value in weights.items() if not name.startswith(unused)}
    return replace(config, n_q=min(n_q, config.n_q)), kept


def _lm_config(found: Mapping[str, Any], codec: CodecConfig, text_encoder: str | None, path: Path) -> LMConfig:
    """Complete the model's configuration. Raises InputError if it does not fit the codec or the text encoder."""
    fields = dict(found)
    seconds = fields.pop("segment_duration")
    del fields["codec_n_q"]
    for name in ("n_q", "codebook_size", "sample_rate"):
        if fields[name] != getattr(codec, name):
            theirs = getattr(codec, name)
            raise InputError(f"{path}: its {name} is {fields[name]}, that of {audiocraft.CODEC_FILE} is {theirs}")
    name = _text_encoder(text_encoder or fields["text"]["name"], fields["text_width"], path)
    fields["text"] = {"kind": "t5", "name": name}
    fields |= {"frame_rate": codec.frame_rate, "codec_fingerprint": "", "max_frames": int(seconds * codec.frame_rate)}
    return validate(LMConfig, fields, f"{path}: its configuration cannot be built")


def _text_encoder(name: str, width: int, path: Path) -> str:
    """Make a local text encoder's path absolute. Raises InputError if its width is known and wrong."""
    if (folder := Path(name).expanduser()).is_dir():
        name = str(folder.resolve())
    known = text_width(TextConfig("t5", name))
    if known not in (None, width):
        fitting = next((each for each, shape in T5_SHAPES.items() if shape[0] == width), "another T5")
        raise InputError(f"{path} wants text vectors of {width} numbers, '{name}' gives {known}: use {fitting}")
    return name


def _check_weights(kind: type[nn.Module], config: Any, weights: Mapping[str, Tensor], path: Path) -> None:
    """Raise InputError unless names and shapes are those of a model of this configuration."""
    with model_folder.outline():
        module = kind(config)
    model_folder.compare_shapes(
        model_folder.shapes_of(module), {name: tuple(value.shape) for name, value in weights.items()}, str(path)
    )


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder whose files become those of `folder` at the end, what makes it a model the last."""
    temporary = temporary_name(folder)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in sorted(temporary.iterdir(), key=lambda path: path.name == "config.json"):
            path.rename(folder / path.name)
    finally:
        delete(temporary)
        with suppress(OSError):  # not empty: the model is there
            folder.rmdir()
