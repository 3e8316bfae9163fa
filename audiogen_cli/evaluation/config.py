"""What one evaluation is asked for, and what it finds; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audiogen_cli.devices import check_device
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.networks.base import BACKENDS, CLASSIFIERS
from audiogen_cli.lm.config import Sampling

Progress = Callable[[int, int], None]  # told (done, total) as the clips go by; a new total begins a new pass

# Task → its metrics, the default ones first; the number says how many of them are the default.
METRICS = {
    "generation": ("fad", "kl", "fad_infinity", "kl_reverse", "kl_exact", "kl_sigmoid", "is", "clap", "class_hits"),
    "continuation": ("fad", "kl"),
    "codec": ("si_snr", "visqol", "mel_distance", "bitrate", "code_usage"),
}
UNPAIRED_METRICS = ("fad", "fad_infinity", "is")  # these need no partner for a clip
PROMPT_SECONDS, PROMPT_TEXTS = (0.5, 1.0, 2.0, 3.0, 4.0), ("src", "none", "rnd")  # Table 4
DEFAULT_METRICS = {"generation": ("fad", "kl"), "continuation": ("fad", "kl"), "codec": METRICS["codec"]}


@dataclass(frozen=True)
class EvalConfig:
    """One call of `audiogen eval`. Raises InputError for what does not exist, go together or lie in range."""

    out: Path  # results.json, and generated/ where a model makes the audio
    task: str = "generation"
    split: str | None = None  # <dataset>-<split>
    manifests: Path = Path("data/manifests")
    model: Path | None = None  # None: AUDIOGEN_MODEL, else the model shipped in the package
    generated: Path | None = None  # a folder of audio by any system, in place of a model
    reference: Path | None = None  # a folder of audio in place of the split's recordings
    metrics: tuple[str, ...] = ()  # (): the task's default ones
    classifier: str = "auto"  # auto: the best backend whose file is here
    embedding: str | None = None  # the backend behind FAD, if it is not the default one
    weights: tuple[tuple[str, Path], ...] = ()  # backend and its file
    download: bool = False  # fetch a missing file
    unpaired: bool = False  # the generated clips are no partners of the references
    prompt_seconds: tuple[float, ...] = PROMPT_SECONDS  # continuation: how much of a clip is continued
    limit: int | None = None  # clips
    seed: int = 0
    sampling: Mapping[str, Any] = field(default_factory=dict)  # settings that differ from the model's own
    batch_size: int | None = None
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        if self.task not in METRICS:
            raise InputError(f"unknown task '{self.task}': choose one of {', '.join(METRICS)}")
        for name in self.metrics:
            if name not in METRICS[self.task]:
                known = ", ".join(METRICS[self.task])
                raise InputError(f"unknown metric '{name}' for the task {self.task}: choose from {known}")
        if self.split is None and self.reference is None:
            raise InputError("nothing to compare with: give --split <dataset>-<split>, or --reference FOLDER")
        if self.task == "codec" and self.generated is not None:
            raise InputError("--generated does not go with --task codec, which decodes the clips itself")
        if self.task == "generation" and self.split is None and self.generated is None:
            raise InputError("a model needs texts to generate from: give --split, or --generated FOLDER to score audio")
        self._check_networks()
        if self.unpaired:
            self._check_unpaired()
        if self.task == "continuation":
            self._check_continuation()
        check_device(self.device)
        try:
            Sampling().override(self.sampling)
        except ValueError as error:
            raise InputError(str(error)) from None

    def _check_networks(self) -> None:
        for name, known in ((self.classifier, ("auto", *CLASSIFIERS)), (self.embedding, BACKENDS)):
            if name is not None and name not in known:
                kind = "classifier" if known is not BACKENDS else "embedding"
                raise InputError(f"unknown {kind} '{name}': choose one of {', '.join(known)}")
        for name, path in self.weights:
            if name not in BACKENDS:
                raise InputError(f"--weights {name}={path}: choose one of {', '.join(BACKENDS)}")

    def _check_unpaired(self) -> None:
        if self.task != "generation" or self.generated is None:
            raise InputError("--unpaired goes with --generated FOLDER: a model's sounds always have their partner")
        for name in self.metrics:
            if name not in UNPAIRED_METRICS:
                left = ", ".join(UNPAIRED_METRICS)
                raise InputError(f"{name} compares each clip with its partner: with --unpaired there are {left}")

    def _check_continuation(self) -> None:
        if self.generated is not None or self.split is None:
            raise InputError("--task continuation continues a split's clips with a model: give --split and --model")
        if not self.prompt_seconds or min(self.prompt_seconds) <= 0:
            raise InputError("--prompt-seconds takes numbers of seconds above 0, such as 0.5,1,2,3,4")

    @property
    def chosen_metrics(self) -> tuple[str, ...]:
        """The metrics to compute."""
        return self.metrics or DEFAULT_METRICS[self.task]


@dataclass(frozen=True)
class Skipped:
    """A clip that is in no number, and why."""

    id: str
    reason: str


@dataclass
class Findings:
    """What a task found; `results.json` holds all of it.

    metrics, baselines: name → value, None where a value does not exist (too few clips). inputs: whatever the numbers
    depend on. details: breakdowns. warnings: one sentence each.
    """

    n: int  # clips scored
    n_available: int  # clips that the split or folder has
    metrics: dict[str, float | None]
    inputs: dict[str, Any]
    baselines: dict[str, dict[str, float | None]] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)  # 95% over clips
    details: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    published: dict[str, dict[str, float]] = field(default_factory=dict)  # rows that compare, from papers
