"""The decoding engine: from texts, seeds and prompts to codes, with cached keys and values.

A sample's codes never depend on what is decoded beside it. On a CPU this holds bit for bit, by design: a step's
products (`lm.linear`) and attention (`lm.cpu_step`) round every row alike, and everything before the first step (text,
prompt) is computed for each sample alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from audiogen_cli.errors import InputError
from audiogen_cli.lm.config import LMConfig
from audiogen_cli.lm.decoding.continuous_batch import CpuLane
from audiogen_cli.lm.decoding.cpu_step import cache_dtype
from audiogen_cli.lm.decoding.requests import DecodingRequest, text_columns, window_steps
from audiogen_cli.lm.decoding.static_batch import Lane
from audiogen_cli.lm.kernels.linear import LANE_ROWS, MAX_ROWS, Linear, pack_linears, packed_layers
from audiogen_cli.lm.model import AudioLanguageModel

GPU_BATCH = 16  # samples decoded side by side there, unless told otherwise
CPU_BATCH = 8  # the same on a CPU; more gain little, as attention to each sample's own past is no longer small
CACHED_WEIGHTS = 1 << 26  # bytes of float32 weights that a processor's own memory may hold in part


class Engine:
    """Decodes jobs in lanes, with a model that is prepared for it and serves for nothing else afterwards.

    dtype: see `choose_dtype`. On a CPU it is that of the linear layers' weights (`lm.linear`), elsewhere of everything.
    """

    def __init__(self, model: AudioLanguageModel, dtype: str = "auto") -> None:
        self.dtype = choose_dtype(dtype, model)
        self.exact = model.null_text.device.type == "cpu"
        self.model = model.eval().to(torch.float32 if self.exact else getattr(torch, self.dtype))
        self.config: LMConfig = model.config
        self.cache_dtype = cache_dtype(self.dtype) if self.exact else model.null_text.dtype  # of keys and values
        self.static = model.null_text.device.type == "cuda"  # steps of few shapes, to be recorded and replayed
        self.most_rows = MAX_ROWS
        if self.exact:
            pack_linears(model, self.dtype)
            if any(packed.least_rows == LANE_ROWS for packed in packed_layers(model)):
                self.most_rows = LANE_ROWS

    @torch.inference_mode()
    def generate(self, jobs: Sequence[DecodingRequest], batch_size: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """Decode all jobs; yields (index, codes [K, T] int64 on the CPU) as they end, not in order.

        batch_size: most samples at once; on a CPU there are at most MAX_ROWS rows anyway.
        """
        for members in self._lanes(jobs, batch_size):
            lane = self._lane([jobs[i] for i in members], batch_size)
            yield from ((members[number], codes) for number, codes in lane.run())

    @torch.inference_mode()
    def stream(self, job: DecodingRequest, block_frames: int) -> Iterator[Tensor]:
        """Decode one job; yields blocks [K, t] of final codes, on the CPU, as soon as they are decided.

        The prompt comes first. Joined, the blocks are bit for bit what `generate` returns; t = block_frames but for
        the last one. Raises ValueError if block_frames is below 1.
        """
        if block_frames < 1:
            raise ValueError(f"block_frames must be at least 1, got {block_frames}")
        lane, sent = self._lane([job]), 0
        for decided in lane.decode():
            while decided - sent >= block_frames or sent < decided == job.n_frames:
                end = min(sent + block_frames, decided)
                yield lane.codes(sent, end)
                sent = end

    @property
    def continuous(self) -> bool:
        """Whether a lane takes jobs of any shape, one after another; else its jobs must have equal shapes."""
        return self.exact and not self.static

    def _lane(self, jobs: Sequence[DecodingRequest], batch_size: int | None = None) -> Lane | CpuLane:
        if self.continuous:
            return CpuLane(self.model, self.cache_dtype, jobs, self._n_slots(jobs, batch_size or CPU_BATCH))
        return Lane(self.model, jobs, self.static)

    def _lanes(self, jobs: Sequence[DecodingRequest], batch_size: int | None) -> list[list[int]]:
        """Indices of jobs that share a lane, in the order to decode them in."""
        groups: dict[tuple[bool, int, int], list[int]] = {}
        for index, job in enumerate(jobs):
            shape = (0, 0) if self.continuous else (text_columns(job), job.n_prompt)
            groups.setdefault((job.guided, *shape), []).append(index)
        for members in groups.values():  # the longest first, so that all slots of a lane are busy to its end
            members.sort(key=lambda index: -jobs[index].n_frames)
        if self.continuous:
            return list(groups.values())
        size = batch_size or GPU_BATCH
        return [members[at : at + size] for members in groups.values() for at in range(0, len(members), size)]

    def _n_slots(self, jobs: Sequence[DecodingRequest], most: int) -> int:
        """How many of these jobs to decode side by side: at most so many, and what rows and memory allow."""
        copies = 1 + jobs[0].guided
        n_columns = max(text_columns(job) + min(job.n_frames, window_steps(self.config)) for job in jobs)
        n_bytes = 2 * n_columns * self.config.dim * self.cache_dtype.itemsize * self.config.n_layers  # of a row
        fitting = physical_memory() // 2 // n_bytes
        return max(1, min(most, len(jobs), min(self.most_rows, fitting) // copies))


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
