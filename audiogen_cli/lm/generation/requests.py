"""From prompts and flags to a list of files to make: seeds, durations, settings and names, all checked beforehand."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiogen_cli.data.audio import FORMATS, check_output, probe, read_audio
from audiogen_cli.data.prompts import MAX_SEED, Prompt
from audiogen_cli.errors import InputError
from audiogen_cli.lm.config import LMConfig, Sampling
from audiogen_cli.model_folder import find_model, load_config

if TYPE_CHECKING:
    import numpy as np

MIN_DURATION = 1e-3  # seconds
CONTINUE_SECONDS = 5.0
READ_SECONDS = 300
SLUG_LENGTH = 40
STDOUT = "-"  # the output that is no file; only a stream can go there


@dataclass(frozen=True)
class Settings:
    """Sampling settings as given; None leaves one to the model (`Sampling` says what each means)."""

    guidance: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    temperature: float | None = None
    candidates: int | None = None
    layers: int | None = None

    def over(self, own: Sampling) -> Sampling:
        """The model's `own` settings with the given ones in their place. Raises ValueError if one is out of range."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        for name, value in given.items():
            if not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, got {value}")
        return replace(own, **given)


@dataclass(frozen=True)
class Job:
    """One file to make.

    text: the prompt as written; None: without text. duration: seconds of the whole result. prompt_audio: samples
    [n] at the model's rate that the result begins with. extra: further entries for its sidecar.
    """

    output: Path
    text: str | None
    seed: int
    duration: float
    settings: Settings = field(default_factory=Settings)
    prompt_audio: np.ndarray | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    seed_drawn: bool = False  # nobody asked for just this seed

    def new_seconds(self, sample_rate: int) -> float:
        """The part of the result that is generated."""
        return self.duration - (0.0 if self.prompt_audio is None else len(self.prompt_audio) / sample_rate)


@dataclass(frozen=True)
class Defaults:
    """What the flags say for prompts that do not say otherwise. seed_drawn: no flag gave the seed."""

    seed: int
    duration: float
    settings: Settings = field(default_factory=Settings)
    seed_drawn: bool = False


def plan(
    prompts: Sequence[Prompt], defaults: Defaults, n_samples: int, output: Path | None, folder: Path | None
) -> list[Job]:
    """List the files to make, `n_samples` for each prompt, in order.

    Seeds: the i-th file of a prompt (from 0) gets the prompt's seed + i; a text that comes up again without a seed of
    its own goes on counting, so that no two files are alike. Names in `folder`: the prompt's name, else its number
    and first words; with several samples `-1`, `-2` … follow.
    Raises InputError for anything that would fail later: values out of range, names that collide, output that cannot
    be written, several files for one `output`.
    """
    if output and len(prompts) * n_samples > 1:
        raise InputError(f"-o {output}: {len(prompts) * n_samples} sounds cannot go into one file; use --out-dir")
    jobs: list[Job] = []
    taken: Counter[str | None] = Counter()
    for number, prompt in enumerate(prompts, 1):
        first_seed = defaults.seed + taken[prompt.text] if prompt.seed is None else prompt.seed
        taken[prompt.text] += n_samples if prompt.seed is None else 0
        names = _names(prompt, number, n_samples)
        for index in range(n_samples):
            path = output or (folder or Path()) / names[index]
            jobs.append(_job(prompt, defaults, first_seed + index, path))
    _check_outputs(jobs)
    return jobs


def plan_continuation(prompt: Prompt, audio: Path, prompt_seconds: float | None, output: Path, sample_rate: int) -> Job:
    """The job that goes on from a sound.

    prompt: its seed must be set; its duration is that of the whole result, by default CONTINUE_SECONDS more than
    what is kept. prompt_seconds: how much of `audio` to keep, by default all. sample_rate: the model's.
    Raises InputError for values out of range, unreadable audio, or a result no longer than what is kept.
    """
    _check_output(output)
    available = probe(audio).duration
    kept = available if prompt_seconds is None else prompt_seconds
    if not math.isfinite(kept) or kept < MIN_DURATION:
        raise InputError(f"--prompt-seconds must be a number of seconds above 0, got {kept:g}")
    if kept > available:
        raise InputError(f"--prompt-seconds {kept:g}: {audio} lasts only {available:g} s")
    job = _job(prompt, Defaults(0, kept + CONTINUE_SECONDS), prompt.seed or 0, output)
    wav = _read_long(audio, sample_rate, kept)
    if round(job.duration * sample_rate) <= len(wav):
        raise InputError(
            f"--duration {job.duration:g} is the length of the whole result: more than the {kept:g} s kept of {audio}"
        )
    facts = {"prompt_audio": str(audio), "prompt_seconds": len(wav) / sample_rate}
    return replace(job, prompt_audio=wav, extra=facts)


