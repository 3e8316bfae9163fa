"""The task `continuation` (paper sec. 4.2, Table 4, Figure 2): a sound's beginning against a text.

Every clip's first 0.5, 1, 2, 3 and 4 s are continued to its full length with its own text (src), without text (none)
and with the text of one other random clip (rnd), which is the same in all cells. FAD compares all outputs of a cell
with the clips; KL compares each output with its own clip (KL w. SRC) and with that other clip (KL w. RND).

The paper does not say whether the prompt belongs to the scored audio, so both are scored: `whole`, with the prompt as
the codec decodes it, and `continuation`, the part after the prompt against the same part of the clips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiogen_cli.devices import is_main_process
from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.evaluation.audio_sources import (
    MAX_DURATION,
    RESAMPLER,
    AudioSource,
    CodecAudio,
    ContinuationAudio,
    FileAudio,
    Reconstructor,
    Recording,
)
from audiogen_cli.evaluation.config import PROMPT_TEXTS, EvalConfig
from audiogen_cli.evaluation.inputs import load_inputs
from audiogen_cli.evaluation.metrics.fad import fad_interval
from audiogen_cli.evaluation.metrics.frechet import FEW_CLIPS, FrechetDistance
from audiogen_cli.evaluation.metrics.intervals import bootstrap_interval
from audiogen_cli.evaluation.metrics.kl import EPSILON, kl
from audiogen_cli.evaluation.metrics.registry import GENERATION
from audiogen_cli.evaluation.networks.embed import embed_clips
from audiogen_cli.evaluation.networks.registry import CLASSIFIER, EMBEDDING, Networks
from audiogen_cli.evaluation.published import published_cells
from audiogen_cli.evaluation.references import Reference, hash_references, limit_clips
from audiogen_cli.evaluation.results import Begin, Findings, Interval, Progress, Skipped
from audiogen_cli.evaluation.score_table import CODEC, SHUFFLED
from audiogen_cli.evaluation.shuffling import clip_seed, derangement
from audiogen_cli.evaluation.tasks.generate_clips import describe_model, load_model, write_missing
from audiogen_cli.evaluation.tasks.generation import INTERVALS
from audiogen_cli.lm.generation.requests import GenerationRequest, describe_audio

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
        """The name of the folder of its sounds."""
        return f"{self.prompt_seconds:g}s-{self.text}"


def evaluate_continuation(config: EvalConfig, progress: Progress, begin: Begin) -> Findings | None:
    """Continue a split's clips in every cell and score them.

    The processes of an accelerate launch share the work, and all but the main one return None. Run again, it generates
    only what is missing. Raises InputError if split, model or networks are unusable, AudiogenError if no
    clip could be scored.
    """
    main = is_main_process()
    inputs = load_inputs(config, {GENERATION[name].role for name in config.chosen_metrics})
    everything, skipped, networks = inputs.references, inputs.unfit, inputs.networks
    least = max([MIN_LEFT, *(network.min_duration for network in networks.all())])
    references, short = _usable(everything, partial(_check_length, seconds=max(config.prompt_seconds) + least))
    # A header may promise more than is there.
    references, damaged = _usable(limit_clips(references, config.limit), Recording.read)
    if len(references) < 2:
        why = f"; {(short + damaged)[-1].reason}" if short or damaged else ""
        raise InputError(
            f"{len(references)} clips to continue; it takes two, as each gets another one's text, too{why}"
        )
    if main:
        begin(len(references))
    others = derangement([clip.id for clip in references], config.seed, [clip.text for clip in references])
    cells = [Cell(seconds, text) for seconds in config.prompt_seconds for text in PROMPT_TEXTS]
    generator = load_model(config)
    failed: dict[int, str] = {}
    reused = 0
    for cell in cells:
        jobs = [_job(cell, index, references, others, generator, config) for index in range(len(others))]
        reasons, kept = write_missing(jobs, generator, config, progress)
        failed, reused = {**reasons, **failed}, reused + kept
    model = describe_model(generator, config)
    del generator  # frees memory for the networks

    grid = Grid(config, networks, Reconstructor.load(config.model, config.device), references, others, failed)
    alive = grid.alive
    lost = [Skipped(references[index].id, reason) for index, reason in sorted(failed.items())]
    if len(alive) < 2:
        raise AudiogenError(f"{len(alive)} of {len(references)} clips could be continued: {lost[-1].reason}")
    rows = [row for cell in cells for row in grid.score(cell, progress)]
    baselines = grid.baselines(progress)
    if not main:
        return None
    few = len(alive) < FEW_CLIPS and networks.embedding
    return Findings(
        n=len(alive),
        n_available=len(everything) + len(skipped),
        metrics={f"{name} {_label(row)}": row[name] for row in rows for name in grid.columns},
        baselines=baselines,
        intervals={f"{name} {_label(row)}": span for row in rows for name, span in row["intervals"].items()},
        details={
            "cells": rows,
            "pairs": {references[i].id: references[others[i]].id for i in alive},
            "published": published_cells(config, grid.columns, len(alive), len(everything)),
        },
        inputs={
            **networks.describe(),
            **model,
            "codec_fingerprint": grid.reconstructor.fingerprint,
            "resampler": RESAMPLER,
            "seed": config.seed,
            "reference_set": hash_references([references[index] for index in alive]),
            "max_duration": MAX_DURATION,
            "prompt": "in `whole`, as the codec decodes it",
            "loudness": "as in the files",
            "kl": {"direction": "reference to generated", "epsilon": EPSILON},
            "interval_methods": {"fad": INTERVALS["fad"], "kl": INTERVALS["others"]},
        },
        warnings=[f"only {len(alive)} clips (< {FEW_CLIPS}): FAD is biased upward, compare runs of equal n"]
        if few
        else [],
        skipped=[*skipped, *short, *damaged, *lost],
        run={"reused": reused},
    )


class Grid:
    """The scores of all cells.

    others: for each reference the index of its rnd partner. failed: index → the reason why a clip is in no cell.
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
        self.references, self.others = references, others
        # Clips without a failure of their own or of their partner.
        self.alive = [i for i in range(len(references)) if not {i, int(others[i])} & failed.keys()]
        self.fad = GENERATION["fad"].label(networks) if networks.embedding else ""
        self.kl = GENERATION["kl"].label(networks) if networks.classifier else ""
        self.columns = [*([self.fad] if self.fad else []), *([f"{self.kl}_src", f"{self.kl}_rnd"] if self.kl else [])]
        self._distances: dict[float, tuple[FrechetDistance, list[np.ndarray]]] = {}

    def score(self, cell: Cell, progress: Progress) -> list[dict[str, Any]]:
        """Score the cell with and without the prompt. KL w. RND stands in the rows of none and rnd only."""
        return [self._row(cell, scored, progress) for scored in (WHOLE, CONTINUATION)]

    def baselines(self, progress: Progress) -> dict[str, dict[str, float | None]]:
        """Score the clips through the codec, as if the prompt were the whole clip, and the clips against partners."""
        clips = [CodecAudio(self._reference(index), self.reconstructor) for index in self.alive]
        table: dict[str, dict[str, float | None]] = {CODEC: {}, SHUFFLED: {}}
        if self.fad:
            table[CODEC][self.fad], _ = self._measure_fad(0.0, clips, progress)
        if self.kl:
            own, other = (self._reference_logits(side, 0.0, progress) for side in ("src", "rnd"))
            table[CODEC][f"{self.kl}_src"] = float(kl(own, self._logits(clips, progress)).mean())
            table[SHUFFLED][f"{self.kl}_src"] = float(kl(own, other).mean())
        return table

    def _row(self, cell: Cell, scored: str, progress: Progress) -> dict[str, Any]:
        start = cell.prompt_seconds if scored == CONTINUATION else 0.0
        clips = [self._output(cell, index, start) for index in self.alive]
        row: dict[str, Any] = {**asdict(cell), "scored": scored, **dict.fromkeys(self.columns), "intervals": {}}
        if self.fad:
            row[self.fad], span = self._measure_fad(start, clips, progress)
            row["intervals"] |= {self.fad: span} if span else {}
        if self.kl:
            logits = self._logits(clips, progress)
            for side in ("src",) if cell.text == "src" else ("src", "rnd"):
                values = kl(self._reference_logits(side, start, progress), logits)
                row[f"{self.kl}_{side}"] = float(values.mean())
                if interval := bootstrap_interval(values, self.config.seed):
                    row["intervals"][f"{self.kl}_{side}"] = interval
        return row

    def _output(self, cell: Cell, index: int, start: float) -> AudioSource:
        reference = self.references[index]
        output = Recording(_path(cell, reference, self.config)).first(reference.recording.length)
        if start:
            return FileAudio(output.after(start))
        return ContinuationAudio(output, self._reference(index).first(cell.prompt_seconds), self.reconstructor)

    def _reference(self, index: int, start: float = 0.0) -> Recording:
        recording = self.references[index].recording
        whole = recording.first(recording.length)
        return whole.after(start) if start else whole

    def _measure_fad(
        self, start: float, clips: Sequence[AudioSource], progress: Progress
    ) -> tuple[float, Interval | None]:
        """Return the distance to the clips from `start` on, and its interval; their root is computed once."""
        if start not in self._distances:
            own = self._windows([FileAudio(self._reference(index, start)) for index in self.alive], progress)
            self._distances[start] = FrechetDistance(np.concatenate(own)), own
        (distance, references), generated = self._distances[start], self._windows(clips, progress)
        value = distance(np.concatenate(generated))
        return value, fad_interval(value, distance, references, generated)

    def _reference_logits(self, side: str, start: float, progress: Progress) -> np.ndarray:
        """Classify the clips from `start` on (src), or their partners (rnd): [clips, C]."""
        chosen = self.alive if side == "src" else [int(self.others[index]) for index in self.alive]
        return self._logits([FileAudio(self._reference(index, start)) for index in chosen], progress)

    def _windows(self, clips: Sequence[AudioSource], progress: Progress) -> list[np.ndarray]:
        return [clip.embeddings for clip in self._embed(EMBEDDING, clips, progress)]

    def _logits(self, clips: Sequence[AudioSource], progress: Progress) -> np.ndarray:
        return np.stack([clip.logits for clip in self._embed(CLASSIFIER, clips, progress)])

    def _embed(self, role: str, clips: Sequence[AudioSource], progress: Progress) -> list[Any]:
        found = embed_clips(self.networks[role], clips, progress)
        for clip in found:
            if isinstance(clip, str):
                raise AudiogenError(f"a clip of the grid cannot be scored: {clip}; mend or delete it and run again")
        return found


