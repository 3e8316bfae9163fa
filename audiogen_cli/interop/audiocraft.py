"""Checkpoints in audiocraft's export format, such as `facebook/audiogen-medium`: found, read safely, renamed to ours.

Two files: `state_dict.bin` (language model) and `compression_state_dict.bin` (codec), each a pickled dict of tensors
(`best_state`) and the training configuration as a YAML string (`xp.cfg`). Nothing in them is ever executed. What the
configuration says and we do not build is refused, never guessed.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiogen_cli.errors import InputError, first_line
from audiogen_cli.hub import announce_download, download
from audiogen_cli.model_folder import HUB_NAME, explain_no_weights
from audiogen_cli.training.recipe import parse_yaml

if TYPE_CHECKING:
    from torch import Tensor

LM_FILE, CODEC_FILE = "state_dict.bin", "compression_state_dict.bin"
EXPECTED = f"audiocraft's export is a folder with {LM_FILE} and {CODEC_FILE}"
LICENSE = """CC BY-NC 4.0: Meta's licence for the public AudioGen weights, from which this folder was converted.

Attribution: Meta AI (FAIR), AudioGen, https://github.com/facebookresearch/audiocraft
Text: https://creativecommons.org/licenses/by-nc/4.0/legalcode
Converted from '{source}': names and layout were changed, the values were not (weight normalisation is multiplied out).
A checkpoint of the same format that somebody else trained has the licence that its author gave it.
"""


@dataclass(frozen=True)
class Part:
    """A codec or language model in our names. config: fields of `CodecConfig` or `LMConfig`, as far as it tells."""

    config: dict[str, Any]
    weights: dict[str, Tensor]


def find_checkpoint(source: str) -> Path:
    """Find the folder of a checkpoint, a local one or one downloaded from the hub by its name (owner/name).

    Raises InputError if it lacks a file, is a training checkpoint, or cannot be downloaded.
    """
    folder = Path(source).expanduser()
    if folder.exists():
        return _check_folder(folder)
    if not HUB_NAME.fullmatch(source):
        raise InputError(f"'{source}': no such folder, nor a hub name such as facebook/audiogen-medium; {EXPECTED}")
    return _download(source)


def read_codec(folder: Path) -> Part:
    """Read the codec of a checkpoint's folder. Raises InputError if it cannot be read or built with our parts."""
    path = folder / CODEC_FILE
    state, settings = _read(path)
    strides = settings.get("seanet.ratios", [8, 5, 4, 2])
    if not isinstance(strides, list):
        raise InputError(f"{path}: seanet.ratios must be a list, not {strides!r}")
    settings.demand("", compression_model="encodec", quantizer="rvq", channels=1)
    settings.demand("encodec.", autoencoder="seanet", renormalize=False)
    settings.demand("seanet.", n_residual_layers=1, true_skip=True)
    settings.demand("seanet.", kernel_size=7, last_kernel_size=7, residual_kernel_size=3, compress=2)
    settings.demand("seanet.", activation="ELU", disable_norm_outer_blocks=0)
    settings.demand("seanet.activation_params.", alpha=1.0)
    settings.demand("seanet.decoder.", trim_right_ratio=1.0, final_activation=None)
    if (norm := settings.get("seanet.norm", "weight_norm")) not in ("weight_norm", "none"):
        raise InputError(f"{path}: seanet.norm is {norm}; only weight_norm can be imported")
    layers = len({name.split(".")[3] for name in state if name.startswith("quantizer.vq.layers.")})
    config = {
        "network": {
            "kind": "seanet",
            "channels": settings.get("seanet.n_filters", 32),
            "strides": list(reversed(strides)),  # theirs are in the decoder's order
            "lstm_layers": settings.get("seanet.lstm", 2),
            "norm": "none",  # folded into the weights
            "pad_mode": settings.get("seanet.pad_mode", "constant"),
            "causal": settings.get("seanet.causal", False),
        },
        "sample_rate": settings.get("sample_rate", 16_000),
        "latent_dim": settings.get("seanet.dimension", 128),
        "n_q": settings.whole("rvq.n_q", layers),
        "codebook_size": settings.whole("rvq.bins", 2048),
    }
    with _shapes(path):
        return Part(config, _rename_codec(state, path))


