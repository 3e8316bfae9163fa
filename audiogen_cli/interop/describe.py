"""Facts about manifests, token shards, models, checkpoints, runs and audio, as plain values. Imports no torch."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from audiogen_cli.codec.config import CodecConfig
from audiogen_cli.data.audio import AUDIO_SUFFIXES
from audiogen_cli.errors import InputError
from audiogen_cli.files import RESOURCES, hash_file, read_json
from audiogen_cli.lm.adapters import ADAPTER_FILE, AdapterBase, load_settings
from audiogen_cli.lm.config import LMConfig, TextConfig
from audiogen_cli.lm.text.hub import HUB_NAMES
from audiogen_cli.model_folder import (
    CODEC_FOLDER,
    EMBEDDED_NAME,
    HUB_NAME,
    PROBE_FILE,
    Kind,
    find_model,
    fingerprint,
    known_sounds,
    license_line,
    load_config,
    read_document,
    read_header,
    read_license,
    weight_facts,
)
from audiogen_cli.training.checkpoint import STATE_FILE, list_checkpoints
from audiogen_cli.training.log import RUN_FILE, read_metrics, read_run
from audiogen_cli.training.recipe import Count, Width, validate

N_WORDS = 10  # most frequent words listed
N_SAMPLES = 3
AUDIO_WINDOW = 60.0  # seconds measured at a time, so that hours of sound need no memory
# Encoders by hub name: d_model, d_ff, layers, heads (the models' own config.json).
T5_SHAPES = {"t5-small": (512, 2048, 6, 8), "t5-base": (768, 3072, 12, 12), "t5-large": (1024, 4096, 24, 16)}
CLIP_WIDTH, CLIP_PARAMETERS = 512, 63_165_952  # of the text transformer of ViT-B/32
T5_VOCABULARY, T5_BUCKETS, T5_HEAD_DIM = 32_128, 32, 64


@dataclass(frozen=True)
class T5Config:
    """The sizes in the config.json of a text encoder."""

    d_model: Width
    d_ff: Width
    num_layers: Width
    num_heads: Width
    vocab_size: Count
    d_kv: Width
    feed_forward_proj: str = "relu"


def describe(path: Path) -> dict[str, Any]:
    """Tell what `path` is, in a dict whose `type` is manifest, manifests, shards, model, checkpoint, run or audio.

    `embedded` is the package's model. Raises InputError if there is nothing, or nothing of these kinds.
    """
    file = path.parent.is_dir() or path.suffix.lower() in AUDIO_SUFFIXES | {".parquet"}  # mistyped: no name on the hub
    if not path.exists() and (str(path) == EMBEDDED_NAME or (HUB_NAME.fullmatch(str(path)) and not file)):
        path = find_model(path)
    if path.is_dir():
        facts = _describe_folder(path)
    elif not path.exists():
        raise InputError(f"{path}: no such file or folder")
    elif path.suffix != ".parquet":
        facts = describe_audio(path)
    else:
        facts = describe_shards(path.parent) if path.name.startswith("shard-") else describe_manifest(path)
    return {"path": str(path), **facts}


def _describe_folder(folder: Path) -> dict[str, Any]:
    manifests = sorted(folder.glob("*.parquet"))
    if (folder / "meta.json").is_file() or any(path.name.startswith("shard-") for path in manifests):
        return describe_shards(folder)
    if (folder / "config.json").is_file():
        return describe_model(folder)
    if (folder / RUN_FILE).is_file() or list_checkpoints(folder):
        return {"type": "run", **_run_facts(folder)}
    if not manifests:
        if sounds := describe_sounds(folder):
            return sounds
        raise InputError(f"{folder} holds no manifests, token shards, model, training run or sounds")
    found = [describe(path) for path in manifests]
    return {
        "type": "manifests",
        "clips": sum(facts["clips"] for facts in found),
        "hours": sum(facts["hours"] for facts in found),
        "dropped": dict(sum((Counter(facts["dropped"]) for facts in found), Counter()).most_common()),
        "manifests": found,
    }


# --- data -----------------------------------------------------------------------------------------------------------


def describe_manifest(path: Path) -> dict[str, Any]:
    """Count the clips, hours, splits, texts and dropped items of one manifest."""
    from audiogen_cli.data.manifest import dropped_file, read_dropped, stream_manifest

    metadata, n_clips, clips = stream_manifest(path)
    splits: dict[str, dict[str, Any]] = {}
    rates: Counter[str] = Counter()
    licenses: Counter[str] = Counter()
    texts = _Texts()
    samples = []
    for number, clip in enumerate(clips):
        counts = splits.setdefault(clip.split, {"clips": 0, "hours": 0.0})
        counts["clips"] += 1
        counts["hours"] += clip.duration / 3600
        rates[str(clip.sample_rate)] += 1
        licenses[clip.license or "not stated"] += 1
        texts.add(clip.texts)
        if number % math.ceil(n_clips / N_SAMPLES) == 0:  # a few from all over the manifest
            samples.append({"id": clip.id, "duration": round(clip.duration, 2), "text": clip.texts[0]})
    return {
        "type": "manifest",
        **metadata,
        "clips": n_clips,
        "hours": sum(counts["hours"] for counts in splits.values()),
        "splits": splits,
        "sample_rates": dict(rates.most_common()),
        "texts": texts.facts(),
        "licences": dict(licenses.most_common()),
        "dropped": dict(Counter(item.reason for item in read_dropped(dropped_file(path))).most_common()),
        "samples": samples,
    }


def describe_shards(folder: Path) -> dict[str, Any]:
    """Return counts, hours, bitrate, texts and left-out rows of a folder of token shards."""
    from audiogen_cli.data.shards import read_meta, read_notes, read_shard, shard_files

    meta = read_meta(folder)
    files = shard_files(folder)
    datasets: Counter[str] = Counter()
    texts = _Texts()
    n_mixed = n_left_out = 0
    samples = []
    for number, file in enumerate(files):
        columns = ["id", "dataset", "texts", "sources", "n_frames"]
        rows = read_shard(file, meta, columns).to_pylist()
        datasets.update(row["dataset"] for row in rows)
        for row in rows:
            texts.add(row["texts"])
        n_mixed += sum(bool(row["sources"]) for row in rows)
        n_left_out += len(read_notes(file))
        if rows and number % math.ceil(len(files) / N_SAMPLES) == 0:
            first, duration = rows[0], round(rows[0]["n_frames"] / meta.frame_rate, 2)
            samples.append({"id": first["id"], "duration": duration, "text": first["texts"][0]})
    return {
        "type": "shards",
        **vars(meta),
        "hours": meta.counts["frames"] / meta.frame_rate / 3600,
        "nominal_kbit_per_s": meta.n_q * math.log2(meta.codebook_size) * meta.frame_rate / 1000,
        "datasets": dict(datasets.most_common()),
        "mixed_rows": n_mixed,
        "dropped": {"unreadable": n_left_out} if n_left_out else {},
        "texts": texts.facts(),
        "samples": samples,
    }


class _Texts:
    """Counts of texts, added up as they pass."""

    def __init__(self) -> None:
        self.different: set[int] = set()  # their hashes: the texts of two million clips would fill the memory
        self.lengths: Counter[int] = Counter()  # in words
        self.words: Counter[str] = Counter()

    def add(self, texts: Iterable[str]) -> None:
        for text in texts:
            words = text.split()
            self.different.add(hash(text))
            self.lengths[len(words)] += 1
            self.words.update(words)

    def facts(self) -> dict[str, Any]:
        count = self.lengths.total()
        median = statistics.median_high(self.lengths.elements()) if count else 0
        return {
            "count": count,
            "different": len(self.different),
            "words": {"fewest": min(self.lengths, default=0), "median": median, "most": max(self.lengths, default=0)},
            "frequent": dict(self.words.most_common(N_WORDS)),
        }


# --- models ---------------------------------------------------------------------------------------------------------


def describe_model(folder: Path) -> dict[str, Any]:
    """Return kind, configuration, sizes, fingerprint and license of a model folder or checkpoint."""
    document = read_document(folder)
    kind = cast(Kind, document.kind)
    if kind == "adapter":
        return describe_adapter(folder)
    config = load_config(folder, kind, LMConfig if kind == "lm" else CodecConfig)
    facts: dict[str, Any] = {
        "type": "checkpoint" if (folder / STATE_FILE).is_file() else "model",
        "kind": kind,
        "audiogen_version": document.audiogen_version,
        **weight_facts(folder / "model.safetensors"),
        "fingerprint": fingerprint(folder),
        "licence": license_line(read_license(folder)),
        "config": document.config,
    }
    if isinstance(config, LMConfig):
        encoder = text_encoder_parameters(config.text)
        facts["parameters_text_encoder"] = encoder
        facts["parameters_with_text_encoder"] = encoder and facts["parameters"] + encoder
        facts["sounds"] = [*known_sounds(folder)]
        facts["probe"] = (folder / PROBE_FILE).is_file()
        facts |= _codec_facts(folder / CODEC_FOLDER, config.codec_fingerprint)
    if (folder / RUN_FILE).is_file() or list_checkpoints(folder):
        facts["run"] = _run_facts(folder)
    return facts


def describe_adapter(folder: Path) -> dict[str, Any]:
    """Return the base, rank, sizes, fingerprint and license of an adapter's folder."""
    base, settings = load_config(folder, "adapter", AdapterBase), load_settings(folder)
    return {
        "type": "adapter",
        **asdict(base),
        "rank": settings.r,
        "alpha": settings.lora_alpha,
        **weight_facts(folder / ADAPTER_FILE),
        "fingerprint": hash_file(folder / ADAPTER_FILE),
        "licence": license_line(read_license(folder)),
        **({"run": _run_facts(folder)} if (folder / RUN_FILE).is_file() else {}),
    }


