"""The command that made a sound, from its sidecar or from what the file says of itself."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from audiogen_cli.data.audio import probe, read_tags
from audiogen_cli.errors import InputError
from audiogen_cli.lm.config import LMConfig
from audiogen_cli.lm.generation.writer import read_sidecar
from audiogen_cli.lm.sampling_config import MAX_SEED, SETTINGS, Sampling
from audiogen_cli.model_folder import EMBEDDED_MODEL, fingerprint, load_config

_COMMENT = re.compile(r"generated; seed (\d+); model (.+) ([0-9a-f]{12})")  # of the tags that `writer` makes


def find_command(sound: Path) -> tuple[str, list[str]]:
    """Return the shell command that makes a sound again, beside it, and what keeps it from giving the same samples.

    Raises InputError if neither a sidecar nor the file itself says what made it.
    """
    if record := read_sidecar(sound):
        words, doubts = _from_record(record)
    else:
        words, doubts = _from_tags(sound)
    again = sound.with_name(f"{sound.stem}-again{sound.suffix}")  # in its place, it would cost the sound or its sidecar
    return shlex.join(["audiogen", *words, "-o", str(again)]), doubts


def _from_record(record: dict[str, Any]) -> tuple[list[str], list[str]]:
    audio, prompt, seed = record.get("prompt_audio"), record.get("prompt"), str(record["seed"] % (MAX_SEED + 1))
    regions = record.get("regions")
    if regions:
        words = ["inpaint", audio, *([prompt] if prompt else []), "--seed", seed]
        words += [word for begin, end in regions for word in ("--region", f"{_plain(begin)}-{_plain(end)}")]
    elif audio:
        words = ["continue", audio, *([prompt] if prompt else []), "--prompt-seconds", _plain(record["prompt_seconds"])]
    else:
        words = ["generate", prompt or "--unconditional"]
    if not regions:
        seconds = record.get("generated_seconds", record["duration"])
        words += ["--seed", seed, "--duration", _plain(seconds)]
    folder = Path(record["model"])
    if folder.resolve() != EMBEDDED_MODEL.resolve():
        words += ["--model", str(folder)]
    words += _flags(record, _own_settings(folder), bool(audio))
    for adapter in record.get("adapters", ()):
        words += ["--adapter", adapter]
    if record.get("dtype", "float32") != "float32":
        words += ["--dtype", record["dtype"]]
    delivery = record.get("delivery", {"normalize": "-23 LUFS"} if record.get("normalized") else {})
    for name, value in delivery.items():
        level = re.sub(r"^peak (\S+) dBFS$", r"peak:\1", str(value)).removesuffix(" LUFS")
        words += [f"--{name}"] if value is True else [f"--{name}", level]
    return words, _doubts(record, folder)


def _flags(record: dict[str, Any], own: Sampling | None, continued: bool) -> list[str]:
    """Return flags of the sampling settings that are not the model's own; of all if that is not known."""
    words = []
    for setting in SETTINGS:
        value = record.get(setting.name, setting.default)
        if (continued and setting.name in {"layers", "timing", "loop"}) or value == (
            getattr(own, setting.name) if own else None
        ):
            continue
        if value is not False and value != "":
            flag = f"--{setting.name.replace('_', '-')}"
            words += [flag] if value is True else [flag, _plain(value)]
    return words


def _own_settings(folder: Path) -> Sampling | None:
    try:
        return load_config(folder, "lm", LMConfig).sampling
    except InputError:
        return None


def _doubts(record: dict[str, Any], folder: Path) -> list[str]:
    doubts = []
    try:
        if not record.get("adapters") and fingerprint(folder) != record["model_fingerprint"]:
            doubts.append(f"{folder} holds another model by now")
    except InputError:
        doubts.append(f"the model is not at {folder} any more")
    if str(record.get("device", "cpu")) != "cpu":
        doubts.append(f"it was made on {record['device']}, where samples may differ a little")
    if (audio := record.get("prompt_audio")) and not Path(audio).is_file():
        doubts.append(f"{audio}, which it continues, is not there any more")
    if record["seed"] > MAX_SEED and "candidates" in record and record["candidates"] * record["layers"] > 1:
        doubts.append(f"seeds of its parts were derived from {record['seed']}, beyond what seeds may be now")
    if record.get("source"):
        doubts.append(f"it was converted from {record['source']}")
    return doubts


def _from_tags(sound: Path) -> tuple[list[str], list[str]]:
    tags = read_tags(sound)
    match = _COMMENT.fullmatch(tags.get("comment", ""))
    if not match:
        raise InputError(f"{sound}: no sidecar, and the file does not say that audiogen made it")
    number, model, started = match.groups()
    seed = str(int(number) % (MAX_SEED + 1))
    info = probe(sound)
    words = ["generate", tags.get("title", "--unconditional"), "--seed", seed, "--duration", _plain(info.duration)]
    doubts = [
        "without its sidecar (--json or --out-dir writes one) its sampling settings are not known, nor whether it "
        "continues a sound, was trimmed or converted: the model's own settings are taken"
    ]
    if not fingerprint(EMBEDDED_MODEL).startswith(started):
        words += ["--model", model]
        doubts.append(f"--model must be the folder of the model {model}, {started}…")
    return words, doubts


def _plain(value: Any) -> str:
    """Write a number without a needless point, and so that it is read back as it is."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
