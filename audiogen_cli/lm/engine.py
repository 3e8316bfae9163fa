"""The decoding engine: from texts, seeds and prompts to codes, with cached keys and values.

A sample's codes never depend on what is decoded beside it. On a CPU this holds bit for bit, by design: a step's
products round every row alike (`lm.linear`), everything before the first step (text, prompt) is computed for each
sample alone, and only samples whose steps have equal shapes share a lane.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import torch
from torch import Tensor

from audiogen_cli.errors import InputError
from audiogen_cli.lm.config import LMConfig, Sampling
from audiogen_cli.lm.graphs import Replay
from audiogen_cli.lm.linear import LANE_ROWS, MAX_ROWS, Linear, pack_linears, packed_layers
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.sampling import SamplingRows, guide, sample, uniforms
from audiogen_cli.lm.streams import delay, undelay
from audiogen_cli.lm.transformer import Block, KVCache, TextMemory, sinusoidal_positions

TEXT_BUCKET = 16  # texts are padded to a multiple of so many positions
GPU_BATCH = 16  # samples decoded side by side there, unless told otherwise
CPU_BATCH = 8  # the same on a CPU; more gain little, as attention to each sample's own past is no longer small
CACHED_WEIGHTS = 1 << 26  # bytes of float32 weights that a processor's own memory may hold in part
REACH = 512  # recorded steps look at a multiple of so many columns
UNKNOWN = -1  # a code still to be predicted


@dataclass(frozen=True)
class Job:
    """One sample to decode."""

    text: Tensor | None  # [L, D], the encoder's vectors; None: without text
    n_frames: int  # T, with the prompt's
    seed: int
    sampling: Sampling = field(default_factory=Sampling)
    prompt: Tensor | None = None  # [K, P] codes to go on from, P < T

    @property
    def n_prompt(self) -> int:
        """P, the frames given."""
        return 0 if self.prompt is None else self.prompt.shape[1]

    @property
    def guided(self) -> bool:
        """Whether a row without text is needed beside the one with it."""
        return self.text is not None and self.sampling.guidance != 1


class Engine:
    """Decodes jobs in lanes, with a model that is prepared for it and serves for nothing else afterwards.

    dtype: see `choose_dtype`. On a CPU it is that of the linear layers' weights (`lm.linear`), elsewhere of everything.
    """

    def __init__(self, model: AudioLanguageModel, dtype: str = "auto") -> None:
        self.dtype = choose_dtype(dtype, model)
        self.exact = model.null_text.device.type == "cpu"
        self.model = model.eval().to(torch.float32 if self.exact else getattr(torch, self.dtype))
        self.config: LMConfig = model.config
        self.weight = model.null_text  # stands for the device, and the dtype of all but the linear layers
        self.static = model.null_text.device.type == "cuda"  # steps of few shapes, to be recorded and replayed
        self.most_rows = MAX_ROWS
        if self.exact:
            pack_linears(model, self.dtype)
            if any(packed.least_rows == LANE_ROWS for packed in packed_layers(model)):
                self.most_rows = LANE_ROWS

    @torch.inference_mode()
    def generate(self, jobs: Sequence[Job], batch_size: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """Decode all jobs; yields (index, codes [K, T] int64 on the CPU), lane by lane, not in order.

        batch_size: most samples at once; on a CPU a lane holds at most MAX_ROWS rows anyway.
        """
        for lane in self._lanes(jobs, batch_size):
            codes = Lane(self, [jobs[i] for i in lane]).run()
            yield from zip(lane, codes, strict=True)

    @torch.inference_mode()
    def stream(self, job: Job, block_frames: int) -> Iterator[Tensor]:
        """Decode one job; yields blocks [K, t] of final codes, on the CPU, as soon as they are decided.

        The prompt comes first. Joined, the blocks are bit for bit what `generate` returns; t = block_frames but for
        the last one. Raises ValueError if block_frames is below 1.
        """
        if block_frames < 1:
            raise ValueError(f"block_frames must be at least 1, got {block_frames}")
        lane, sent = Lane(self, [job]), 0
        for decided in lane.decode():
            while decided - sent >= block_frames or sent < decided == job.n_frames:
                block = lane.codes(sent, min(sent + block_frames, decided))[0]
                sent += block.shape[1]
                yield block

    def _lanes(self, jobs: Sequence[Job], batch_size: int | None) -> list[list[int]]:
        """Indices of jobs that are decoded together: equal shapes, similar durations."""
        groups: dict[tuple[bool, int, int], list[int]] = {}
        for index, job in enumerate(jobs):
            groups.setdefault((job.guided, self.text_columns(job), job.n_prompt), []).append(index)
        lanes = []
        for (guided, _, _), members in groups.items():
            members.sort(key=lambda index: jobs[index].n_frames)
            size = batch_size or (CPU_BATCH if self.exact else GPU_BATCH)
            if self.exact:
                fitting = (physical_memory() // 2) // self._cache_bytes(jobs[members[-1]])
                size = min(size, max(1, min(self.most_rows, fitting) // (1 + guided)))
            lanes += [members[start : start + size] for start in range(0, len(members), size)]
        return lanes

    def _cache_bytes(self, job: Job) -> int:
        """What one row's keys and values take at most."""
        n_columns = self.text_columns(job) + min(job.n_frames, window_steps(self.config))
        return 2 * n_columns * self.config.dim * self.weight.element_size() * self.config.n_layers

    def text_columns(self, job: Job) -> int:
        """Columns that a job's text is padded to."""
        n_text = 1 if job.text is None else max(1, len(job.text))
        return -(-n_text // TEXT_BUCKET) * TEXT_BUCKET


@dataclass(frozen=True)
class Window:
    """Steps that are decoded with one cache: known + 1 … end, from start on as if the clip began there."""

    start: int
    known: int  # steps start … known are read at once
    end: int


def window_steps(config: LMConfig) -> int:
    """The most steps read before the cache is rebuilt: the longest window of the training."""
    return config.max_frames + max(config.stream_delays)


def windows(config: LMConfig, n_prompt: int, n_frames: int) -> list[Window]:
    """How a sample of n_frames, n_prompt of them given, is decoded.

    ours: beyond the trained window, its younger half is read again, all at once, as the past of the next one: keys
    hold positions, so those of the old cache are of no use. The rule looks at no duration, so that a sample decodes
    the same beside longer ones.
    """
    last = n_frames + max(config.stream_delays)
    found = []
    start, known = 0, n_prompt  # steps up to `known` hold all they can before decoding
    while known < last:
        if known - start >= window_steps(config):
            start = known - max(1, config.max_frames // 2)
        end = min(last, start + window_steps(config))
        found.append(Window(start, known, end))
        known = end
    return found


def count_frames(config: LMConfig, n_prompt: int, n_frames: int) -> tuple[int, int]:
    """What decoding such a sample costs: (steps decoded one by one, frames read again where the window slides)."""
    found = windows(config, n_prompt, n_frames)
    return sum(each.end - each.known for each in found), sum(each.known - each.start for each in found[1:])


class Lane:
    """Samples decoded side by side: n samples, R rows (those with text, then for guidance those without)."""

    def __init__(self, engine: Engine, jobs: Sequence[Job]) -> None:
        self.model, self.config, self.jobs = engine.model, engine.config, jobs
        self.device, self.dtype, self.exact = engine.weight.device, engine.weight.dtype, engine.exact
        self.delays = self.config.stream_delays
        self.n_frames = max(job.n_frames for job in jobs)
        self.n_samples, self.copies = len(jobs), 1 + jobs[0].guided
        self.static = engine.static
        self.window = window_steps(self.config)
        # Rows that are prepared together: on a CPU each sample alone, whatever its lane holds.
        whole = [list(range(self.n_samples * self.copies))]
        alone = [[i + copy * self.n_samples for copy in range(self.copies)] for i in range(self.n_samples)]
        self.parts = alone if self.exact else whole
        self.sampling = SamplingRows.stack([job.sampling for job in jobs], self.device)
        self.steps = torch.cat([self._lay_out(job) for job in jobs]).to(self.device)  # [n, K, 1 + T + late]
        self.uniforms = torch.cat([self._lay_out_uniforms(job) for job in jobs]).to(self.device)
        self._read_texts(engine.text_columns(jobs[0]))

    def run(self) -> list[Tensor]:
        """Decode every step; returns each sample's codes [K, T]."""
        for _ in self.decode():
            pass
        codes = self.codes(0, self.n_frames)
        return [row[:, : job.n_frames].clone() for row, job in zip(codes, self.jobs, strict=True)]

    def codes(self, start: int, end: int) -> Tensor:
        """[n, K, end - start] on the CPU: the frames start … end - 1, which must be decided."""
        late = max(self.delays)
        return undelay(self.steps[..., start : 1 + end + late], self.delays).cpu()

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
        # On a CPU the caches always have room for a whole window, so that their layout is the same in any company;
        # what is not written there takes no memory.
        caches = self._prefill(inputs, self.window if self.exact else n_steps)
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
        layers = zip(cast("list[Block]", self.model.blocks), self.memories, caches, strict=True)
        if isinstance(column, Tensor):
            mask = mask.masked_fill(self.columns[:reach] > column, -torch.inf)
        if self.exact and not isinstance(column, Tensor):
            x, mask = x[:, 0], mask.expand(-1, self.config.n_heads, -1, -1).flatten(0, 1)  # once for all layers
            for block, memory, cache in layers:
                x = block.step(x, memory, cache, column, mask)
            x = x[:, None]
        else:
            for block, memory, cache in layers:
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
        if n_columns:
            audio = self.model.embedding(inputs).repeat(self.copies, 1, 1)  # [R, S, d]
            for rows in self.parts:
                self._prefill_part(rows, torch.cat([self.prefix[rows], audio[rows]], dim=1), caches)
        return caches

    def _prefill_part(self, rows: list[int], x: Tensor, caches: list[KVCache]) -> None:
        """x: [r, C, d], embeddings of the first C columns of these rows."""
        n_columns = x.shape[1]
        column = torch.arange(n_columns, device=self.device)
        x = x + self.positions[(column - self.padding[rows, None]).clamp_(min=0)]
        # Padding sees itself, and only that: a softmax over nothing would not be a number.
        visible = (column[:, None] >= column) & (column >= self.padding[rows, None, None])
        visible |= torch.eye(n_columns, dtype=torch.bool, device=self.device)
        mask = _additive(visible, self.dtype)[:, None]  # [r, 1, C, C]
        for block, memory, cache in zip(self.model.blocks, self.memories, caches, strict=True):
            shape = (len(rows), *cache.key.shape[1:2], n_columns, cache.key.shape[3])
            part = KVCache(cache.key.new_empty(shape), cache.value.new_empty(shape))
            own = memory and TextMemory(memory.key[rows], memory.value[rows], memory.mask[rows])
            x = block(x, own, part, 0, mask)
            cache.key[rows, :, :n_columns], cache.value[rows, :, :n_columns] = part.key, part.value

    def _read_texts(self, n_columns: int) -> None:
        """Everything that follows from the texts: prefix, lengths and padding, cross-attention keys and values."""
        texts = [job.text for job in self.jobs] + [None] * (self.n_samples * (self.copies - 1))
        text = torch.zeros(len(texts), n_columns, self.config.text_width)
        mask = torch.zeros(len(texts), n_columns, dtype=torch.bool)
        for row, vectors in enumerate(texts):
            if vectors is not None:
                text[row, : len(vectors)] = vectors
                mask[row, : len(vectors)] = True
        text, mask = text.to(self.device, self.dtype), mask.to(self.device)
        parts = [self.model.project_text(text[rows], mask[rows]) for rows in self.parts]
        memories = [self.model.remember_text(*part) for part in parts]
        order = torch.tensor([row for part in self.parts for row in part]).argsort().to(self.device)
        vectors, mask = (torch.cat(each)[order] for each in zip(*parts, strict=True))
        self.memories = [_join_memories(layer, order) for layer in zip(*memories, strict=True)]
        lengths = mask.sum(1) if self.config.text_prefix else mask.new_zeros(len(mask), dtype=torch.long)
        # The prefix is padded on the left, so that the audio of all rows begins at one column.
        self.text_lengths, self.n_prefix = lengths, n_columns if self.config.text_prefix else 0
        self.padding = self.n_prefix - lengths
        self.prefix = torch.stack([row.roll(int(by), 0) for row, by in zip(vectors, self.padding, strict=True)])
        self.prefix = self.prefix[:, : self.n_prefix]  # [R, n_prefix, d]
        self.columns = torch.arange(self.n_prefix + self.window, device=self.device)
        self.prefix_mask = _additive(self.columns >= self.padding[:, None], self.dtype)[:, None, None]  # [R, 1, 1, C]
        self.positions = sinusoidal_positions(self.columns, self.config.dim).to(self.dtype)

    def _lay_out(self, job: Job) -> Tensor:
        """[1, K, 1 + T + late]: the prompt, what is to be predicted, and the special token elsewhere."""
        codes = torch.full((1, self.config.n_q, self.n_frames), self.config.special_token)
        codes[..., : job.n_frames] = UNKNOWN
        if job.prompt is not None:
            codes[..., : job.n_prompt] = job.prompt
        return delay(codes, self.delays, self.config.special_token)

    def _lay_out_uniforms(self, job: Job) -> Tensor:
        """[1, K, 1 + T + late]: the sample's random numbers, each at the step that it decides."""
        return delay(uniforms(job.seed, self.n_frames, self.config.n_q).T[None], self.delays, 0)


def _at(x: Tensor, index: int | Tensor) -> Tensor:
    """x[..., index : index + 1], for a tensor index [1] without the CPU knowing it."""
    return x.index_select(-1, index) if isinstance(index, Tensor) else x[..., index : index + 1]


def _additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask to add to attention scores: 0 where visible, -inf elsewhere."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, -torch.inf)


def _join_memories(parts: Sequence[TextMemory | None], order: Tensor) -> TextMemory | None:
    """The parts of one layer's text memory as one, its rows in order."""
    found = [part for part in parts if part is not None]
    if not found:
        return None
    return TextMemory(*(torch.cat([getattr(part, name) for part in found])[order] for name in ("key", "value", "mask")))


def choose_dtype(name: str, model: AudioLanguageModel) -> str:
    """The number format to decode in: float32, bfloat16, float16 or, on a CPU, int8.

    auto: bfloat16 on CUDA, and on CPUs that multiply it natively if the weights exceed what their own memory holds;
    else float32. Raises InputError for int8 elsewhere than on a CPU.
    """
    device = model.null_text.device.type
    if name == "int8" and device != "cpu":
        raise InputError(f"--dtype int8 is for CPUs; use bfloat16 on {device}")
    if name != "auto":
        return name
    if device == "cpu":
        large = 4 * sum(m.weight.numel() for m in model.modules() if isinstance(m, Linear)) > CACHED_WEIGHTS
        return "bfloat16" if large and _native_bfloat16() else "float32"
    return "bfloat16" if device == "cuda" else "float32"


def physical_memory() -> int:
    """Bytes of this machine's memory; where the system does not tell, as much as a small machine has."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 8 << 30


def _native_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware; torch keeps the question private."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)