def read_lm(folder: Path) -> Part:
    """Read the language model of a checkpoint's folder, without what only its codec tells.

    Its config has two further entries: `segment_duration`, the trained window in seconds, and `codec_n_q`, the number
    of the codec's codebooks that it was trained on (None: all). Raises InputError as `read_codec` does.
    """
    path = folder / LM_FILE
    state, settings = _read(path)
    settings.demand("", channels=1, lm_model="transformer_lm")
    settings.demand("interleave_stereo_codebooks.", use=False)
    settings.demand("transformer_lm.", norm_first=True, norm="layer_norm", activation="gelu")
    settings.demand("transformer_lm.", positional_embedding="sin", positional_scale=1.0, max_period=10_000)
    settings.demand("transformer_lm.", xpos=False)
    settings.demand("transformer_lm.", causal=True, past_context=None, attention_dropout=None, kv_repeat=1)
    settings.demand("transformer_lm.", layer_scale=None, qk_layer_norm=False, qk_layer_norm_cross=False)
    settings.demand("fuser.", sum=[], prepend=[], input_interpolate=[], cross_attention_pos_emb=False)
    settings.demand("codebooks_pattern.delay.", flatten_first=0, empty_initial=0)
    settings.demand("codebooks_pattern.parallel.", empty_initial=0)
    conditioner = _conditioner(settings, path)
    n_q = settings.whole("transformer_lm.n_q", 4) or 4
    guidance = settings.get("classifier_free_guidance.inference_coef", 3.0)
    with _shapes(path):
        weights = _rename_lm(state, conditioner, settings.whole("transformer_lm.num_layers", None), n_q, path)
    config = {
        "dim": settings.whole("transformer_lm.dim", None),
        "n_layers": settings.whole("transformer_lm.num_layers", None),
        "n_heads": settings.whole("transformer_lm.num_heads", None),  # no tensor's shape shows them
        "ff_scale": settings.whole("transformer_lm.hidden_scale", 4),
        "codebook_size": settings.whole("transformer_lm.card", 2048),
        "n_q": n_q,
        "sample_rate": settings.get("sample_rate", 16_000),
        "text": {"kind": "t5", "name": settings.get(f"conditioners.{conditioner}.t5.name", "t5-base")},
        "text_width": weights["text_projection.weight"].shape[1],
        "bias": "heads.linear.bias" in weights,
        **_pattern(settings, n_q, path),
        "embedding": "sum",
        "text_prefix": False,
        "cross_attention": True,  # on whenever the fuser uses it, whatever `transformer_lm.cross_attention` says
        "text_padding": "zeros",
        "text_processing": "none",
        "sampling": {"guidance": guidance, "top_k": 250, "top_p": 1.0},
        "segment_duration": settings.seconds("dataset.segment_duration", 10),
        "codec_n_q": settings.whole("compression_model_n_q", None),
    }
    return Part(config, weights)


def read_license(folder: Path, source: str) -> str:
    """Return the checkpoint's own LICENSE, or that of the public weights."""
    for name in ("LICENSE", "LICENSE.txt", "LICENSE.md"):
        if (folder / name).is_file():
            return (folder / name).read_text("utf-8", "replace")
    return LICENSE.format(source=source)


# --- finding --------------------------------------------------------------------------------------------------------


def _check_folder(folder: Path) -> Path:
    if folder.is_file():
        if folder.name not in (LM_FILE, CODEC_FILE):
            raise InputError(f"{folder} is a file; {EXPECTED}")
        folder = folder.parent
    missing = [name for name in (LM_FILE, CODEC_FILE) if not (folder / name).is_file()]
    if missing and (training := next(folder.glob("*.th"), None)):
        raise InputError(f"{folder} holds a training checkpoint ({training.name}); export it with audiocraft first")
    if missing:
        raise InputError(f"{folder}: {' and '.join(missing)} not found; {EXPECTED}")
    return folder


def _download(name: str) -> Path:
    """Return the folder of both files in the hub's cache, downloaded if they are not there yet."""
    from huggingface_hub import constants, try_to_load_from_cache

    repository, _, revision = name.partition("@")
    files = [CODEC_FILE, LM_FILE]
    places = {"cache_dir": constants.HF_HUB_CACHE, "revision": revision or None}
    here = [try_to_load_from_cache(repository, file, **places) for file in files]
    if all(isinstance(each, str) for each in here):
        return Path(str(here[-1])).parent
    try:
        announce_download(name, files)
        return [download(name, file).parent for file in files][-1]
    except InputError as error:
        raise InputError(f"{error}; or give a folder with {LM_FILE} and {CODEC_FILE}") from None


# --- reading --------------------------------------------------------------------------------------------------------


