"""The CUDA backends: steps recorded as CUDA graphs, and made of a few kernels of our own (`cuda_kernels`).

A plain step of the base model is about 450 kernels, most of which take longer to launch than to run. The residual
stream, norms, embeddings and heads stay in float32; the products of the blocks are in the engine's number format.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from audiogen_cli.devices import current
from audiogen_cli.errors import first_line
from audiogen_cli.lm.config import LMConfig
from audiogen_cli.lm.decoding.backend import Backend, BatchState, BlockBackend, TorchBackend
from audiogen_cli.lm.decoding.requests import TEXT_BUCKET, UNKNOWN
from audiogen_cli.lm.model import AudioLanguageModel, random_text
from audiogen_cli.lm.transformer import Block, CrossAttention, CrossAttentionKV

BUCKET = 512  # steps and attended positions come in multiples of so many: fewer recordings
PART, JOINED = 256, 8  # positions that one program attends to, 64 at once; parts that are joined at once
COLUMNS = 16  # outputs that one program computes …
DEPTH = 512  # … from so many bytes of weights of each at once
OWN = 8  # scores of a text that one program computes
EXACT, ROUNDED = 1e-3, 5e-2  # by how much logits may differ from the modules', in float32 and in fewer bits

logger = logging.getLogger(__name__)  # without a handler, Python prints its warnings on stderr


class RecordedStep:
    """Runs step(kv_length); recorded once for each kv_length and then replayed, without the CPU in between.

    The step's shapes may depend on kv_length only, and it must read and write the same tensors every time.
    """

    def __init__(self, step: Callable[[int], None]) -> None:
        self.step = step
        self.graphs: dict[int, torch.cuda.CUDAGraph | None] = {}  # None: has run once, plainly

    def __call__(self, kv_length: int) -> None:
        """Run one step."""
        if kv_length not in self.graphs:  # the first time plainly: libraries set themselves up, kernels are compiled
            self.graphs[kv_length] = None
            self.step(kv_length)
            return
        graph = self.graphs[kv_length]
        if graph is None:
            graph = self.graphs[kv_length] = torch.cuda.CUDAGraph()
            # Records, runs nothing. Other threads may use the GPU meanwhile: training reads ahead in one.
            with torch.cuda.graph(graph, stream=_recording_stream(), capture_error_mode="thread_local"):
                self.step(kv_length)
        graph.replay()


def _recording_stream() -> torch.cuda.Stream:
    """Return the current GPU's stream to record on; torch's own is that of the GPU which recorded first."""
    gpu = torch.cuda.current_device()
    if gpu not in _recording_streams:
        _recording_streams[gpu] = torch.cuda.Stream()
    return _recording_streams[gpu]


_recording_streams: dict[int, torch.cuda.Stream] = {}


class RecordedBackend(TorchBackend):
    """The model's own modules, recorded: where the kernels cannot be compiled."""

    bucket, keeps_batches = BUCKET, True

    def record(self, state: BatchState) -> Callable[[int], None]:
        step, most = RecordedStep(partial(self.advance, state)), len(self.columns)
        return lambda kv_length: step(min(most, -(-kv_length // BUCKET) * BUCKET))


class CudaBackend(BlockBackend):
    """Kernels of our own, recorded. Their launches depend on no length: one recording serves a batch to its end."""

    bucket, keeps_batches = BUCKET, True

    def __init__(self, model: AudioLanguageModel, n_rows: int, n_columns: int, n_text: int, dtype: torch.dtype) -> None:
        from audiogen_cli.lm.decoding import cuda_kernels

        super().__init__(model, n_rows, n_columns, n_text, dtype)
        self.kernels = cuda_kernels
        config, (n_heads, size) = model.config, self.cache_shape
        empty = partial(torch.empty, dtype=dtype, device=model.null_text.device)
        exact = partial(empty, dtype=torch.float32)
        pairs, self.n_parts = n_rows * n_heads, -(-n_columns // PART)
        self.blocks = cast("list[Block]", list(model.blocks))
        past = (pairs, n_columns, size)
        self.caches = [(empty(past), empty(past)) for _ in self.blocks]
        self.folded = self.folds(config, n_text)
        text = (pairs, n_text, config.dim if self.folded else size)
        self.texts = [
            (empty(text), empty(text), exact(pairs, n_text, 1).zero_())
            for block in self.blocks
            if block.cross_attention
        ]
        self.scores = exact(pairs, n_text)
        self.positions, self.last_text = exact(n_rows, dtype=torch.int32), exact(n_rows, dtype=torch.int32)
        self.x, self.query, self.attended = exact(n_rows, config.dim), *(empty(n_rows, config.dim) for _ in range(2))
        self.qkv, self.hidden = empty(n_rows, 3 * config.dim), empty(n_rows, config.ff_scale * config.dim)
        self.parts, self.sums = exact(pairs, self.n_parts, size), exact(pairs, self.n_parts, 2)
        self.logits = exact(n_rows, config.n_q, config.codebook_size)
        self.probabilities, self.ranks = exact(self.logits.shape), exact(self.logits.shape, dtype=torch.int32)
        self.masses = exact(self.logits.shape, dtype=torch.float64)

    @staticmethod
    def load(model: AudioLanguageModel, dtype: str) -> int:
        model.to(torch.float32)
        if dtype != "float32":
            model.precision = getattr(torch, dtype)
            for module in model.blocks.modules():
                if isinstance(module, nn.Linear):
                    module.to(model.precision)
        return 1 << 30

    def record(self, state: BatchState) -> Callable[[int], None]:
        step = RecordedStep(partial(self.advance, state))
        return lambda kv_length: step(0)

    def prepare(self, row: int, vectors: Tensor | None) -> Tensor:
        with self.model.mixed_precision():
            return super().prepare(row, vectors).float()

    def prefill(self, row: int, x: Tensor) -> None:
        with self.model.mixed_precision():
            super().prefill(row, x)

    def fill(self, row: int, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        self._store(row, self.caches, layers)

    @staticmethod
    def folds(config: LMConfig, n_text: int) -> bool:
        """Return whether a text's keys and values are kept folded (`CrossAttention.fold`).

        Then a layer multiplies with 2 · H · L · d numbers of each text in place of 2 · d² weights: fewer if L ≤ E.
        """
        return config.cross_attention and n_text * config.n_heads <= config.dim

    def set_cross_kv(self, row: int, layers: Sequence[CrossAttentionKV]) -> None:
        stored: list[tuple[Tensor, ...]] = [(kv.key[0], kv.value[0]) for kv in layers]
        if self.folded:
            crossing = [block.cross_attention for block in self.blocks if block.cross_attention]
            folded = [layer.fold(kv) for layer, kv in zip(crossing, layers, strict=True)]
            # With one position there is nothing to choose: all heads add the same to every step.
            values = [value if value.shape[1] > 1 else value.sum(0, keepdim=True) for _, _, value in folded]
            stored = [
                (key, value) if bias is None else (key, value, bias)
                for (key, bias, _), value in zip(folded, values, strict=True)
            ]
        self._store(row, self.texts, stored)
        if layers:
            self.last_text[row] = layers[0].key.shape[2] - 1

    def _store(self, row: int, caches: Sequence[tuple[Tensor, ...]], layers: Sequence[tuple[Tensor, ...]]) -> None:
        """Replace what a row holds: in every layer keys, values and what else comes [H, C, …]."""
        pairs = slice(row * self.cache_shape[0], (row + 1) * self.cache_shape[0])
        for cache, layer in zip(caches, layers, strict=True):
            for stored, new in zip(cache, layer, strict=False):
                stored[pairs, : new.shape[1]] = new

    def step(self, x: Tensor, positions: Tensor, kv_length: int) -> Tensor:
        self.x.copy_(x)
        self.positions.copy_(positions)
        self._run_blocks()
        return self.logits

    def advance(self, state: BatchState, kv_length: int) -> None:
        config, (n, n_streams, n_steps) = self.model.config, state.steps.shape
        tokens = state.steps, state.at, state.start, state.delays, state.n_prefix
        vectors = self.model.embedding.table.weight, state.positions
        launch(
            self.kernels.embed,
            (self.n_rows,),
            (*tokens, *vectors, self.x, self.positions, n, n_steps),
            DIM=config.dim,
            STREAMS=n_streams,
            SPECIAL=config.special_token,
            MEAN=config.embedding == "mean",
            BLOCK=_power_of_2(config.dim),
        )
        self._run_blocks()
        places, size = n * n_streams, config.codebook_size
        codes = {"CODES": size, "BLOCK": _power_of_2(size)}
        launch(
            self.kernels.normalize,
            (places,),
            (self.logits, *state.sampling.shaping, self.probabilities, n),
            STREAMS=n_streams,
            COPIES=state.n_copies,
            **codes,
        )
        ranked = self.probabilities, self.ranks, self.masses
        launch(self.kernels.rank, (places, -(-size // 32)), ranked, CODES=size, OWN=32, BLOCK=64)
        launch(
            self.kernels.draw,
            (places,),
            (*ranked, *state.sampling.limits, state.uniforms, state.steps, state.at, n_steps),
            STREAMS=n_streams,
            UNKNOWN=UNKNOWN,
            **codes,
        )
        state.at += state.active

    def _run_blocks(self) -> None:
        """Compute all rows' logits from their inputs `x` and `positions`."""
        texts = iter(self.texts)
        for block, cache in zip(self.blocks, self.caches, strict=True):
            self._multiply(self.x, block.attention.qkv, self.qkv, block.norm_self)
            self._attend(self.qkv, cache, self.positions, append=True)
            self._multiply(self.attended, block.attention.out, self.x, add=True)
            if block.cross_attention is not None and block.norm_cross is not None:
                self._attend_to_text(block.cross_attention, block.norm_cross, *next(texts))
            self._multiply(self.x, block.up, self.hidden, block.norm_ff, gelu=True)
            self._multiply(self.hidden, block.down, self.x, add=True)
        self._multiply(self.x, self.model.heads.linear, self.logits, self.model.norm)

    def _attend_to_text(
        self, layer: CrossAttention, norm: nn.LayerNorm, keys: Tensor, values: Tensor, biases: Tensor
    ) -> None:
        """Add cross-attention to x."""
        if not self.folded:
            self._multiply(self.x, layer.query, self.query, norm)
            self._attend(self.query, (keys, values), self.last_text)
            self._multiply(self.attended, layer.out, self.x, add=True)
            return
        (_, n_text, dim), n_heads = keys.shape, self.cache_shape[0]
        launch(
            self.kernels.read_text,
            (self.n_rows, -(-n_heads * n_text // OWN)),
            (self.x, norm.weight, norm.bias, keys, biases, self.last_text, self.scores, n_text),
            EPSILON=norm.eps,
            DIM=dim,
            HEADS=n_heads,
            OWN=OWN,
            BLOCK=_power_of_2(dim),
        )
        launch(
            self.kernels.write_text,
            (self.n_rows, -(-dim // COLUMNS)),
            (self.scores, values, layer.out.bias, self.last_text, self.x, n_text),
            DIM=dim,
            HEADS=n_heads,
            BIAS=layer.out.bias is not None,
            PADDED=_power_of_2(n_heads),
            BLOCK=TEXT_BUCKET,
            OWN=COLUMNS,
            num_warps=8,
        )

    def _multiply(
        self,
        x: Tensor,
        layer: nn.Linear,
        out: Tensor,
        norm: nn.LayerNorm | None = None,
        gelu: bool = False,
        add: bool = False,
    ) -> None:
        """Compute out [R, outputs] = layer(norm(x)), its GELU, or out + layer(x). x: [R, inputs]."""
        rows = 16 if self.n_rows <= 16 else 32
        launch(
            self.kernels.multiply,
            (-(-layer.out_features // COLUMNS), -(-self.n_rows // rows)),
            (x, norm and norm.weight, norm and norm.bias, layer.weight, layer.bias, out, self.n_rows),
            EPSILON=norm.eps if norm else 0.0,
            INPUTS=layer.in_features,
            OUTPUTS=layer.out_features,
            NORM=norm is not None,
            BIAS=layer.bias is not None,
            GELU=gelu,
            ADD=add,
            ROWS=rows,
            COLUMNS=COLUMNS,
            DEPTH=DEPTH // layer.weight.itemsize,
            num_stages=4 if rows == 16 else 2,  # in the 99 KiB that any GPU since Ampere has
        )

    def _attend(self, query: Tensor, cache: tuple[Tensor, Tensor], last: Tensor, append: bool = False) -> None:
        """Attend from `query`, [R, d] or with keys and values behind, to what each row holds, up to position `last`."""
        (n_heads, size), (pairs, n_columns, _) = self.cache_shape, cache[0].shape
        shape = {"HEADS": n_heads, "SIZE": size, "PADDED": _power_of_2(size)}
        n_parts, part = (self.n_parts, PART) if append else (1, n_columns)
        joined = self.parts, self.sums, self.attended
        launch(
            self.kernels.attend,
            (pairs, n_parts),
            (query, query.shape[1], *cache, last, *joined, n_columns, part, size**-0.5),
            BLOCK=min(64, PART) if append else 16,
            APPEND=append,
            WHOLE=n_parts == 1,
            **shape,
        )
        if n_parts > 1:
            launch(
                self.kernels.join,
                (pairs,),
                (self.parts, self.sums, last, self.attended, n_parts),
                PART=part,
                BLOCK=JOINED,
                **shape,
            )


def launch(kernel: Any, grid: tuple[int, ...], arguments: tuple[Any, ...], **constants: Any) -> None:
    """Run a kernel's programs on the current device."""
    kernel[grid](*arguments, **constants)


def load_fastest(model: AudioLanguageModel, dtype: str) -> tuple[type[Backend], int]:
    """Load a model for the fastest backend of a CUDA device; return that, and the maximum number of rows of a step.

    That is the kernels, if they compute what the model's modules do. Otherwise says why not.
    """
    try:
        if model.null_text.is_cuda and torch.cuda.get_device_capability(model.null_text.device) < (8, 0):
            raise ValueError("they are for GPUs since Ampere")  # on others triton uses no tensor cores
        most_rows = CudaBackend.load(model, dtype)
        with current(model.null_text.device):
            error = _compare(model, getattr(torch, dtype))
        if not error < (EXACT if dtype == "float32" else ROUNDED):
            raise ValueError(f"their logits differ by {error:.1%}")
    except Exception as error:  # no triton, no C compiler, a GPU that triton does not know: all said in their own ways
        logger.warning("decoding without kernels of our own, which do not work here: %s", first_line(error))
        return RecordedBackend, RecordedBackend.load(model, dtype)
    return CudaBackend, most_rows


@torch.inference_mode()
def _compare(model: AudioLanguageModel, dtype: torch.dtype) -> float:
    """Compute a position of random inputs both ways; return the greatest difference, as a share of a logit."""
    generator, device = torch.Generator().manual_seed(0), model.null_text.device
    text = random_text(model.config, 3, generator).to(device)
    x = torch.randn(1, 9, model.config.dim, generator=generator).to(device)
    logits = []
    for kind in (TorchBackend, CudaBackend):
        backend = kind(model, 1, 16, 8, dtype)
        with model.mixed_precision():
            backend.prepare(0, text)
            backend.prefill(0, x[:, :-1])
            logits.append(backend.step(x[0, -1:], torch.tensor([8], device=device), 16).float())
    plain, own = logits
    return float((own - plain).abs().max() / plain.abs().max())


def _power_of_2(n: int) -> int:
    """Return the least power of 2 that is not below n."""
    return 1 << (n - 1).bit_length()
