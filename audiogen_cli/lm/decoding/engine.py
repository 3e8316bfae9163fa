"""The decoding engine: from texts, seeds and prompts to codes, with cached keys and values.

A sequence's codes never depend on what is decoded beside it. On a CPU this holds bit for bit, by design: a step rounds
every row alike (`cpu_backend`), and what precedes the first one (text, prompt) is computed for each sequence alone.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

import torch
from torch import Tensor

from audiogen_cli.devices import free_memory
from audiogen_cli.errors import InputError
from audiogen_cli.lm.config import LMConfig
from audiogen_cli.lm.decoding.backend import Backend, TorchBackend
from audiogen_cli.lm.decoding.continuous_batch import BatchShape, ContinuousBatch
from audiogen_cli.lm.decoding.cpu_backend import CpuBackend
from audiogen_cli.lm.decoding.requests import DecodingRequest, count_frames, count_text_columns, window_steps
from audiogen_cli.lm.decoding.rounding import ROUNDED
from audiogen_cli.lm.model import AudioLanguageModel

GPU_BATCH = 64  # sequences decoded side by side there by default, if memory allows
MEMORY_SHARE = 0.8  # of the free memory that may hold keys and values
# The same on a CPU. With 4, 8, 12 and 16 the embedded model makes 2.5, 3.7, 4.8 and 5 times as many sounds a second as
# with 1; a larger one with a long past makes 1.3 times as many with 2, and no more with 12.
CPU_BATCH = 12
BLOCK_RATIO = 4  # later blocks are so many times as long: fewer passes through the codec
CACHED_WEIGHTS = 1 << 26  # bytes of float32 weights that a processor's caches may hold in part

logger = logging.getLogger(__name__)  # without a handler, Python prints its warnings on stderr


class Engine:
    """Decodes requests in batches, with a model that is changed for it and must not be used otherwise afterwards.

    dtype: see `choose_dtype`. int8 and int4 are for the weights of linear layers (`rounding`), all else is float32.
    backend: by default the fastest on the model's device.
    """

    def __init__(self, model: AudioLanguageModel, dtype: str = "auto", backend: type[Backend] | None = None) -> None:
        self.dtype = choose_dtype(dtype, model.config, model.null_text.device)
        self.exact = model.null_text.device.type == "cpu"
        self.default_batch = CPU_BATCH if self.exact else GPU_BATCH
        model.eval()
        self.backend, self.most_rows = (
            (backend, backend.load(model, self.dtype)) if backend else load_fastest(model, self.dtype)
        )
        self.model = model
        self.config: LMConfig = model.config
        self.cache_dtype = self.backend.choose_cache_dtype(self.dtype)
        self._kept: ContinuousBatch | None = None  # with its recorded step, for requests of the same shape

    @torch.inference_mode()
    def generate(
        self, requests: Sequence[DecodingRequest], batch_size: int | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """Decode all requests; yield (index, codes [K, T] int64 on the CPU) as they end, not in order.

        batch_size: most sequences at once; on a CPU there are at most MAX_ROWS rows anyway.
        """
        kinds = [(len(each.texts), self.backend.folds(self.config, count_text_columns(each))) for each in requests]
        for kind in sorted(set(kinds), reverse=True):  # what is computed in one way is decoded together
            members = [index for index, each in enumerate(kinds) if each == kind]
            members.sort(key=lambda index: -requests[index].n_frames)  # so that all slots are busy to the end
            with self.open_batch([requests[index] for index in members], batch_size) as batch:
                yield from ((members[number], codes) for number, codes in batch.run())

    @torch.inference_mode()
    def stream(self, request: DecodingRequest, block_frames: int) -> Iterator[Tensor]:
        """Decode one request; yield blocks [K, t] of final codes, on the CPU, as soon as they are decided.

        The prompt comes first. Joined, the blocks are bit for bit what `generate` yields; t = block_frames but for
        the last one. Raises ValueError if block_frames is below 1.
        """
        if block_frames < 1:
            raise ValueError(f"block_frames must be at least 1, got {block_frames}")
        sent = 0
        with self.open_batch([request]) as batch:
            for decided in batch.run_single():
                while decided - sent >= block_frames or sent < decided == request.n_frames:
                    end = min(sent + block_frames, decided)
                    yield batch.read_codes(sent, end)
                    sent = end

    def count_frames(self, n_prompt: int, n_frames: int) -> tuple[int, int]:
        """Call `requests.count_frames` for this model."""
        return count_frames(self.config, n_prompt, n_frames)

    def count_bytes(self, request: DecodingRequest, n: int) -> int:
        """Count the bytes of keys and values that n sequences like this one take side by side."""
        shape = BatchShape.of(self.config, [request], n, self.backend.bucket)
        return n * shape.n_copies * self._row_bytes(shape)

    @contextmanager
    def open_batch(
        self, requests: Sequence[DecodingRequest], batch_size: int | None = None
    ) -> Iterator[ContinuousBatch]:
        """Begin to decode requests that read equally many texts; with one of the kept batch's shape in its tensors."""
        kept, self._kept = self._kept, None  # nobody else gets it meanwhile
        n_slots = self.count_slots(requests, batch_size or self.default_batch, kept.shape if kept else None)
        shape = BatchShape.of(self.config, requests, n_slots, self.backend.bucket)
        if kept is None or kept.shape != shape:
            kept = None  # its memory first
            kept = ContinuousBatch(self.backend, self.model, self.cache_dtype, shape)
        kept.start(requests)
        yield kept
        if self.backend.keeps_batches:
            self._kept = kept

    def count_slots(self, requests: Sequence[DecodingRequest], most: int, held: BatchShape | None = None) -> int:
        """Return how many of these requests to decode side by side: at most `most`, and what rows and memory allow.

        held: the shape of a batch whose memory will be free.
        """
        device, shape = self.model.null_text.device, BatchShape.of(self.config, requests, 1, self.backend.bucket)
        held_bytes = held.n_slots * held.n_copies * self._row_bytes(held) if held else 0
        room = MEMORY_SHARE * ((free_memory(device) or math.inf) + held_bytes)
        rows = min(self.most_rows, room // self._row_bytes(shape))
        return max(1, min(most, len(requests), int(rows) // shape.n_copies))

    def _row_bytes(self, shape: BatchShape) -> int:
        n_text = shape.n_text * (self.config.n_heads if self.backend.folds(self.config, shape.n_text) else 1)
        n_columns = n_text + min(shape.n_steps, window_steps(self.config))
        return 2 * n_columns * self.config.dim * self.cache_dtype.itemsize * self.config.n_layers


def load_fastest(model: AudioLanguageModel, dtype: str) -> tuple[type[Backend], int]:
    """Load a model for the fastest backend of its device; return that, and the maximum number of rows of a step."""
    device = model.null_text.device.type
    if device == "cuda":
        from audiogen_cli.lm.decoding import cuda_backend

        return cuda_backend.load_fastest(model, dtype)
    backend: type[Backend] = CpuBackend if device == "cpu" else TorchBackend
    return backend, backend.load(model, dtype)


def count_weights(config: LMConfig) -> int:
    """Count the weights of the linear layers in blocks and heads."""
    per_block = 4 + 4 * config.cross_attention + 2 * config.ff_scale
    return (config.n_layers * per_block * config.dim + config.n_q * config.codebook_size) * config.dim


def choose_dtype(name: str, config: LMConfig, device: torch.device | str) -> str:
    """Choose the number format to decode in: float32, on a CPU also int8 or int4, elsewhere also bfloat16 or float16.

    auto: bfloat16 on CUDA (float16 before Ampere); on a CPU float32 if its caches hold the weights that a step reads,
    else int8. A diffusion model computes whole windows, where reading weights takes no time: on a CPU in float32.
    Raises InputError for another name, and for int8 and int4 elsewhere than on a CPU.
    """
    if name not in (known := ("auto", "float32", "bfloat16", "float16", *ROUNDED)):
        raise InputError(f"unknown number format '{name}': choose {', '.join(known)}")
    kind = torch.device(device).type
    if name in ROUNDED and kind != "cpu":
        raise InputError(f"--dtype {name} is for CPUs; use bfloat16 on {kind}")
    if kind == "cpu":
        steps = config.decoder == "autoregressive"
        if name == "auto":
            return "int8" if steps and 4 * count_weights(config) > CACHED_WEIGHTS else "float32"
        if name in ROUNDED and steps:
            return name
        if name != "float32":
            where = "GPUs" if name not in ROUNDED else "autoregressive models"
            logger.warning("--dtype %s is for %s: computing in float32", name, where)
        return "float32"
    if name != "auto":
        return name
    if kind == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float16"
    return "float32"


def regroup(blocks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield the first block [..., t], then BLOCK_RATIO of them at a time as one."""
    blocks = iter(blocks)
    yield from islice(blocks, 1)
    while group := list(islice(blocks, BLOCK_RATIO)):
        yield torch.cat(group, dim=-1)