def _read(path: Path) -> tuple[dict[str, Tensor], Settings]:
    """Read a file's weights and configuration. Raises InputError if it is not an exported model."""
    import torch

    if what := explain_no_weights(path):
        raise InputError(f"{path} {what}")
    try:
        # Mapped, not read: the public language model is 3.7 GB. Only the zip format of the last years can be.
        package = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError:
        raise InputError(
            f"{path} holds Python objects, which are not loaded because they could run code: is it a training "
            "checkpoint? export it with audiocraft first"
        ) from None
    except Exception as error:  # truncated, not a zip file, not a pickle: torch has a kind for each
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}; copy it again") from None
    if isinstance(package, Mapping) and isinstance(package.get("pretrained"), str):
        raise InputError(
            f"{path} holds no weights but points to '{package['pretrained']}', which is not AudioGen's codec"
        )
    state, config = (package.get(key) if isinstance(package, Mapping) else None for key in ("best_state", "xp.cfg"))
    if not isinstance(state, Mapping) or not isinstance(config, str):
        raise InputError(f"{path} is not an exported model: it lacks best_state or xp.cfg; {EXPECTED}")
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path}: best_state is not a flat dict of tensors: export the model with audiocraft first")
    return dict(state), Settings(config, path)


@contextmanager
def _shapes(path: Path) -> Iterator[None]:
    """Turn what torch makes of tensors of other shapes into an InputError."""
    try:
        yield
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its weights have other shapes ({first_line(error)})") from None


class Settings:
    """A file's configuration. `${a.b}` is resolved only where asked for: the rest names folders of a cluster."""

    REFERENCE = re.compile(r"\$\{([\w.]+)\}")

    def __init__(self, text: str, path: Path) -> None:
        self.values, self.path = parse_yaml(text, f"{path}: its configuration"), path
        if not isinstance(self.values, Mapping):
            raise InputError(f"{path}: its configuration is not a mapping")

    def get(self, key: str, default: Any, depth: int = 0) -> Any:
        """Return the value at a dotted key, or `default` if there is no such key."""
        value: Any = self.values
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return default
            value = value[part]
        reference = self.REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if reference and depth < 10:
            return self.get(reference[1], default, depth + 1)
        if isinstance(value, str) and ("${" in value or value == "???"):
            raise InputError(f"{self.path}: its configuration leaves {key} open ({value})")
        return value

    def whole(self, key: str, default: int | None) -> int | None:
        """Return the number at a dotted key, from 1 to 65,536; None where the default is and the key is not set."""
        value = self.get(key, default)
        if value is None and default is None:
            return None
        if type(value) is not int or not 1 <= value <= 1 << 16:
            raise InputError(f"{self.path}: {key} must be a whole number from 1 to {1 << 16}, not {value!r}")
        return value

    def seconds(self, key: str, default: float) -> float:
        """Return the positive number at a dotted key."""
        value = self.get(key, default)
        if type(value) not in (int, float) or not 0 < value <= 1 << 16:
            raise InputError(f"{self.path}: {key} must be a number of seconds up to {1 << 16}, not {value!r}")
        return float(value)

    def demand(self, prefix: str, **values: Any) -> None:
        """Raise InputError at the first key below `prefix` that is there with another value."""
        for name, expected in values.items():
            found = self.get(key := prefix + name, expected)
            if found != expected and not (expected == [] and found is None):
                raise InputError(f"{self.path}: {key} is {found}; only {expected} can be imported")


# --- the codec ------------------------------------------------------------------------------------------------------

CODEBOOK = re.compile(r"quantizer\.vq\.layers\.(\d+)\._codebook\.(\w+)")
NETWORK = re.compile(r"(encoder|decoder)\.model\.(.+)")


