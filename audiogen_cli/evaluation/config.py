"""The options of one evaluation; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audiogen_cli.devices import check_device
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.metrics import registry as metrics
from audiogen_cli.evaluation.networks.base import WeightSource
from audiogen_cli.evaluation.networks.registry import AUTO, CLASSIFIERS, NETWORKS
from audiogen_cli.lm.config import Sampling
from audiogen_cli.lm.generation.requests import WHOLE_SECONDS

# Task → its metrics, all and the default ones.
METRICS = {"generation": tuple(metrics.GENERATION), "continuation": ("fad", "kl"), "codec": tuple(metrics.CODEC)}
DEFAULT_METRICS = {"generation": ("fad", "kl"), "continuation": ("fad", "kl"), "codec": METRICS["codec"]}
PROMPT_SECONDS, PROMPT_TEXTS = (0.5, 1.0, 2.0, 3.0, 4.0), ("src", "none", "rnd")  # Table 4


@dataclass(frozen=True)
class EvalConfig:
    """One call of `audiogen eval`. Raises InputError for unknown, impossible or contradicting options."""

    out: Path  # for results.json, and generated/ if a model makes the audio
    task: str = "generation"
    split: str | None = None  # <dataset>-<split>
    manifests: Path = Path("data/manifests")
    model: Path | None = None  # None: AUDIOGEN_MODEL, else the model shipped in the package
    adapters: tuple[str, ...] = ()  # added to the model: FOLDER or FOLDER=STRENGTH
    generated: Path | None = None  # a folder of audio by any system, instead of a model
    reference: Path | None = None  # a folder of audio, instead of the split's recordings
    metrics: tuple[str, ...] = ()  # (): the task's default ones
    classifier: str = AUTO  # auto: the best network whose file is here
    embedding: str | None = None  # the network of FAD, if it is not the default one
    weights: tuple[tuple[str, Path], ...] = ()  # network and its file
    download: bool = False  # fetch a missing file
    unpaired: bool = False  # the generated clips do not belong to the references one by one
    prompt_seconds: tuple[float, ...] = PROMPT_SECONDS  # continuation: lengths of the prompts
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
        if self.adapters and (self.task == "codec" or self.generated is not None):
            raise InputError("--adapter changes a language model that generates: leave it out here")
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
        if self.classifier not in (AUTO, *CLASSIFIERS):
            raise InputError(f"unknown classifier '{self.classifier}': choose one of {AUTO}, {', '.join(CLASSIFIERS)}")
        if self.embedding is not None and self.embedding not in NETWORKS:
            raise InputError(f"unknown embedding '{self.embedding}': choose one of {', '.join(NETWORKS)}")
        for name, path in self.weights:
            if name not in NETWORKS:
                raise InputError(f"--weights {name}={path}: choose one of {', '.join(NETWORKS)}")

    def _check_unpaired(self) -> None:
        if self.task != "generation" or self.generated is None:
            raise InputError("--unpaired goes with --generated FOLDER: a model's sounds always have their reference")
        unpaired = [name for name, metric in metrics.GENERATION.items() if not metric.paired]
        for name in self.metrics:
            if name not in unpaired:
                left = ", ".join(unpaired)
                raise InputError(f"{name} compares each clip with its reference: with --unpaired choose from {left}")

    def _check_continuation(self) -> None:
        if self.generated is not None or self.split is None:
            raise InputError("--task continuation continues a split's clips with a model: give --split and --model")
        if not self.prompt_seconds or not all(0 < seconds <= WHOLE_SECONDS for seconds in self.prompt_seconds):
            raise InputError("--prompt-seconds takes numbers of seconds above 0, at most a day, such as 0.5,1,2,3,4")

    @property
    def chosen_metrics(self) -> tuple[str, ...]:
        """The metrics to compute."""
        return self.metrics or DEFAULT_METRICS[self.task]

    def weight_source(self, network: str) -> WeightSource:
        """Return the place of a network's weights."""
        return WeightSource(dict(self.weights).get(network), self.device, self.download)
