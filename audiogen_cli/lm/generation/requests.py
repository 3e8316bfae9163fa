"""From prompts and flags to a list of sounds to generate: seeds, durations, settings and file names, checked before a
model is loaded."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiogen_cli.data.audio import FORMATS, check_output, probe, read_audio
from audiogen_cli.data.loudness import AudioStats
from audiogen_cli.errors import InputError
from audiogen_cli.files import check_name
from audiogen_cli.lm.config import LMConfig, Sampling
from audiogen_cli.lm.sampling_config import MAX_SEED
from audiogen_cli.model_folder import find_model, load_config

if TYPE_CHECKING:
    import numpy as np

MIN_DURATION, MAX_DURATION = 1e-3, 1e7  # seconds
WHOLE_SECONDS = 86_400.0  # of a sound that memory holds whole
MAX_SOUNDS = 100_000  # in one run
CONTINUE_SECONDS = 5.0
READ_SECONDS = 300  # of a sound to continue read at once: hours at its own rate and channels would fill the memory
SLUG_LENGTH = 40
SINGLE = {"layers": 1, "timing": "", "loop": False}  # settings for a sound that is continued or mended: it is one
STDOUT = "-"  # the output that is no file; only a stream can go there
# Entries of a sidecar that are ours, whatever the columns of a prompt file are called.
ENTRIES = {*Sampling.__dataclass_fields__, *AudioStats.__dataclass_fields__}
ENTRIES |= {"path", "prompt", "text", "seed", "duration", "sample_rate", "model", "model_fingerprint", "licence"}
ENTRIES |= {"device", "dtype", "audiogen_version", "loudness", "gain_db", "normalized", "first_sound", "columns"}
ENTRIES |= {"rights", "scores", "kept_candidates", "unknown_words", "adapters", "channels", "generated_seconds"}
ENTRIES |= {"deliveries_before"}
ENTRIES |= {"trimmed", "delivery", "source", "regions", "prompt_audio", "prompt_seconds", "prompt_sha256"}


@dataclass(frozen=True)
class Prompt:
    """A sound to generate as a user describes it; None leaves a value to the command's flags.

    text: None generates without text. duration: seconds. name: file stem or file name in the output folder.
    overrides: sampling settings. extra: a file's other columns, as found, for the sidecar. where: names the prompt in
    error messages.
    """

    text: str | None
    seed: int | None = None
    duration: float | None = None
    name: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    where: str = "prompt"


@dataclass(frozen=True)
class GenerationRequest:
    """One sound to generate.

    text: the prompt as written; None: without text. duration: seconds of the whole result. sampling: by default the
    paper's, not those of a model (`Generator.request`). prompt_audio: [n] float samples at the model's rate, which the
    result begins with. regions: parts of it, [begin, end) in samples, that a diffusion model generates anew; the result
    is then as long as the audio and equal to it elsewhere. output: the file to write. extra: columns of a prompt file
    for its sidecar; facts: entries about the prompt audio. seed_drawn: drawn at random, so a finished sound with
    another counts, too.
    """

    text: str | None
    seed: int
    duration: float
    sampling: Sampling = field(default_factory=Sampling)
    prompt_audio: np.ndarray | None = None
    output: Path = Path()
    extra: Mapping[str, Any] = field(default_factory=dict)
    seed_drawn: bool = False
    regions: tuple[tuple[int, int], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def new_seconds(self, sample_rate: int) -> float:
        """Return the seconds that are generated."""
        if self.regions:
            return sum(end - begin for begin, end in self.regions) / sample_rate
        return self.duration - (0.0 if self.prompt_audio is None else len(self.prompt_audio) / sample_rate)


def plan_requests(
    prompts: Sequence[Prompt], defaults: GenerationRequest, n_samples: int, output: Path | None, folder: Path | None
) -> list[GenerationRequest]:
    """List the sounds to generate, `n_samples` for each prompt, in order.

    defaults: whatever a prompt leaves open. Seeds: the i-th sound of a prompt (from 0) gets the prompt's seed + i; a
    repeated text without its own seed continues counting, so that no two sounds are equal. Names in `folder`: the
    prompt's name, else its number and first words; with several samples `-1`, `-2` … follow. With prompt audio in
    `defaults` all of them continue it.
    Raises InputError for anything that would fail later: values out of range, names that collide, output that cannot
    be written, several sounds for one `output`.
    """
    n_sounds = len(prompts) * n_samples
    if output and n_sounds > 1:
        raise InputError(f"-o {output}: {n_sounds} sounds cannot go into one file; use --out-dir")
    if n_sounds > MAX_SOUNDS:
        raise InputError(f"{n_sounds} sounds: a run makes at most {MAX_SOUNDS}; divide them among several")
    requests: list[GenerationRequest] = []
    used_seeds: Counter[str | None] = Counter()
    for number, prompt in enumerate(prompts, 1):
        first_seed = defaults.seed + used_seeds[prompt.text] if prompt.seed is None else prompt.seed
        used_seeds[prompt.text] += n_samples if prompt.seed is None else 0
        for index, name in enumerate(_names(prompt, number, n_samples)):
            path = output or (folder or Path()) / name
            requests.append(_request(prompt, defaults, first_seed + index, path))
    _check_outputs(requests)
    return requests


def continue_from(
    defaults: GenerationRequest, audio: Path, prompt_seconds: float | None, sample_rate: int
) -> GenerationRequest:
    """Return the defaults with a sound to continue, and a duration of CONTINUE_SECONDS more than what is kept of it.

    prompt_seconds: how much of `audio` to keep, by default all. sample_rate: the model's.
    Raises InputError for values out of range and unreadable audio.
    """
    check_text(str(audio), str(audio))
    available = probe(audio).duration
    kept = available if prompt_seconds is None else prompt_seconds
    if available < MIN_DURATION:
        raise InputError(
            f"{audio} lasts only {available:g} s; what is to be continued lasts at least {MIN_DURATION:g} s"
        )
    if not math.isfinite(kept) or kept < MIN_DURATION:
        raise InputError(f"--prompt-seconds must be a number of seconds above 0, got {kept:g}")
    if round(kept * sample_rate) > round(available * sample_rate):
        raise InputError(f"--prompt-seconds {kept:g}: {audio} lasts only {available:g} s")
    wav = read_long(audio, sample_rate, kept)
    facts = {**describe_audio(audio, wav), "prompt_seconds": len(wav) / sample_rate}
    return replace(defaults, duration=kept + CONTINUE_SECONDS, prompt_audio=wav, facts=facts)


def describe_audio(audio: Path, wav: np.ndarray) -> dict[str, str]:
    """Return entries of a sidecar for prompt audio: its path, and a hash of what was read of it."""
    return {"prompt_audio": str(audio), "prompt_sha256": hashlib.sha256(wav.tobytes()).hexdigest()}


def check_source(audio: Path, output: Path | None, sample_rate: int) -> None:
    """Raise InputError if the result, which is mono at the model's rate, would replace audio that is more than that."""
    if output and output.exists() and audio.exists() and output.samefile(audio):
        info = probe(audio)
        if (info.sample_rate, info.channels) != (sample_rate, 1):
            raise InputError(f"-o {output} would replace its source by mono at {sample_rate} Hz; give another name")


