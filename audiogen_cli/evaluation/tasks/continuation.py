"""The task `continuation` (paper sec. 4.2, Table 4, Figure 2): what a sound's beginning and a text make of each other.

Every clip's first 0.5, 1, 2, 3 and 4 s are continued to its full length with its own text (src), without text (none)
and with the text of one other random clip (rnd), which is the same in all cells. FAD compares all outputs of a cell
with the clips; KL compares each output with its own clip (KL w. SRC) and with that other clip (KL w. RND).

The paper does not say whether the prompt belongs to the scored audio, so both are scored: `whole`, with the prompt as
the codec decodes it, and `continuation`, what follows the prompt against the clips from there on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from audiogen_cli.devices import is_main_process
from audiogen_cli.errors import AudiogenError
from audiogen_cli.evaluation.audio_sources import CodecSound, FileSound, PromptedSound, Sound
from audiogen_cli.evaluation.config import PROMPT_TEXTS, EvalConfig, Findings, Progress, Skipped
from audiogen_cli.evaluation.metrics.frechet import FEW_CLIPS, FrechetDistance
from audiogen_cli.evaluation.metrics.intervals import bootstrap_interval
from audiogen_cli.evaluation.metrics.kl import EPSILON, kl
from audiogen_cli.evaluation.networks.base import RESAMPLER, Classifier
from audiogen_cli.evaluation.networks.cache import Heard
from audiogen_cli.evaluation.networks.embed import hear
from audiogen_cli.evaluation.networks.registry import Networks
from audiogen_cli.evaluation.published import published_cells
from audiogen_cli.evaluation.references import (
    MAX_DURATION,
    Recording,
    Reference,
    hash_references,
    limit_clips,
    load_references,
)
from audiogen_cli.evaluation.tasks.codec import Reconstructor
from audiogen_cli.evaluation.tasks.derangement import derangement
from audiogen_cli.evaluation.tasks.generate_clips import load, make, seed_of, settings_of
from audiogen_cli.evaluation.tasks.generation import INTERVALS, load_chosen
from audiogen_cli.evaluation.tasks.score_table import CODEC, SHUFFLED
from audiogen_cli.lm.generation.requests import GenerationRequest

if TYPE_CHECKING:
    from audiogen_cli.lm.generation.generator import Generator

WHOLE, CONTINUATION = "whole", "continuation"
MIN_LEFT = 0.1  # seconds to generate at least


@dataclass(frozen=True)
class Cell:
    """One cell of the grid. text: src, none or rnd."""

    prompt_seconds: float
    text: str

    @property
    def folder(self) -> str:
        """Where its sounds lie."""
        return f"{self.prompt_seconds:g}s-{self.text}"


def evaluate_continuation(config: EvalConfig, progress: Progress) -> Findings | None:
    """Continue a split's clips in every cell and score them; None in the helping processes of an accelerate launch.

    Run again, it generates only what is missing. Raises InputError if split, model or networks are unusable,
    AudiogenError if no clip could be scored.
    """
    main = is_main_process()
    networks = load_chosen(config, config.chosen_metrics) if main else Networks(None, None, None)
    everything, skipped = load_references(config.split, config.manifests, config.reference)
    least = max([MIN_LEFT, *(network.min_duration for network in networks.all())])
    references, short = _long_enough(everything, max(config.prompt_seconds) + least)
    references = limit_clips(references, config.limit)
    others = derangement([clip.id for clip in references], config.seed, [clip.text for clip in references])
    cells = [Cell(seconds, text) for seconds in config.prompt_seconds for text in PROMPT_TEXTS]
    generator = load(config)
    failed: dict[int, str] = {}
    reused = 0
    for cell in cells:
        jobs = [_job(cell, index, references, others, generator, config) for index in range(len(references))]
        made = make(jobs, generator, config, progress)
        failed, reused = {**made.failed, **failed}, reused + made.reused
    if not main:
        return None
    settings = settings_of(generator, config)
    del generator  # its memory is wanted for the networks

    grid = Grid(config, networks, Reconstructor.load(config.model, config.device), references, others, failed)
    found = [row for cell in cells for row in grid.score(cell, progress)]
    alive = grid.alive
    lost = [Skipped(references[index].id, reason) for index, reason in sorted(grid.failed.items())]
    if not found or len(alive) < 2:
        raise AudiogenError(f"none of {len(references)} clips could be scored; {lost[-1].reason if lost else ''}")
    return Findings(
        n=len(alive),
        n_available=len(everything) + len(skipped),
        metrics={f"{name} {_label(row)}": row[name] for row in found for name in grid.columns},
        baselines=grid.baselines(progress),
        intervals={f"{name} {_label(row)}": span for row in found for name, span in row["intervals"].items()},
        details={
            "cells": found,
            "pairs": {references[i].id: references[others[i]].id for i in alive},
            "published": published_cells(config, grid.columns, len(alive), len(everything)),
        },
        inputs={
            **networks.describe(),
            **settings,
            "reused": reused,
            "codec_fingerprint": grid.reconstructor.fingerprint,
            "resampler": RESAMPLER,
            "seed": config.seed,
            "reference_set": hash_references([references[index] for index in alive]),
            "max_duration": MAX_DURATION,
            "prompt": "in `whole`, as the codec decodes it",
            "loudness": "as in the files",
            "kl": {"direction": "reference to generated", "epsilon": EPSILON},
            "interval_methods": {"kl": INTERVALS["others"]},
        },
        warnings=[f"only {len(alive)} clips (< {FEW_CLIPS}): FAD is biased upward, compare runs of equal n"]
        if len(alive) < FEW_CLIPS and networks.embedding
        else [],
        skipped=[*skipped, *short, *lost],
    )


class Grid:
    """The scoring of all cells: references, their partners, and what was heard of them.

    others: for each reference the index of its rnd partner. failed: index → why a clip is in no cell.
    """

    def __init__(
        self,
        config: EvalConfig,
        networks: Networks,
        reconstructor: Reconstructor,
        references: Sequence[Reference],
        others: np.ndarray,
        failed: dict[int, str],
    ) -> None:
        self.config, self.networks, self.reconstructor = config, networks, reconstructor
        self.references, self.others, self.failed = references, others, dict(failed)
        self.columns = [
            *([networks.named("fad")] if networks.embedding else []),
            *([f"{networks.named('kl')}_{side}" for side in ("src", "rnd")] if networks.classifier else []),
        ]
        self._distances: dict[float, FrechetDistance] = {}

    @property
    def alive(self) -> list[int]:
        """Clips that nothing has failed for, and whose partner nothing has failed for."""
        return [i for i in range(len(self.references)) if not {i, int(self.others[i])} & self.failed.keys()]

    def score(self, cell: Cell, progress: Progress) -> list[dict[str, Any]]:
        """The cell's two rows, with and without the prompt. KL w. RND stands in the rows of none and rnd only."""
        return [self._row(cell, scored, progress) for scored in (WHOLE, CONTINUATION)]

    def baselines(self, progress: Progress) -> dict[str, dict[str, float | None]]:
        """The clips through the codec, where a prompt as long as the clip would end; and the clips against partners."""
        sounds = [CodecSound(self._reference(index), self.reconstructor) for index in self.alive]
        table: dict[str, dict[str, float | None]] = {CODEC: {}, SHUFFLED: {}}
        if self.networks.embedding:
            heard = self._hear(self.networks.embedding, sounds, progress)
            table[CODEC][self.networks.named("fad")] = self._distance(0.0, progress)(_windows(heard))
        if self.networks.classifier:
            name, ears = self.networks.named("kl"), self.networks.classifier
            own, other = (self._logits(side, 0.0, progress) for side in ("src", "rnd"))
            decoded = np.stack([clip.logits for clip in self._hear(ears, sounds, progress)])
            table[CODEC][f"{name}_src"] = float(kl(own, decoded).mean())
            table[SHUFFLED][f"{name}_src"] = float(kl(own, other).mean())
        return table

    def _row(self, cell: Cell, scored: str, progress: Progress) -> dict[str, Any]:
        start = cell.prompt_seconds if scored == CONTINUATION else 0.0
        sounds = [self._output(cell, index, start) for index in self.alive]
        row: dict[str, Any] = {**asdict(cell), "scored": scored, **dict.fromkeys(self.columns), "intervals": {}}
        if self.networks.embedding:
            heard = self._hear(self.networks.embedding, sounds, progress)
            row[self.networks.named("fad")] = self._distance(start, progress)(_windows(heard))
        if self.networks.classifier:
            logits = np.stack([clip.logits for clip in self._hear(self.networks.classifier, sounds, progress)])
            for side in ("src",) if cell.text == "src" else ("src", "rnd"):
                values = kl(self._logits(side, start, progress), logits)
                name = f"{self.networks.named('kl')}_{side}"
                row[name] = float(values.mean())
                row["intervals"][name] = bootstrap_interval(values, self.config.seed)
        return row

    def _output(self, cell: Cell, index: int, start: float) -> Sound:
        reference = self.references[index]
        output = Recording(_path(cell, reference, self.config)).first(reference.recording.length)
        if start:
            return FileSound(output.after(start))
        return PromptedSound(output, self._reference(index).first(cell.prompt_seconds), self.reconstructor)

    def _reference(self, index: int, start: float = 0.0) -> Recording:
        recording = self.references[index].recording
        whole = recording.first(recording.length)
        return whole.after(start) if start else whole

    def _distance(self, start: float, progress: Progress) -> FrechetDistance:
        if start not in self._distances:
            sounds = [FileSound(self._reference(index, start)) for index in self.alive]
            self._distances[start] = FrechetDistance(_windows(self._hear(self.networks.for_fad, sounds, progress)))
        return self._distances[start]

    def _logits(self, side: str, start: float, progress: Progress) -> np.ndarray:
        """[clips, C] of the clips from `start` on (src), or of their partners (rnd)."""
        chosen = self.alive if side == "src" else [int(self.others[index]) for index in self.alive]
        sounds = [FileSound(self._reference(index, start)) for index in chosen]
        return np.stack([clip.logits for clip in self._hear(self.networks.for_kl, sounds, progress)])

    def _hear(self, network: Classifier, sounds: Sequence[Sound], progress: Progress) -> list[Heard]:
        heard = [clip for clip in hear(network, sounds, progress) if not isinstance(clip, str)]
        if len(heard) < len(sounds):
            reason = next(clip for clip in hear(network, sounds, progress) if isinstance(clip, str))
            raise AudiogenError(f"a clip of the grid cannot be heard: {reason}; delete it and run again")
        return heard