def text_encoder_parameters(text: TextConfig) -> int | None:
    """Count a text encoder's parameters, from its configuration; None if that says too little."""
    if text.kind == "lookup":
        return 0  # they are the language model's own
    if text.kind == "static":
        folder = Path(text.name) if text.name else RESOURCES / "word_vectors"
        file = folder / "model.safetensors"
        return int(weight_facts(file)["parameters"]) if file.is_file() else None
    name = text.name or HUB_NAMES[text.kind]
    if text.kind == "clip":
        return CLIP_PARAMETERS if name == HUB_NAMES["clip"] else None
    if name in T5_SHAPES:
        return _t5_parameters(*T5_SHAPES[name])
    file = Path(name) / "config.json"
    if not file.is_file():
        return None
    config = validate(T5Config, read_json(file), str(file))
    sizes = (config.d_model, config.d_ff, config.num_layers, config.num_heads, config.vocab_size, config.d_kv)
    return _t5_parameters(*sizes, 3 if config.feed_forward_proj.startswith("gated") else 2)


def text_width(text: TextConfig) -> int | None:
    """Return the width of a text encoder's vectors, from its configuration; None if that says too little."""
    if text.kind == "t5":
        name = text.name or "t5-base"
        file = Path(name) / "config.json"
        known = T5_SHAPES[name][0] if name in T5_SHAPES else None
        return validate(T5Config, read_json(file), str(file)).d_model if file.is_file() else known
    if text.kind == "clip":
        return CLIP_WIDTH if text.name in (None, HUB_NAMES["clip"]) else None
    if text.kind == "lookup":
        return 1
    file = (Path(text.name) if text.name else RESOURCES / "word_vectors") / "model.safetensors"
    if not file.is_file():
        return None
    shape, _ = read_header(file).get("embeddings", ((), ""))
    return shape[1] if len(shape) == 2 else None