def _rename_codec(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Rename the codec's tensors: layers have our numbers already; of a codebook only its vectors are kept."""
    weights: dict[str, Tensor] = {}
    for name, value in state.items():
        if match := CODEBOOK.fullmatch(name):
            if match[2] == "embed":
                weights[f"quantizer.streams.{match[1]}.codebook"] = value.float()
        elif (match := NETWORK.fullmatch(name)) and not name.endswith(".weight_g"):
            ours = f"{match[1]}.layers.{match[2]}".replace(".conv.conv.", ".conv.").replace(".convtr.convtr.", ".conv.")
            if name.endswith(".weight_v"):
                norm = state.get(f"{name.removesuffix('_v')}_g")
                if norm is None:
                    raise InputError(f"{path}: {name} has no weight_g beside it; copy the file again")
                ours, value = ours.removesuffix("_v"), fold(value, norm)
            weights[ours] = value.float()
        elif not name.endswith(".weight_g"):
            raise InputError(f"{path}: unknown weights '{name}': not the codec of a public AudioGen")
    return weights


def fold(direction: Tensor, norm: Tensor) -> Tensor:
    """Multiply weight normalization out: v · g / ‖v‖, the norm over all but dimension 0.

    direction: [out, in, kernel], or [in, out, kernel] of a transposed convolution. In float64, so that only the result
    is rounded.
    """
    v = direction.double()
    return (v * norm.double() / v.flatten(1).norm(dim=1).view(norm.shape)).float()


# --- the language model ---------------------------------------------------------------------------------------------


def _conditioner(settings: Settings, path: Path) -> str:
    """Return the name of the one text conditioner, which must feed the cross-attention."""
    names = settings.get("fuser.cross", ["description"]) or []
    if len(names) != 1:
        raise InputError(f"{path}: fuser.cross is {names}; only models with exactly one text condition can be imported")
    name = str(names[0])
    settings.demand(f"conditioners.{name}.", model="t5")
    settings.demand(f"conditioners.{name}.t5.", finetune=False, normalize_text=False)
    return name


def _pattern(settings: Settings, n_q: int, path: Path) -> dict[str, Any]:
    modeling = settings.get("codebooks_pattern.modeling", None) or settings.get("transformer_lm.q_modeling", "delay")
    if modeling == "parallel":
        return {"pattern": "parallel"}
    if modeling != "delay":
        raise InputError(f"{path}: codebooks_pattern.modeling is {modeling}; delay and parallel can be imported")
    return {"pattern": "delay", "delays": settings.get("codebooks_pattern.delay.delays", None) or list(range(n_q))}


# Of one layer: theirs → ours. The cross-attention's in_proj is cut in two.
LAYER_NAMES = {
    "norm1": "norm_self",
    "norm_cross": "norm_cross",
    "norm2": "norm_ff",
    "self_attn.out_proj": "attention.out",
    "cross_attention.out_proj": "cross_attention.out",
    "linear1": "up",
    "linear2": "down",
}


def _rename_lm(state: Mapping[str, Tensor], conditioner: str, n_layers: Any, n_q: int, path: Path) -> dict[str, Tensor]:
    """Rename every tensor, in the file's own number format. Raises InputError for one too many or too few."""
    import torch

    left = {name.replace(".mha.", "."): value for name, value in state.items()}
    weights: dict[str, Tensor] = {}
    biased = any(name.endswith(("in_proj_bias", "linear1.bias", "linears.0.bias")) for name in left)

    def pop(name: str) -> Tensor:
        if name not in left:
            raise InputError(f"{path}: weights '{name}' are missing: not a public AudioGen, or another format")
        return left.pop(name)

    def pop_bias(name: str, size: int) -> Tensor:
        # Ours are on or off together; one that is missing among others is zero.
        return left.pop(name) if name in left else torch.zeros(size, dtype=weights["embedding.table.weight"].dtype)

    weights["embedding.table.weight"] = torch.cat([pop(f"emb.{k}.weight") for k in range(n_q)])
    for kind in ("weight", "bias"):
        weights[f"text_projection.{kind}"] = pop(f"condition_provider.conditioners.{conditioner}.output_proj.{kind}")
        weights[f"norm.{kind}"] = pop(f"out_norm.{kind}")
    heads = [pop(f"linears.{k}.weight") for k in range(n_q)]
    weights["heads.linear.weight"] = torch.cat(heads)
    dim = heads[0].shape[1]
    if biased:
        parts = [pop_bias(f"linears.{k}.bias", len(head)) for k, head in enumerate(heads)]
        weights["heads.linear.bias"] = torch.cat(parts)
    weights["null_text"] = torch.zeros(dim, dtype=heads[0].dtype)  # no text is a zero vector
    for layer in range(n_layers or 0):
        theirs, ours = f"transformer.layers.{layer}", f"blocks.{layer}"
        for name, own in LAYER_NAMES.items():
            weight = weights[f"{ours}.{own}.weight"] = pop(f"{theirs}.{name}.weight")
            if "norm" in name:
                weights[f"{ours}.{own}.bias"] = pop(f"{theirs}.{name}.bias")
            elif biased:
                weights[f"{ours}.{own}.bias"] = pop_bias(f"{theirs}.{name}.bias", len(weight))
        for kind in ("weight", "bias") if biased else ("weight",):
            fetch = pop if kind == "weight" else lambda name: pop_bias(name, 3 * dim)
            weights[f"{ours}.attention.qkv.{kind}"] = fetch(f"{theirs}.self_attn.in_proj_{kind}")
            both = fetch(f"{theirs}.cross_attention.in_proj_{kind}")
            weights[f"{ours}.cross_attention.query.{kind}"] = both[:dim]
            weights[f"{ours}.cross_attention.key_value.{kind}"] = both[dim:]
    if left:
        raise InputError(f"{path}: unknown weights '{next(iter(left))}' (of {len(left)}): not a public AudioGen")
    return weights
