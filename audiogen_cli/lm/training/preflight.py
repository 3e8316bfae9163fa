"""What a language model's training reads, checked before torch is loaded: shards and the codec that made them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from audiogen_cli.codec.config import CodecConfig
from audiogen_cli.data.manifest import manifest_files
from audiogen_cli.data.shards import ShardMeta, read_meta
from audiogen_cli.errors import InputError
from audiogen_cli.lm.config import LMConfig
from audiogen_cli.model_folder import CODEC_FOLDER, find_model, fingerprint, load_config

CHANGEABLE = frozenset({"sampling", "dropout", "max_frames"})  # between a run's model and the one it begins with


def check_streams(tokens: Path, streams: int | None) -> ShardMeta:
    """Read the shards' description; InputError if they have no training rows or not so many streams."""
    meta = read_meta(tokens)
    if not meta.counts.get("train"):
        raise InputError(f"{tokens}: no rows of split train; tokenize a training split")
    if streams is not None and streams != meta.n_q:
        raise InputError(
            f"{tokens} holds codes of {meta.n_q} streams, not {streams}: tokenize with a codec of {streams}, "
            "or leave --streams out"
        )
    return meta


def find_codec(tokens: Path, codec: Path | None = None) -> Path:
    """The folder of the codec that made the shards: `codec`, or the copy that `audiogen tokenize` left beside them.

    Raises InputError naming both fingerprints if that is another codec, or if there is none.
    """
    wanted = read_meta(tokens).codec_fingerprint
    if codec is None and not (tokens / CODEC_FOLDER).is_dir():
        raise InputError(f"the codec {wanted[:12]} that made {tokens} is not in {tokens / CODEC_FOLDER}: give --codec")
    folder = codec_folder(codec or tokens / CODEC_FOLDER)
    if (found := fingerprint(folder)) != wanted:
        raise InputError(
            f"{tokens} was made by the codec {wanted[:12]}, but {folder} is {found[:12]}: "
            "give --codec the one that made the shards, or tokenize again"
        )
    return folder


def check_start(folder: Path, wanted: LMConfig) -> None:
    """InputError if a run for the `wanted` model cannot begin with the weights of the one in `folder`.

    What no weight depends on may differ: the sampling, the dropout, the window.
    """
    found = asdict(load_config(folder, "lm", LMConfig))
    for name, value in asdict(wanted).items():
        if name not in CHANGEABLE and found[name] != value:
            raise InputError(f"{folder} cannot be begun with: its {name} is {found[name]}, the run's is {value}")


def check_sounds(manifests: Path, codec: Path | None, streams: int | None) -> Path:
    """The codec's folder for training on recordings. Raises InputError if there are none, or not so many streams."""
    manifest_files(manifests)
    if codec is None:
        raise InputError("--manifests: give --codec, which is to encode the recordings")
    folder = codec_folder(codec)
    n_q = load_config(folder, "codec", CodecConfig).n_q
    if streams is not None and streams != n_q:
        raise InputError(f"{folder} makes {n_q} streams, not {streams}: give another --codec, or leave --streams out")
    return folder


def codec_folder(codec: str | Path | None) -> Path:
    """A codec's folder, given as `find_model` takes it, or a language model's. Raises InputError if it is none."""
    folder = find_model(codec)
    folder = folder / CODEC_FOLDER if (folder / CODEC_FOLDER).is_dir() else folder
    if not _is_codec(folder):
        raise InputError(f"{codec or folder} holds no codec: give a codec's model folder, run or checkpoint")
    return folder


def _is_codec(folder: Path) -> bool:
    try:
        load_config(folder, "codec", CodecConfig)
    except InputError:
        return False
    return (folder / "model.safetensors").is_file()