def _t5_parameters(
    dim: int,
    ff_dim: int,
    n_layers: int,
    n_heads: int,
    vocabulary: int = T5_VOCABULARY,
    head_dim: int = T5_HEAD_DIM,
    ff_matrices: int = 2,
) -> int:
    """Count embeddings, per layer attention, feed-forward and two norms, a last norm, and position buckets."""
    layer = 4 * dim * n_heads * head_dim + ff_matrices * dim * ff_dim + 2 * dim
    return vocabulary * dim + n_layers * layer + dim + T5_BUCKETS * n_heads


def _codec_facts(folder: Path, fingerprint: str) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        return {"codec": None}
    codec = describe_model(folder)
    return {"codec": codec, "codec_is_its_own": codec["fingerprint"] == fingerprint}


def _run_facts(folder: Path) -> dict[str, Any]:
    """Return recipe, checkpoints and last metrics of a training run."""
    facts: dict[str, Any] = {"checkpoints": [path.name for path in list_checkpoints(folder)]}
    if (folder / RUN_FILE).is_file():
        facts |= asdict(read_run(folder))
    if metrics := read_metrics(folder):
        facts["metrics"] = {line["kind"]: line for line in metrics}  # of each kind (train, val) the last line
    return facts


# --- audio ----------------------------------------------------------------------------------------------------------