def find_language_model(name: str | None) -> tuple[Path, LMConfig]:
    """Find a language model's folder and read its configuration, without torch. Raises InputError if it is none."""
    folder = find_model(name)
    return folder, load_config(folder, "lm", LMConfig)


def override(sampling: Sampling, given: Mapping[str, Any], where: str = "") -> Sampling:
    """Call `Sampling.override`. Raises InputError, with `where` in front, if a setting is out of range."""
    try:
        return sampling.override(given)
    except ValueError as error:
        raise InputError(f"{where}: {error}" if where else str(error)) from None


def check_text(text: str | None, where: str) -> None:
    """Raise InputError if `text` came of bytes that are no text, or holds half a character."""
    try:
        (text or "").encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: character {error.start + 1} is no text; write it in UTF-8") from None


def as_samples(audio: np.ndarray | None) -> np.ndarray | None:
    """Return prompt audio as float32 [n]. Raises InputError unless it is one channel of finite floats."""
    import numpy as np

    if audio is None:
        return None
    wav = np.asarray(audio)
    if wav.ndim != 1 or wav.dtype.kind != "f" or not np.isfinite(wav).all():
        raise InputError(f"prompt_audio must be [n] finite floats in [-1, 1], not {wav.shape} {wav.dtype}")
    return wav.astype(np.float32, copy=False)


