"""Decoding on a CPU: samples side by side, each at its own position; where one ends, the next begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audiogen_cli.lm.config import LMConfig, Sampling
from audiogen_cli.lm.decoding.cpu_step import BLOCK, CpuStep, Past
from audiogen_cli.lm.decoding.requests import (
    TEXT_BUCKET,
    UNKNOWN,
    DecodingRequest,
    Window,
    additive,
    lay_out,
    text_columns,
    window_steps,
    windows,
)
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.sampling import SamplingRows, guide, sample
from audiogen_cli.lm.streams import undelay
from audiogen_cli.lm.transformer import KVCache, TextMemory, sinusoidal_positions


@dataclass
class _Row:
    """A sample's way through the model: with its text, or for guidance without."""

    prefix: Tensor  # [L, d], what lies before the audio; L may be 0
    memories: list[TextMemory | None]  # of every layer


@dataclass
class _Slot:
    """A sample that is being decoded."""

    number: int  # of its job
    job: DecodingRequest
    rows: list[_Row]
    windows: list[Window]  # this one and those to come
    at: int  # the step to be read next

    @property
    def local(self) -> int:
        """The same, counted from the window's start."""
        return self.at - self.windows[0].start


class CpuLane:
    """Up to n samples side by side, in slots: R rows, those with text, then for guidance those without.

    Every slot has its own position, and whatever is done for one alone (text, prompt, windows) is done alone: so its
    numbers are the same bit for bit in any company.
    """

    def __init__(
        self, model: AudioLanguageModel, dtype: torch.dtype, jobs: Sequence[DecodingRequest], n_slots: int
    ) -> None:
        """model: packed. dtype: of keys and values. jobs: all guided or none, decoded in this order."""
        self.model, self.jobs = model, jobs
        config: LMConfig = model.config
        self.config, self.late = config, max(config.stream_delays)
        self.n_slots, self.copies = n_slots, 1 + jobs[0].guided
        self.n_rows, self.n_frames = n_slots * self.copies, max(job.n_frames for job in jobs)
        n_text = max(map(text_columns, jobs))
        n_columns = n_text * config.text_prefix + min(window_steps(config), self.n_frames + self.late)
        self.positions = sinusoidal_positions(torch.arange(n_columns), config.dim)
        shape = config.n_layers, self.n_rows, config.n_heads
        size = config.dim // config.n_heads
        self.past = Past(*shape, n_columns, size, dtype, BLOCK)
        self.texts = Past(*shape, n_text, size, dtype, TEXT_BUCKET)
        self.step = CpuStep(model, self.n_rows)
        self.delays = torch.tensor(config.stream_delays)[:, None]  # [K, 1]
        # An empty slot goes on reading its first step, and nothing of what follows is unknown.
        self.steps = torch.full((n_slots, config.n_q, 1 + self.n_frames + self.late), config.special_token)
        self.uniforms = torch.zeros(self.steps.shape)
        self.slots: list[_Slot | None] = [None] * n_slots
        self.waiting = iter(enumerate(jobs))
        for slot in range(n_slots):
            self._start_next(slot)

    def run(self) -> Iterator[tuple[int, Tensor]]:
        """Decode all jobs; yields (number of the job, codes [K, T]) as they end."""
        while any(self.slots):
            self.advance()
            for index, slot in enumerate(self.slots):
                if slot is not None and not slot.windows:
                    yield slot.number, self.codes(0, slot.job.n_frames, index)
                    self._start_next(index)

    def decode(self) -> Iterator[int]:
        """Predict step after step; yields how many of the first job's frames are decided, to its end."""
        slot = self.slots[0]
        assert slot is not None
        yield slot.job.n_prompt
        while slot.windows:
            self.advance()
            yield max(slot.job.n_prompt, slot.at - self.late)

    def codes(self, start: int, end: int, slot: int = 0) -> Tensor:
        """[K, end - start]: the frames start … end - 1 of the sample in a slot, which must be decided."""
        steps = self.steps[slot : slot + 1, :, start : 1 + end + self.late]
        return undelay(steps, self.config.stream_delays)[0]

    def advance(self) -> None:
        """Read a step of every sample, and decide what is unknown of its next one."""
        at = torch.tensor([slot.at if slot else 0 for slot in self.slots])[:, None, None]
        local = torch.tensor([slot.local if slot else 0 for slot in self.slots])[:, None, None]
        at = at.expand(-1, self.config.n_q, -1)  # [n, K, 1]
        # Frames before the window are hidden behind the special token, as before the start of a clip.
        tokens = self.steps.gather(2, at).masked_fill_(local <= self.delays, self.config.special_token)
        logits = self._read(tokens)
        at = at + 1
        drawn = sample(logits, self.sampling, self.uniforms.gather(2, at)[..., 0])
        following = self.steps.gather(2, at)
        self.steps.scatter_(2, at, torch.where(following == UNKNOWN, drawn[..., None], following))
        for index, slot in enumerate(self.slots):
            if slot is not None:
                self._move_on(index, slot)

    def _read(self, tokens: Tensor) -> Tensor:
        """tokens: [n, K, 1], each sample's present step. Returns guided logits [n, K, V] for the next one."""
        columns = [0] * self.n_rows
        for index, slot in enumerate(self.slots):
            for copy, row in enumerate(slot.rows if slot else ()):
                columns[copy * self.n_slots + index] = len(row.prefix) + (slot.local if slot else 0)
        self.past.begin(columns)
        x = self.model.embedding(tokens)[:, 0].repeat(self.copies, 1) + self.positions[columns]  # [R, d]
        logits = self.step(x, self.past, self.texts)
        if self.copies == 1:
            return logits
        with_text, without = logits.float().chunk(2)
        return guide(with_text, without, self.sampling.guidance)

    def _move_on(self, index: int, slot: _Slot) -> None:
        slot.at += 1
        if slot.at == slot.windows[0].end:
            slot.windows.pop(0)
            if slot.windows:
                self._enter_window(index, slot)

    def _start_next(self, index: int) -> None:
        """Put the next job into a slot; with none left the slot stays empty."""
        number, job = next(self.waiting, (0, None))
        self.slots[index] = None
        self.steps[index] = self.config.special_token
        for copy in range(self.copies):
            self.past.clear(copy * self.n_slots + index)
        if job is not None:
            steps, numbers = lay_out(self.config, job, job.n_frames)
            self.steps[index, :, : steps.shape[2]], self.uniforms[index, :, : steps.shape[2]] = steps[0], numbers[0]
            rows = [self._read_text(text) for text in (job.vectors, None)[: self.copies]]
            slot = _Slot(number, job, rows, windows(self.config, job.n_prompt, job.n_frames), 0)
            self.slots[index] = slot
            for copy, row in enumerate(rows):
                layers = [(memory.key[0], memory.value[0]) for memory in row.memories if memory]
                if layers:
                    self.texts.fill(copy * self.n_slots + index, layers)
            self._enter_window(index, slot)
        settings = [slot.job.sampling if slot else Sampling() for slot in self.slots]
        self.sampling = SamplingRows.stack(settings, torch.device("cpu"))

    def _read_text(self, text: Tensor | None) -> _Row:
        """text: [L, D], or None for no text."""
        vectors = torch.zeros(1, 1, self.config.text_width) if text is None or not len(text) else text[None].float()
        mask = torch.full(vectors.shape[:2], text is not None and len(text) > 0)
        vectors, mask = self.model.project_text(vectors, mask)
        return _Row(vectors[0, : vectors.shape[1] * self.config.text_prefix], self.model.remember_text(vectors, mask))

    def _enter_window(self, index: int, slot: _Slot) -> None:
        """Read what is known of the slot's first window; its past begins anew."""
        window = slot.windows[0]
        slot.at = window.known
        inputs = self.steps[index : index + 1, :, window.start : window.known]
        hidden = torch.arange(slot.local) <= self.delays  # [K, S]
        audio = self.model.embedding(inputs.masked_fill(hidden, self.config.special_token))  # [1, S, d]
        for copy, row in enumerate(slot.rows):
            x = torch.cat([row.prefix[None], audio], dim=1)
            if x.shape[1]:
                self.past.fill(copy * self.n_slots + index, self._prefill(x, row.memories))

    def _prefill(self, x: Tensor, memories: Sequence[TextMemory | None]) -> list[tuple[Tensor, Tensor]]:
        """x: [1, C, d], embeddings of one row's first C positions. Returns every layer's keys and values, [H, C, E]."""
        n_columns, dim = x.shape[1:]
        column = torch.arange(n_columns)
        mask = additive(column[:, None] >= column, x.dtype)
        x = x + self.positions[:n_columns]
        shape = 1, self.config.n_heads, n_columns, dim // self.config.n_heads
        layers = []
        for block, memory in zip(self.model.blocks, memories, strict=True):
            cache = KVCache(x.new_empty(shape), x.new_empty(shape))
            x = block(x, memory, cache, 0, mask)
            layers.append((cache.key[0], cache.value[0]))
        return layers