def _windows(heard: Sequence[Heard]) -> np.ndarray:
    return np.concatenate([clip.embeddings for clip in heard])


def _label(row: dict[str, Any]) -> str:
    return f"{row['prompt_seconds']:g}s {row['text']} {row['scored']}"


def _path(cell: Cell, reference: Reference, config: EvalConfig) -> Any:
    return config.out / "continuation" / cell.folder / f"{reference.name}.wav"


def _long_enough(references: Sequence[Reference], seconds: float) -> tuple[list[Reference], list[Skipped]]:
    """The clips that leave something to continue after the longest prompt, and the others."""
    kept, skipped = [], []
    for reference in references:
        try:
            length = reference.recording.length
        except AudiogenError as error:
            skipped.append(Skipped(reference.id, str(error)))
            continue
        if length + 1e-6 < seconds:
            skipped.append(Skipped(reference.id, f"{length:g} s: every prompt length needs {seconds:g} s"))
        else:
            kept.append(reference)
    if not kept:
        raise AudiogenError(f"no clip has the {seconds:g} s that the longest prompt needs; shorten --prompt-seconds")
    return kept, skipped


def _job(
    cell: Cell,
    index: int,
    references: Sequence[Reference],
    others: np.ndarray,
    generator: Generator,
    config: EvalConfig,
) -> GenerationRequest:
    reference = references[index]
    text = {"src": reference.text, "none": None, "rnd": references[others[index]].text}[cell.text]
    return GenerationRequest(
        text,
        seed_of(f"{reference.id}/{cell.folder}", config.seed),
        reference.recording.length,
        generator.sampling.override(config.sampling),
        reference.recording.first(cell.prompt_seconds).read(generator.sample_rate),
        _path(cell, reference, config),
        {"continues": reference.id, "prompt_seconds": cell.prompt_seconds},
    )
