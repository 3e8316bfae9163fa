"""Facts and checks of `train-lm` before torch is loaded: shards or manifests, their codec, the model to train."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from audiogen_cli.codec.config import CodecConfig, check_same_codes
from audiogen_cli.data.manifest import manifest_files
from audiogen_cli.data.shards import META_FILE, ShardMeta, read_meta
from audiogen_cli.errors import InputError
from audiogen_cli.lm.config import LMConfig, ModelShape, TrainConfig
from audiogen_cli.model_folder import CODEC_FOLDER, find_codec, fingerprint, load_config

CHANGEABLE = frozenset({"sampling", "dropout", "max_frames"})  # between a run's model and the one it begins with
INHERITED = ("ff_scale", "text_padding")  # from the model to begin with: recipes cannot choose them


def check_data(tokens: Path, manifests: Path | None, codec: Path | None) -> tuple[Path, CodecConfig]:
    """Return the folder and the configuration of the codec that goes with the training data.

    manifests: instead of `tokens`; their recordings are encoded by `codec`. codec: as `find_codec` takes it; None: the
    copy beside the shards. Raises InputError if there is no data, no codec, or another one than made the shards.
    """
    if manifests is None:
        check_shards(tokens)
        folder = codec_of_shards(tokens, codec)
    else:
        manifest_files(manifests)
        if codec is None:
            raise InputError("--manifests: give --codec, which is to encode the recordings")
        folder = find_codec(codec)
    config = load_config(folder, "codec", CodecConfig)
    if manifests is None:
        check_same_codes(config, read_meta(tokens), f"{tokens / META_FILE}")
    return folder, config


def build_config(
    config: TrainConfig,
    codec: ShardMeta | CodecConfig,
    text_width: int,
    text_fingerprint: str | None = None,
    codec_fingerprint: str = "",
    base: LMConfig | None = None,
) -> LMConfig:
    """Return the model's configuration: the recipe's choices, and what the codec and the text encoder fix.

    base: of the model to begin with, which decides what no recipe chooses. Raises InputError if the recipe does not fit
    the codec's streams.
    """
    try:
        return LMConfig(
            **config.model.settings(),
            **({name: getattr(base, name) for name in INHERITED} if base else {}),
            n_q=codec.n_q,
            codebook_size=codec.codebook_size,
            frame_rate=codec.frame_rate,
            sample_rate=codec.sample_rate,
            codec_fingerprint=codec_fingerprint,
            max_frames=crop_frames(config, codec),
            text=config.text,
            text_width=text_width,
            text_fingerprint=text_fingerprint,
            sampling=config.sampling,
        )
    except ValueError as error:
        raise InputError(f"model: {error}") from None


def inherited_settings(base: LMConfig) -> dict[str, Any]:
    """Return the settings of a recipe that continues a model: its shape, text encoder, window and sampling."""
    window = base.max_frames / base.frame_rate
    model = asdict(ModelShape.of(base))
    return {"crop_seconds": window, "model": model, "text": asdict(base.text), "sampling": asdict(base.sampling)}


def crop_frames(config: TrainConfig, codec: ShardMeta | CodecConfig) -> int:
    """Return the longest example that the recipe wants, in frames."""
    return max(1, round(config.crop_seconds * codec.frame_rate))


def check_shards(tokens: Path) -> ShardMeta:
    """Read the shards' description. Raises InputError if they hold no training rows."""
    meta = read_meta(tokens)
    if not meta.counts.get("train"):
        raise InputError(f"{tokens}: no rows of split train; tokenize a training split")
    return meta


def codec_of_shards(tokens: Path, codec: Path | None = None) -> Path:
    """Return the folder of the codec that made the shards: `codec`, or the copy that `tokenize` left beside them.

    Raises InputError naming both fingerprints if that is another codec, or if there is none.
    """
    wanted = read_meta(tokens).codec_fingerprint
    if codec is None and not (tokens / CODEC_FOLDER).is_dir():
        raise InputError(f"the codec {wanted[:12]} that made {tokens} is not in {tokens / CODEC_FOLDER}: give --codec")
    folder = find_codec(codec or tokens / CODEC_FOLDER)
    if (found := fingerprint(folder)) != wanted:
        raise InputError(
            f"{tokens} was made by the codec {wanted[:12]}, but {folder} is {found[:12]}: "
            "give --codec the one that made the shards, or tokenize again"
        )
    return folder


def check_start(folder: Path, wanted: LMConfig) -> None:
    """Raise InputError if a run for the `wanted` model cannot begin with the weights of the one in `folder`.

    What no weight depends on may differ: the sampling, the dropout, the window.
    """
    found = asdict(load_config(folder, "lm", LMConfig))
    for name, value in asdict(wanted).items():
        if name not in CHANGEABLE and found[name] != value:
            hint = f"; tokenize with its codec: --codec {folder}" if name == "codec_fingerprint" else ""
            raise InputError(f"{folder} cannot be begun with: its {name} is {found[name]}, the run's is {value}{hint}")
