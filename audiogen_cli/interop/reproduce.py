"""The command that made a sound, from its sidecar or from what the file says of itself."""

from __future__ import annotations

import re
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

from audiogen_cli.data.audio import probe, read_tags
from audiogen_cli.errors import InputError
from audiogen_cli.lm.adapters import adapted_fingerprint, find_adapters
from audiogen_cli.lm.config import LMConfig
from audiogen_cli.lm.generation.delivery import deliveries_before
from audiogen_cli.lm.generation.requests import SINGLE, describe_audio, read_long
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
    audio, seed = record.get("prompt_audio", ""), str(record["seed"] % (MAX_SEED + 1))
    prompt, regions = _word(record.get("prompt") or ""), record.get("regions")
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
    dtype = record.get("dtype", "float32")
    config: LMConfig | None = None
    with suppress(InputError):  # the model is gone
        config = load_config(folder, "lm", LMConfig)
    if other := folder.resolve() != EMBEDDED_MODEL.resolve():
        words += ["--model", str(folder)]
    words += _flags(record, config.sampling if config else None, bool(audio))
    for adapter in record.get("adapters", ()):
        words += ["--adapter", adapter]
    if record.get("device") == "cpu":  # where there is an accelerator, auto would take that
        words += ["--device", "cpu"]
    if dtype != "float32" or (other and "dtype" in record):  # what auto is depends on model and machine
        words += ["--dtype", dtype]
    delivery = record.get("delivery", {"normalize": "-23 LUFS"} if record.get("normalized") else {})
    for name, value in delivery.items():
        level = re.sub(r"^peak (\S+) dBFS$", r"peak:\1", str(value)).removesuffix(" LUFS")
        words += [f"--{name}"] if value is True else [f"--{name}", level]
    return words, _doubts(record, folder, config)


def _flags(record: dict[str, Any], own: Sampling | None, continued: bool) -> list[str]:
    """Return flags of the sampling settings that are not the model's own; of all if that is not known."""
    words = []
    for setting in SETTINGS:
        value, flag = record.get(setting.name, setting.default), setting.name.replace("_", "-")
        if (continued and setting.name in SINGLE) or value == (getattr(own, setting.name) if own else None):
            continue
        if isinstance(value, bool):
            words += [f"--{flag}"] if value else [f"--no-{flag}"] if own else []
        elif value != "" or own:
            words += [f"--{flag}", _plain(value)]
    return words


def _doubts(record: dict[str, Any], folder: Path, config: LMConfig | None) -> list[str]:
    doubts, adapters = list[str](), record.get("adapters", ())
    gone = [each for each in adapters if not Path(each.rpartition("=")[0] or each).is_dir()]
    try:
        if not gone and adapted_fingerprint(folder, find_adapters(adapters, folder)) != record["model_fingerprint"]:
            doubts.append(f"{' + '.join([str(folder), *adapters])} holds another model by now")
    except InputError as error:
        doubts.append(str(error) if config else f"the model is not at {folder} any more")
    doubts += [f"the adapter {each} is not there any more" for each in gone]
    if str(record.get("device", "cpu")) != "cpu":
        doubts.append(f"it was made on {record['device']}, where samples may differ a little")
    if (audio := record.get("prompt_audio")) and not _is_read_again(Path(audio), record, config):
        doubts.append(f"{audio}, which it continues, is not what it was, or not there any more")
    if record["seed"] > MAX_SEED and "candidates" in record and record["candidates"] * record["layers"] > 1:
        doubts.append(f"seeds of its parts were derived from {record['seed']}, beyond what seeds may be now")
    if record.get("source"):
        doubts.append(f"it was converted from {record['source']}")
    if before := deliveries_before(record):
        steps = ", then ".join(" ".join(f"{name} {value}" for name, value in step.items()) for step in before)
        doubts.append(f"before that it was delivered with {steps}, which the command leaves out")
    return doubts


def _is_read_again(audio: Path, record: dict[str, Any], config: LMConfig | None) -> bool:
    """Return whether prompt audio is what it was; where a record holds no hash of it, whether it is there."""
    if config is None or "prompt_sha256" not in record:
        return audio.is_file()
    try:
        wav = read_long(audio, config.sample_rate, record.get("prompt_seconds") or probe(audio).duration)
    except InputError:
        return False
    return describe_audio(audio, wav)["prompt_sha256"] == record["prompt_sha256"]


def _from_tags(sound: Path) -> tuple[list[str], list[str]]:
    tags = read_tags(sound)
    match = _COMMENT.fullmatch(tags.get("comment", ""))
    if not match:
        raise InputError(f"{sound}: no sidecar, and the file does not say that audiogen made it")
    number, model, started = match.groups()
    seed = str(int(number) % (MAX_SEED + 1))
    words = ["generate", _word(tags.get("title", "")) or "--unconditional", "--seed", seed]
    words += ["--duration", _plain(probe(sound).duration)]
    doubts = [
        "without its sidecar (--json or --out-dir writes one) its sampling settings are not known, nor whether it "
        "continues a sound, was trimmed or converted: the model's own settings are taken"
    ]
    if not fingerprint(EMBEDDED_MODEL).startswith(started):
        words += ["--model", model]
        doubts.append(f"--model must be the folder of the model {model}, {started}…")
    return words, doubts


def _word(prompt: str) -> str:
    """Return a prompt that is not taken for an option: blanks around it are taken off."""
    return f" {prompt}" if prompt.startswith("-") else prompt


def _plain(value: Any) -> str:
    """Write a number without a needless point, and so that it is read back as it is."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