def describe_sounds(folder: Path) -> dict[str, Any]:
    """Count the sounds of a folder, their seconds, and prompts, models and licenses in their sidecars; {} if none."""
    from audiogen_cli.data.audio import SOUND_SUFFIXES, probe
    from audiogen_cli.lm.generation.writer import read_sidecar

    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SOUND_SUFFIXES and path.is_file())
    seconds, unreadable = 0.0, 0
    for path in paths:
        try:
            info = probe(path)
            seconds, unreadable = (seconds, unreadable + 1) if info.missing else (seconds + info.duration, unreadable)
        except InputError:
            unreadable += 1
    made = [record for path in paths if (record := read_sidecar(path))]

    def count(name: str) -> dict[str, int]:
        return dict(Counter(str(record.get(name)) for record in made).most_common(N_WORDS))

    facts = {
        "type": "sounds",
        "sounds": len(paths),
        "seconds": seconds,
        "unreadable": unreadable,
        "made_here": len(made),
    }
    return (
        {**facts, "prompts": count("prompt"), "models": count("model"), "licences": count("licence")} if paths else {}
    )


def describe_audio(path: Path) -> dict[str, Any]:
    """Measure rate, channels, duration and loudness of an audio file; add what the file and a sidecar say made it.

    peak, rms, clipped_samples: of its channels' mean, at its own rate. loudness: LUFS, of its channels together, as
    meters show it. tags: see `read_tags`.
    """
    import numpy as np

    from audiogen_cli.data.audio import downmix, probe, read_channels, read_tags
    from audiogen_cli.data.loudness import block_powers, gate, measure

    info = probe(path)
    windows, powers = [], []
    for start in np.arange(0, info.duration, AUDIO_WINDOW).tolist():
        samples, _, subtype = read_channels(path, start, AUDIO_WINDOW)
        windows.append(measure(downmix(samples, path)))
        powers.append(block_powers(samples, info.sample_rate))
    lengths = [min(AUDIO_WINDOW, info.duration - index * AUDIO_WINDOW) for index in range(len(windows))]
    energy = sum(stats.rms**2 * length for stats, length in zip(windows, lengths, strict=True))
    lufs, tags = gate(np.concatenate(powers)), read_tags(path)
    if "copyright" in tags and tags.get("license", tags["copyright"]) == tags["copyright"]:
        tags["license"] = tags.pop("copyright")  # RIFF INFO has no license
    facts = {
        "type": "audio",
        **{name: value for name, value in vars(info).items() if name != "missing"},  # which is 0: all has been read
        "subtype": subtype,
        "peak": max(stats.peak for stats in windows),
        "rms": math.sqrt(energy / info.duration),
        "loudness": lufs if math.isfinite(lufs) else None,
        "clipped_samples": sum(stats.clipped_samples for stats in windows),
        "near_silent": all(stats.near_silent for stats in windows),
        **({"tags": tags} if tags else {}),
    }
    sidecar = path.with_suffix(".json")
    made: Any = None
    if sidecar.is_file():
        with suppress(InputError):
            made = read_json(sidecar)
    return {**facts, "made": made} if isinstance(made, dict) and "model_fingerprint" in made else facts
