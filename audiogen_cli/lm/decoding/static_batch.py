"""Decoding on a GPU: samples of equal shapes side by side, at one position, so that steps can be recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from audiogen_cli.lm.config import LMConfig
from audiogen_cli.lm.decoding.cuda_graphs import Replay
from audiogen_cli.lm.decoding.requests import (
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
from audiogen_cli.lm.transformer import KVCache, sinusoidal_positions

REACH = 512  # recorded steps look at a multiple of so many columns


class Lane:
    """Samples decoded side by side: n samples, R rows (those with text, then for guidance those without).

    static: the steps have few shapes and are recorded, see `Replay`.
    """

    def __init__(self, model: AudioLanguageModel, jobs: Sequence[DecodingRequest], static: bool) -> None:
        self.model, self.jobs, self.static = model, jobs, static
        self.config: LMConfig = model.config
        self.device, self.dtype = model.null_text.device, model.null_text.dtype
        self.delays = self.config.stream_delays
        self.n_frames = max(job.n_frames for job in jobs)
        self.n_samples, self.copies = len(jobs), 1 + jobs[0].guided
        self.sampling = SamplingRows.stack([job.sampling for job in jobs], self.device)
        laid_out = [lay_out(self.config, job, self.n_frames) for job in jobs]
        self.steps, self.uniforms = (torch.cat(each).to(self.device) for each in zip(*laid_out, strict=True))
        self._read_texts(text_columns(jobs[0]))

    def run(self) -> Iterator[tuple[int, Tensor]]:
        """Decode all jobs; yields (number of the job, codes [K, T])."""
        for _ in self.decode():
            pass
        yield from ((number, self.codes(0, job.n_frames, number)) for number, job in enumerate(self.jobs))

    def codes(self, start: int, end: int, number: int = 0) -> Tensor:
        """[K, end - start] on the CPU: the frames start … end - 1 of a job, which must be decided."""
        steps = self.steps[number : number + 1, :, start : 1 + end + max(self.delays)]
        return undelay(steps, self.delays)[0].cpu()

    def decode(self) -> Iterator[int]:
        """Predict step after step; yields how many frames are decided: the prompt's, then after every step."""
        prompt = self.jobs[0].n_prompt
        yield prompt
        for window in windows(self.config, prompt, self.n_frames):
            for step in self._decode_window(window):
                yield max(prompt, step - max(self.delays))

    def _decode_window(self, window: Window) -> Iterator[int]:
        """Predict the window's steps; yields each when it is on its way."""
        # Frames before the window are hidden behind the special token, as before the start of a clip.
        n_steps, n_known = window.end - window.start, window.known - window.start
        frame = torch.arange(n_steps) - 1 - torch.tensor(self.delays)[:, None]
        hidden = (frame < 0).to(self.device)  # [K, steps]
        inputs = self.steps[..., window.start : window.known].masked_fill(
            hidden[:, :n_known], self.config.special_token
        )
        caches = self._prefill(inputs, n_steps)
        if not self.static:
            for local in range(n_known, n_steps):
                self._advance(window.start, local, self.n_prefix + local + 1, hidden, caches)
                yield window.start + local + 1
            return
        clock = torch.tensor([n_known], device=self.device)

        def advance(reach: int) -> None:
            self._advance(window.start, clock, reach, hidden, caches)
            clock.add_(1)

        run = Replay(advance, self.device)
        for local in range(n_known, n_steps):
            run(min(self.n_prefix + n_steps, -(-(self.n_prefix + local + 1) // REACH) * REACH))
            yield window.start + local + 1

    def _advance(self, start: int, local: int | Tensor, reach: int, hidden: Tensor, caches: list[KVCache]) -> None:
        """Read step `local` of the window that begins at `start`, and decide what is unknown of the next one.

        local: a number, or a tensor [1] on the device. reach: columns that attention looks at. hidden: [K, steps].
        """
        tokens = _at(self.steps, start + local).masked_fill(_at(hidden, local), self.config.special_token)
        logits = self._step(tokens, local, reach, caches)
        drawn = sample(logits, self.sampling, _at(self.uniforms, start + local + 1)[..., 0])
        following = _at(self.steps, start + local + 1)  # [n, K, 1]
        decided = torch.where(following == UNKNOWN, drawn[..., None], following)
        if isinstance(local, Tensor):
            self.steps.index_copy_(-1, start + local + 1, decided)
        else:
            following.copy_(decided)

    def _step(self, tokens: Tensor, local: int | Tensor, reach: int, caches: list[KVCache]) -> Tensor:
        """tokens: [n, K, 1] of the window's step `local`. Returns guided logits [n, K, V] for the next step."""
        x = self.model.embedding(tokens).repeat(self.copies, 1, 1)  # [R, 1, d]
        x = x + self.positions[self.text_lengths + local][:, None]
        column = self.n_prefix + local
        mask = self.prefix_mask[..., :reach]
        if isinstance(column, Tensor):
            mask = mask.masked_fill(self.columns[:reach] > column, -torch.inf)
        for block, memory, cache in zip(self.model.blocks, self.memories, caches, strict=True):
            x = block(x, memory, cache, column, mask)
        logits = self.model.heads(self.model.norm(x))[:, :, 0]  # [R, K, V]
        if self.copies == 1:
            return logits
        with_text, without = logits.float().chunk(2)
        return guide(with_text, without, self.sampling.guidance)

    def _prefill(self, inputs: Tensor, room: int) -> list[KVCache]:
        """Fresh caches for `room` steps that hold the text's prefix and inputs [n, K, S], the first S steps."""
        heads = self.config.n_heads
        shape = (self.n_samples * self.copies, heads, self.n_prefix + room, self.config.dim // heads)
        # Zeros where attention also looks at what is not written yet: 0 times whatever lies there may be no number.
        make = partial(torch.zeros if self.static else torch.empty, shape, dtype=self.dtype, device=self.device)
        caches = [KVCache(make(), make()) for _ in self.model.blocks]
        n_columns = self.n_prefix + inputs.shape[-1]
        if n_columns == 0:
            return caches
        audio = self.model.embedding(inputs).repeat(self.copies, 1, 1)  # [R, S, d]
        column = torch.arange(n_columns, device=self.device)
        x = torch.cat([self.prefix, audio], dim=1) + self.positions[(column - self.padding[:, None]).clamp_(min=0)]
        # Padding sees itself, and only that: a softmax over nothing would not be a number.
        visible = (column[:, None] >= column) & (column >= self.padding[:, None, None])
        visible |= torch.eye(n_columns, dtype=torch.bool, device=self.device)
        mask = additive(visible, self.dtype)[:, None]  # [R, 1, C, C]
        for block, memory, cache in zip(self.model.blocks, self.memories, caches, strict=True):
            x = block(x, memory, cache, 0, mask)
        return caches

    def _read_texts(self, n_columns: int) -> None:
        """Everything that follows from the texts: prefix, lengths and padding, cross-attention keys and values."""
        texts = [job.vectors for job in self.jobs] + [None] * (self.n_samples * (self.copies - 1))
        text = torch.zeros(len(texts), n_columns, self.config.text_width)
        mask = torch.zeros(len(texts), n_columns, dtype=torch.bool)
        for row, vectors in enumerate(texts):
            if vectors is not None:
                text[row, : len(vectors)] = vectors
                mask[row, : len(vectors)] = True
        vectors, mask = self.model.project_text(text.to(self.device, self.dtype), mask.to(self.device))
        self.memories = self.model.remember_text(vectors, mask)
        lengths = mask.sum(1) if self.config.text_prefix else mask.new_zeros(len(mask), dtype=torch.long)
        # The prefix is padded on the left, so that the audio of all rows begins at one column.
        self.text_lengths, self.n_prefix = lengths, n_columns if self.config.text_prefix else 0
        self.padding = self.n_prefix - lengths
        self.prefix = torch.stack([row.roll(int(by), 0) for row, by in zip(vectors, self.padding, strict=True)])
        self.prefix = self.prefix[:, : self.n_prefix]  # [R, n_prefix, d]
        self.columns = torch.arange(self.n_prefix + window_steps(self.config), device=self.device)
        self.prefix_mask = additive(self.columns >= self.padding[:, None], self.dtype)[:, None, None]  # [R, 1, 1, C]
        self.positions = sinusoidal_positions(self.columns, self.config.dim).to(self.dtype)


def _at(x: Tensor, index: int | Tensor) -> Tensor:
    """x[..., index : index + 1], for a tensor index [1] without the CPU knowing it."""
    return x.index_select(-1, index) if isinstance(index, Tensor) else x[..., index : index + 1]