def _label(row: dict[str, Any]) -> str:
    return f"{row['prompt_seconds']:g}s {row['text']} {row['scored']}"


def _path(cell: Cell, reference: Reference, config: EvalConfig) -> Path:
    return config.out / "continuation" / cell.folder / f"{reference.name}.wav"


def _usable(
    references: Sequence[Reference], check: Callable[[Recording], object]
) -> tuple[list[Reference], list[Skipped]]:
    """Split the clips into those whose recording passes a check and those with which it raises an error."""
    kept, skipped = [], []
    for reference in references:
        try:
            check(reference.recording)
            kept.append(reference)
        except AudiogenError as error:
            skipped.append(Skipped(reference.id, str(error)))
    return kept, skipped


def _check_length(recording: Recording, seconds: float) -> None:
    if recording.length + 1e-6 < seconds:
        raise InputError(f"{recording.length:g} s: the longest of --prompt-seconds needs {seconds:g} s")


def _job(
    cell: Cell,
    index: int,
    references: Sequence[Reference],
    others: np.ndarray,
    generator: Generator,
    config: EvalConfig,
) -> GenerationRequest:
    reference = references[index]
    prompt = reference.recording.first(cell.prompt_seconds).read(generator.sample_rate)
    text = {"src": reference.caption, "none": None, "rnd": references[others[index]].caption}[cell.text]
    return GenerationRequest(
        text,
        clip_seed(f"{reference.id}/{cell.folder}", config.seed),
        reference.recording.length,
        generator.sampling.override(config.sampling),
        prompt,
        _path(cell, reference, config),
        {"continues": reference.id, "prompt_seconds": cell.prompt_seconds},
        facts={"prompt_sha256": describe_audio(reference.recording.path, prompt)["prompt_sha256"]},
    )
