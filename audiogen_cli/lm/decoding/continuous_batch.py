"""Continuous batching: sequences side by side, each at its own position; where one ends, the next begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from audiogen_cli.devices import current
from audiogen_cli.errors import AudiogenError
from audiogen_cli.lm.config import LMConfig
from audiogen_cli.lm.decoding.backend import Backend, BatchState
from audiogen_cli.lm.decoding.requests import (
    NOT_FINITE,
    DecodingRequest,
    DecodingWindow,
    count_text_columns,
    lay_out,
    list_windows,
    max_delay,
    window_steps,
)
from audiogen_cli.lm.model import AudioLanguageModel, undelay


@dataclass
class _Slot:
    """A place in the batch, with the sequence that is being decoded there."""

    number: int  # of its request
    request: DecodingRequest
    prefixes: list[Tensor]  # what precedes the audio in each of its rows: [L, d], L may be 0
    windows: list[DecodingWindow]  # this one and those to come
    at: int  # the step to be read next

    @property
    def length(self) -> int:
        """Return the positions of its longest row, with the one to be read next."""
        return max(map(len, self.prefixes)) + self.at - self.windows[0].start + 1


class BatchShape(NamedTuple):
    """The sizes of a batch's tensors."""

    n_slots: int  # sequences side by side
    n_copies: int  # rows of each: 2 with guidance, 3 with a negative text
    n_text: int  # positions of the longest text
    n_steps: int  # of the longest sequence

    @classmethod
    def of(cls, config: LMConfig, requests: Sequence[DecodingRequest], n_slots: int, bucket: int = 1) -> BatchShape:
        """Return the shape for requests that read equally many texts. bucket: n_steps is a multiple of it."""
        n_steps = max(request.n_frames for request in requests) + max_delay(config)
        n_text = max(map(count_text_columns, requests))
        return cls(n_slots, len(requests[0].texts), n_text, -(-n_steps // bucket) * bucket)

    def count_columns(self, config: LMConfig) -> int:
        """Return the most positions of a row."""
        n_columns = self.n_text * config.text_prefix + min(window_steps(config), self.n_steps)
        return -(-n_columns // 8) * 8  # GPUs attend faster to a mask of such a length


class ContinuousBatch:
    """n sequences side by side, in slots. R rows: all texts', for guidance those without text, negative texts'.

    Every slot has its own position, and whatever is computed for one alone (text, prompt, windows) is computed alone:
    so on a CPU its numbers are the same bit for bit whatever is decoded beside it.
    """

    def __init__(
        self, backend: type[Backend], model: AudioLanguageModel, cache_dtype: torch.dtype, shape: BatchShape
    ) -> None:
        """model: as the backend's `load` left it. Call `start` before anything else."""
        self.config, self.model, self.shape = model.config, model, shape
        self.max_delay, self.device = max_delay(model.config), model.null_text.device
        n_columns = shape.count_columns(model.config)
        self.backend = backend(model, shape.n_slots * shape.n_copies, n_columns, shape.n_text, cache_dtype)
        self.state = BatchState.empty(
            model.config, shape.n_slots, shape.n_copies, shape.n_steps, n_columns, model.null_text
        )
        self._advance = self.backend.record(self.state)

    def start(self, requests: Sequence[DecodingRequest]) -> None:
        """Begin to decode requests for which the shape has room, in this order; those before them are dropped."""
        self.slots: list[_Slot | None] = [None] * self.shape.n_slots
        self.waiting = iter(enumerate(requests))
        with current(self.device):
            for index in range(self.shape.n_slots):
                self._start_next(index)

    def run(self) -> Iterator[tuple[int, Tensor]]:
        """Decode all requests; yield (number of the request, codes [K, T]) as they end."""
        while any(self.slots):
            self._step()
            for index, slot in enumerate(self.slots):
                if slot is not None and not slot.windows:
                    yield slot.number, self.read_codes(0, slot.request.n_frames, index)
                    with current(self.device):
                        self._start_next(index)

    def run_single(self) -> Iterator[int]:
        """Decode the first request; yield how many of its frames are decided: the prompt's, then after every step."""
        slot = self.slots[0]
        assert slot is not None
        yield slot.request.n_prompt
        while slot.windows:
            self._step()
            yield max(slot.request.n_prompt, slot.at - self.max_delay)

    def read_codes(self, start: int, end: int, slot: int = 0) -> Tensor:
        """Return decided frames of a slot's sequence: [K, end - start], on the CPU. Raises AudiogenError after NaNs."""
        steps = self.state.steps[slot : slot + 1, :, start : 1 + end + self.max_delay]
        codes = undelay(steps, self.config.stream_delays)[0].cpu()
        if bool((codes == self.config.special_token).any()):
            raise AudiogenError(NOT_FINITE)
        return codes

    def _step(self) -> None:
        with current(self.device):
            self._advance(max(slot.length for slot in self.slots if slot))
            for index, slot in enumerate(self.slots):
                if slot is None:
                    continue
                slot.at += 1
                if slot.at == slot.windows[0].end:
                    slot.windows.pop(0)
                    if slot.windows:
                        self._enter_window(index, slot)

    def _start_next(self, index: int) -> None:
        """Put the next request into a slot; with none left the slot stays empty."""
        number, request = next(self.waiting, (0, None))
        rows, state = [copy * self.shape.n_slots + index for copy in range(self.shape.n_copies)], self.state
        self.slots[index] = None
        state.steps[index] = self.config.special_token
        for numbers in (state.at, state.start, state.active):
            numbers[index] = 0
        state.n_prefix[rows] = 0
        if request is None:
            return
        steps, uniforms = lay_out(self.config, request)
        state.steps[index, :, : steps.shape[1]], state.uniforms[index, :, : steps.shape[1]] = steps, uniforms
        state.sampling.set(index, request.sampling)
        state.active[index] = 1
        prefixes = [self.backend.prepare(row, text) for row, text in zip(rows, request.texts, strict=True)]
        state.n_prefix[rows] = torch.tensor([*map(len, prefixes)], device=self.device)
        slot = _Slot(number, request, prefixes, list_windows(self.config, request.n_prompt, request.n_frames), 0)
        self.slots[index] = slot
        self._enter_window(index, slot)

    def _enter_window(self, index: int, slot: _Slot) -> None:
        """Clear the slot's caches and read what is known of its first window."""
        window, state = slot.windows[0], self.state
        slot.at = window.n_prefilled
        state.at[index], state.start[index] = window.n_prefilled, window.start
        inputs = state.steps[index : index + 1, :, window.start : window.n_prefilled]
        hidden = torch.arange(inputs.shape[2], device=self.device) <= state.delays  # [K, S]
        audio = self.model.embedding(inputs.masked_fill(hidden, self.config.special_token))  # [1, S, d]
        for copy, prefix in enumerate(slot.prefixes):
            x = torch.cat([prefix[None], audio], dim=1)
            if x.shape[1]:
                self.backend.prefill(copy * self.shape.n_slots + index, x + state.positions[: x.shape[1]])
