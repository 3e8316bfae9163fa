"""Continuous batching: sequences side by side, each at its own position; where one ends, the next begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audiogen_cli.lm.config import LMConfig
from audiogen_cli.lm.decoding.backend import Backend
from audiogen_cli.lm.decoding.requests import (
    UNKNOWN,
    DecodingRequest,
    DecodingWindow,
    count_text_columns,
    lay_out,
    list_windows,
    max_delay,
    window_steps,
)
from audiogen_cli.lm.model import AudioLanguageModel, undelay
from audiogen_cli.lm.sampling import SamplingRows, guide, sample
from audiogen_cli.lm.transformer import sinusoidal_positions

KV_BUCKET = 512  # recorded steps attend to a multiple of so many positions


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


class ContinuousBatch:
    """n sequences side by side, in slots: R rows, those with text, then for guidance those without (or a negative one).

    Every slot has its own position, and whatever is computed for one alone (text, prompt, windows) is computed alone:
    so on a CPU its numbers are the same bit for bit whatever is decoded beside it.
    """

    def __init__(
        self,
        backend: type[Backend],
        model: AudioLanguageModel,
        cache_dtype: torch.dtype,
        requests: Sequence[DecodingRequest],
        n_slots: int,
    ) -> None:
        """model: as the backend's `load` left it. requests: all guided or none, decoded in this order."""
        config: LMConfig = model.config
        self.config, self.model, self.n_slots = config, model, n_slots
        self.device, self.dtype = model.null_text.device, model.null_text.dtype
        self.max_delay, self.n_copies = max_delay(config), 1 + requests[0].guided
        n_steps = max(request.n_frames for request in requests) + self.max_delay
        n_text = max(map(count_text_columns, requests))
        n_columns = n_text * config.text_prefix + min(window_steps(config), n_steps)
        self.n_columns = -(-n_columns // 8) * 8  # GPUs attend faster to a mask of such a length
        self.backend = backend(model, n_slots * self.n_copies, self.n_columns, n_text, cache_dtype)
        # On the device, changed in place only: a recorded step keeps reading them.
        columns = torch.arange(self.n_columns, device=self.device)
        self.positions = sinusoidal_positions(columns, config.dim).to(self.dtype)
        self.delays = torch.tensor(config.stream_delays, device=self.device)[:, None]  # [K, 1]
        # An empty slot keeps reading its first step; it has no unknown codes.
        self.steps = torch.full((n_slots, config.n_q, 1 + n_steps), config.special_token, device=self.device)
        self.uniforms = torch.zeros(self.steps.shape, device=self.device)
        # Of each slot: the step to be read next, the window's first, and whether it moves on.
        self.at, self.start, self.active = torch.zeros(3, n_slots, dtype=torch.long, device=self.device)
        self.n_prefix = torch.zeros(self.n_copies * n_slots, dtype=torch.long, device=self.device)  # of each row
        self.sampling = SamplingRows.empty(n_slots, self.device)
        self.slots: list[_Slot | None] = [None] * n_slots
        self.waiting = iter(enumerate(requests))
        for index in range(n_slots):
            self._start_next(index)

    def run(self) -> Iterator[tuple[int, Tensor]]:
        """Decode all requests; yield (number of the request, codes [K, T]) as they end."""
        advance = self._record()
        while any(self.slots):
            self._step(advance)
            for index, slot in enumerate(self.slots):
                if slot is not None and not slot.windows:
                    yield slot.number, self.read_codes(0, slot.request.n_frames, index)
                    self._start_next(index)

    def run_single(self) -> Iterator[int]:
        """Decode the first request; yield how many of its frames are decided: the prompt's, then after every step."""
        slot = self.slots[0]
        assert slot is not None
        yield slot.request.n_prompt
        advance = self._record()
        while slot.windows:
            self._step(advance)
            yield max(slot.request.n_prompt, slot.at - self.max_delay)

    def read_codes(self, start: int, end: int, slot: int = 0) -> Tensor:
        """Return the decided frames start … end - 1 of a slot's sequence: [K, end - start], on the CPU."""
        steps = self.steps[slot : slot + 1, :, start : 1 + end + self.max_delay]
        return undelay(steps, self.config.stream_delays)[0].cpu()

    def _record(self) -> Callable[[int], None]:
        """Return `_advance`, on CUDA as a step to be recorded. Not kept: the batch would outlive its use."""
        if self.device.type != "cuda":
            return self._advance
        from audiogen_cli.lm.decoding.cuda_graphs import RecordedStep

        return RecordedStep(self._advance)

    def _step(self, advance: Callable[[int], None]) -> None:
        kv_length = max(slot.length for slot in self.slots if slot)
        if self.device.type == "cuda":
            kv_length = min(self.n_columns, -(-kv_length // KV_BUCKET) * KV_BUCKET)
        advance(kv_length)
        for index, slot in enumerate(self.slots):
            if slot is None:
                continue
            slot.at += 1
            if slot.at == slot.windows[0].end:
                slot.windows.pop(0)
                if slot.windows:
                    self._enter_window(index, slot)

    def _advance(self, kv_length: int) -> None:
        """Read a step of every sequence and draw the unknown codes of its next one. kv_length: see `Backend.step`."""
        at = self.at[:, None, None].expand(-1, self.config.n_q, -1)  # [n, K, 1]
        local = self.at - self.start
        # Frames before the window are hidden behind the special token, as before the start of a clip.
        hidden = local[:, None, None] <= self.delays
        tokens = self.steps.gather(2, at).masked_fill_(hidden, self.config.special_token)
        logits = self._compute_logits(tokens, self.n_prefix + local.repeat(self.n_copies), kv_length)
        at = at + 1
        drawn = sample(logits, self.sampling, self.uniforms.gather(2, at)[..., 0])
        following = self.steps.gather(2, at)
        self.steps.scatter_(2, at, torch.where(following == UNKNOWN, drawn[..., None], following))
        self.at += self.active

    def _compute_logits(self, tokens: Tensor, positions: Tensor, kv_length: int) -> Tensor:
        """Compute guided logits [n, K, V] of the next step. tokens: [n, K, 1], each sequence's step; positions: [R]."""
        x = self.model.embedding(tokens)[:, 0].repeat(self.n_copies, 1) + self.positions[positions]  # [R, d]
        logits = self.backend.step(x, positions, kv_length)
        if self.n_copies == 1:
            return logits
        with_text, without = logits.float().chunk(2)
        return guide(with_text, without, self.sampling.guidance)

    def _start_next(self, index: int) -> None:
        """Put the next request into a slot; with none left the slot stays empty."""
        number, request = next(self.waiting, (0, None))
        rows = [copy * self.n_slots + index for copy in range(self.n_copies)]
        self.slots[index] = None
        self.steps[index] = self.config.special_token
        for state in (self.at, self.start, self.active):
            state[index] = 0
        self.n_prefix[rows] = 0
        if request is None:
            for row in rows:
                self.backend.clear(row)
            return
        steps, numbers = lay_out(self.config, request)
        self.steps[index, :, : steps.shape[1]], self.uniforms[index, :, : steps.shape[1]] = steps, numbers
        self.sampling.set(index, request.sampling)
        self.active[index] = 1
        texts = (request.vectors, request.negative)[: self.n_copies]
        prefixes = [self.backend.prepare(row, text) for row, text in zip(rows, texts, strict=True)]
        self.n_prefix[rows] = torch.tensor([len(prefix) for prefix in prefixes], device=self.device)
        slot = _Slot(number, request, prefixes, list_windows(self.config, request.n_prompt, request.n_frames), 0)
        self.slots[index] = slot
        self._enter_window(index, slot)

    def _enter_window(self, index: int, slot: _Slot) -> None:
        """Clear the slot's caches and read what is known of its first window."""
        window = slot.windows[0]
        slot.at = window.n_prefilled
        self.at[index], self.start[index] = window.n_prefilled, window.start
        inputs = self.steps[index : index + 1, :, window.start : window.n_prefilled]
        hidden = torch.arange(inputs.shape[2], device=self.device) <= self.delays  # [K, S]
        audio = self.model.embedding(inputs.masked_fill(hidden, self.config.special_token))  # [1, S, d]
        for copy, prefix in enumerate(slot.prefixes):
            x = torch.cat([prefix[None], audio], dim=1)
            if x.shape[1]:
                self.backend.prefill(copy * self.n_slots + index, x + self.positions[: x.shape[1]])