def _read_long(audio: Path, sample_rate: int, duration: float) -> np.ndarray:
    """`read_audio` from the start, in pieces: decoded at their own rate and channels, hours would fill the memory."""
    import numpy as np

    starts = range(0, math.ceil(duration), READ_SECONDS)
    return np.concatenate([read_audio(audio, sample_rate, s, min(READ_SECONDS, duration - s)) for s in starts])


def find_language_model(name: str | None) -> tuple[Path, LMConfig]:
    """A language model's folder and configuration, found without torch. Raises InputError if it is none."""
    folder = find_model(name)
    return folder, load_config(folder, "lm", LMConfig)


def check_texts(jobs: Sequence[Job], config: LMConfig) -> None:
    """Raises InputError if nothing of a job's text would reach the model."""
    for job in jobs:
        if job.text is not None and not model_text(job.text, config):
            raise InputError(f"prompt '{job.text}' holds no word; name a sound")


def model_text(text: str, config: LMConfig) -> str:
    """A prompt as the model reads it (sec. 4.1)."""
    if config.text_processing == "none":
        return text
    from audiogen_cli.data.captions import process_caption

    return process_caption(text)


def _job(prompt: Prompt, defaults: Defaults, seed: int, output: Path) -> Job:
    given = {name: getattr(prompt, name) for name in Settings.__dataclass_fields__}
    settings = replace(defaults.settings, **{name: value for name, value in given.items() if value is not None})
    duration = defaults.duration if prompt.duration is None else prompt.duration
    check_duration(duration, prompt.where)
    try:
        settings.over(Sampling())
    except ValueError as error:
        raise InputError(f"{prompt.where}: {error}") from None
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"{prompt.where}: seed {seed} is not between 0 and {MAX_SEED}")
    drawn = defaults.seed_drawn and prompt.seed is None
    return Job(output, prompt.text, seed, duration, settings, extra=prompt.extra, seed_drawn=drawn)


def check_duration(duration: float, where: str) -> None:
    """Raises InputError unless `duration` is a positive number of seconds, long enough for a sample."""
    if not math.isfinite(duration) or duration < MIN_DURATION:
        raise InputError(f"{where}: duration must be a number of seconds above 0, got {duration:g}")


def _names(prompt: Prompt, number: int, n_samples: int) -> list[str]:
    if prompt.name is None:
        words = re.sub(r"[^a-z0-9]+", "-", (prompt.text or "no text").lower()).strip("-")[:SLUG_LENGTH].strip("-")
        stem, suffix = f"{number:04d}-{words or 'sound'}", ".wav"
    else:
        given = Path(prompt.name)
        known = given.suffix.lower() in FORMATS
        stem, suffix = (given.stem, given.suffix) if known else (prompt.name, ".wav")
    return [f"{stem}{f'-{index + 1}' if n_samples > 1 else ''}{suffix}" for index in range(n_samples)]


def _check_output(path: Path) -> None:
    try:
        check_output(path)
    except OSError as error:  # a name that the file system does not take
        raise InputError(f"{path}: {error.strerror or error}") from None


def _check_outputs(jobs: Sequence[Job]) -> None:
    seen: dict[Path, Job] = {}
    for job in jobs:
        if str(job.output) != STDOUT:
            _check_output(job.output)
        # Without the suffix: two formats of one name would share a sidecar.
        other = seen.setdefault(job.output.with_suffix(""), job)
        if other is not job:
            raise InputError(f"'{other.text}' and '{job.text}' would both be written to {job.output}; change a name")