def check_regions(regions: Sequence[tuple[int, int]], n_audio: int, n_samples: int) -> None:
    """Raise InputError unless regions, in samples, are in order and within audio that is as long as the result."""
    bounds = [place for region in regions for place in region]
    fit = bounds == sorted(set(bounds)) and bounds[0] >= 0 and bounds[-1] <= n_audio == n_samples
    if not fit or any(isinstance(place, float) for place in bounds):
        said = f"regions {regions} are not [begin, end) in samples, in order and apart,"
        raise InputError(f"{said} of prompt_audio ({n_audio} samples) as long as the result ({n_samples})")


def check_files(path: Path, tried: set[Path] | None = None) -> None:
    """Raise InputError unless a sound and its sidecar can be written under a name, and a record can hold it.

    tried: as for `check_output`.
    """
    check_text(str(path), str(path))
    try:
        check_output(path, tried)
        check_name(path.with_suffix(".json"))  # its sidecar
    except OSError as error:  # a name that the file system refuses
        raise InputError(f"{path}: {error.strerror or error}") from None


def own_columns(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Keep a prompt file's columns that are called as entries of ours apart, under `columns`."""
    ours = extra.keys() & ENTRIES
    rest = {name: value for name, value in extra.items() if name not in ours}
    return {**rest, "columns": {name: extra[name] for name in sorted(ours)}} if ours else rest


def slug(text: str) -> str:
    """Turn the first words of a text into a file name: lower case, joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:SLUG_LENGTH].strip("-") or "sound"


def _request(prompt: Prompt, defaults: GenerationRequest, seed: int, output: Path) -> GenerationRequest:
    duration = defaults.duration if prompt.duration is None else prompt.duration
    if not MIN_DURATION <= duration <= MAX_DURATION:
        limits = f"above 0, at most {MAX_DURATION:g}"
        raise InputError(f"{prompt.where}: duration must be a number of seconds {limits}, got {duration:g}")
    kept = defaults.facts.get("prompt_seconds", 0.0)
    if kept and round(duration / kept * len(defaults.prompt_audio)) <= len(defaults.prompt_audio):  # type: ignore[arg-type]
        raise InputError(
            f"--duration {duration:g} is the length of the whole result: it must be more than the {kept:g} s kept of "
            f"{defaults.facts['prompt_audio']}"
        )
    if not 0 <= seed <= MAX_SEED:
        said = f"{seed:.6g}" if abs(seed) > 1e15 else f"{seed}"
        counted = "; seeds count up from --seed" if prompt.seed is None and seed > defaults.seed else ""
        raise InputError(f"{prompt.where}: seed {said} is not between 0 and {MAX_SEED}{counted}")
    sampling = override(defaults.sampling, prompt.overrides, prompt.where)
    check_text(prompt.text, prompt.where)
    check_text(sampling.negative, f"{prompt.where}: negative")
    drawn = defaults.seed_drawn and prompt.seed is None
    own: dict[str, Any] = {"text": prompt.text, "seed": seed, "duration": duration, "sampling": sampling}
    return replace(defaults, **own, output=output, extra=prompt.extra, seed_drawn=drawn)


def read_long(audio: Path, sample_rate: int, duration: float) -> np.ndarray:
    """Read audio from the start, READ_SECONDS at a time."""
    import numpy as np

    n_samples, step = round(duration * sample_rate), READ_SECONDS * sample_rate
    bounds = [(start / sample_rate, min(step, n_samples - start) / sample_rate) for start in range(0, n_samples, step)]
    return np.concatenate([read_audio(audio, sample_rate, *each) for each in bounds])


def _names(prompt: Prompt, number: int, n_samples: int) -> list[str]:
    if prompt.name is None:
        stem, suffix = f"{number:04d}-{slug(prompt.text or 'no text')}", ".wav"
    else:
        given = Path(prompt.name)
        known = given.suffix.lower() in FORMATS
        stem, suffix = (given.stem, given.suffix) if known else (prompt.name, ".wav")
    return [f"{stem}{f'-{index + 1}' if n_samples > 1 else ''}{suffix}" for index in range(n_samples)]


def _check_outputs(requests: Sequence[GenerationRequest]) -> None:
    seen: dict[Path, GenerationRequest] = {}
    tried = set[Path]()
    for request in requests:
        if str(request.output) != STDOUT:
            check_files(request.output, tried)
        # Without the suffix: two formats of one name would share a sidecar.
        other = seen.setdefault(request.output.with_suffix(""), request)
        if other is not request:
            raise InputError(
                f"'{other.text}' and '{request.text}' would both be written to {request.output}; change a name"
            )
