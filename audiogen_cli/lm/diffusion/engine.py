"""The engine of the diffusion decoder: from texts, seeds and known codes to codes, all frames of a window at once.

On a CPU every sequence is computed alone: a window has rows enough to fill a product, and so no bit of it depends on
others. On other devices sequences of one shape are decoded side by side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.lm.config import LMConfig
from audiogen_cli.lm.decoding.engine import choose_dtype
from audiogen_cli.lm.decoding.requests import NOT_FINITE, UNKNOWN, DecodingRequest
from audiogen_cli.lm.diffusion.network import DiffusionModel
from audiogen_cli.lm.diffusion.schedule import NoiseSchedule
from audiogen_cli.lm.sampling import SamplingRows, guide_rows, sample, sample_some
from audiogen_cli.lm.text.encoders import pad
from audiogen_cli.lm.transformer import CrossAttentionKV

GPU_BATCH = 16  # sequences decoded side by side there by default

# Shapes: n sequences, R rows (1, 2 with guidance or 3 with a negative text of each), K streams, T frames, V codes.


class DiffusionEngine:
    """Decodes requests with a model that is changed for it and must not be used otherwise afterwards.

    dtype: see `choose_dtype`. A request's prompt may hold UNKNOWN: only those codes, and those after it, are drawn.
    """

    def __init__(self, model: DiffusionModel, dtype: str = "auto") -> None:
        self.dtype = choose_dtype(dtype, model.config, model.null_text.device)
        self.device = model.null_text.device
        if self.device.type == "mps":
            raise InputError("--device mps: a diffusion model needs float64, which Apple's GPUs lack; use --device cpu")
        self.exact = self.device.type == "cpu"
        self.most_rows = 2  # on a CPU: one sequence, with guidance
        self.default_batch = 1 if self.exact else GPU_BATCH
        self.model = model.eval()
        self.config: LMConfig = model.config
        model.to(getattr(torch, self.dtype))
        self.schedule = NoiseSchedule(self.config, self.device)

    @torch.inference_mode()
    def generate(
        self, requests: Sequence[DecodingRequest], batch_size: int | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """Decode all requests; yield (index, codes [K, T] int64 on the CPU), in any order."""
        size = 1 if self.exact else batch_size or self.default_batch
        groups: dict[object, list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            windows = tuple(list_windows(lay_out(self.config, request), self.config.window_frames))
            groups[len(request.texts), request.n_frames, request.sampling.passes, windows].append(index)
        for members in groups.values():
            for start in range(0, len(members), size):
                some = members[start : start + size]
                for codes in self._decode([requests[index] for index in some]):
                    last = codes
                yield from zip(some, last.cpu(), strict=True)

    @torch.inference_mode()
    def stream(self, request: DecodingRequest, block_frames: int) -> Iterator[Tensor]:
        """Decode one request; yield blocks [K, t] of final codes, on the CPU: a block is what a window decides."""
        sent = 0
        for codes in self._decode([request]):
            open_ = (codes[0] == UNKNOWN).any(0).nonzero()
            decided = int(open_[0]) if len(open_) else request.n_frames
            if decided > sent:
                yield codes[0, :, sent:decided].cpu()
            sent = decided

    def count_frames(self, n_prompt: int, n_frames: int) -> tuple[int, int]:
        """Count the work of a sequence, as frames that a window holds; none of them is read for nothing."""
        codes = torch.zeros(1, n_frames)
        codes[:, n_prompt:] = UNKNOWN
        return sum(end - start for start, end in list_windows(codes, self.config.window_frames)), 0

    def count_bytes(self, request: DecodingRequest, n: int) -> int:
        """Count the bytes of logits that n sequences like this one take side by side."""
        config, rows = self.config, n * len(request.texts)
        return 4 * rows * min(request.n_frames, config.window_frames) * config.n_q * config.codebook_size

    def _decode(self, requests: Sequence[DecodingRequest]) -> Iterator[Tensor]:
        """Yield the codes [n, K, T] of requests of one shape after each window; UNKNOWN is what later ones decide."""
        codes = torch.stack([lay_out(self.config, request) for request in requests])
        windows = list_windows(codes[0], self.config.window_frames)
        numbers = [torch.Generator().manual_seed(request.seed) for request in requests]
        texts = self._read_texts(requests)
        rows = SamplingRows.empty(len(requests), self.device)
        for row, request in enumerate(requests):
            rows.set(row, request.sampling)
        codes = codes.to(self.device)
        for start, end in windows:
            window = codes[..., start:end]
            codes[..., start:end] = self._fill(window, texts, rows, numbers, requests[0].sampling.passes)
            yield codes
        if not windows:
            yield codes

    def _fill(
        self,
        codes: Tensor,
        texts: Sequence[CrossAttentionKV],
        rows: SamplingRows,
        numbers: Sequence[torch.Generator],
        n_passes: int,
    ) -> Tensor:
        """Draw the UNKNOWN codes of a window [n, K, T] in n_passes passes (0: one for each step)."""
        n, schedule, (n_q, n_frames) = len(codes), self.schedule, codes.shape[1:]

        def draw_numbers(count: int) -> Tensor:
            drawn = [torch.rand(count, n_frames, n_q, generator=each).mT for each in numbers]
            return torch.stack(drawn, 1).to(self.device)  # [count, n, K, T]

        given = codes != UNKNOWN
        known = given.all(1)  # [n, T]
        drawn, finite = schedule.start(draw_numbers(1)[0]), torch.ones((), dtype=torch.bool, device=self.device)
        for end, begin in list_passes(self.schedule.n_steps, n_passes):
            read = torch.where(given, codes, drawn)
            end_, begin_ = (torch.full((n,), time, device=self.device) for time in (end, begin))
            logits = schedule.weigh(self._predict(read, end_, known, texts, rows), read, end_)
            finite &= logits.isfinite().all()
            logits.nan_to_num_()  # else what is drawn of them may be no code, and end the process on a GPU
            of_mask, of_original, of_code = draw_numbers(3)
            masked = schedule.stay_masked(read, begin_, end_, of_mask)
            original = self._draw_original(logits, rows, of_original, ~masked & ~given)
            drawn = schedule.draw_back(original, read, begin_, end_, of_code).where(~masked, schedule.mask)
        if not finite:
            raise AudiogenError(NOT_FINITE)
        return torch.where(given, codes, drawn)

    def _draw_original(self, logits: Tensor, rows: SamplingRows, uniform: Tensor, needed: Tensor) -> Tensor:
        """Draw x_0 [n, K, T] where it is needed [n, K, T] bool; logits: [n, K, T, V]; uniform: [n, K, T]."""
        flat, numbers = logits.flatten(1, 2), uniform.flatten(1)
        # On a CPU, where there is one sequence, sorting would be most of a pass.
        drawn = sample_some(flat, rows, numbers, needed.flatten(1)) if self.exact else sample(flat, rows, numbers)
        return drawn.unflatten(1, uniform.shape[1:])

    def _predict(
        self, codes: Tensor, times: Tensor, known: Tensor, texts: Sequence[CrossAttentionKV], rows: SamplingRows
    ) -> Tensor:
        """Compute the network's guided logits [n, K, T, V] (eq. 4); texts hold a row of each copy, n of each."""
        n = len(codes)
        codes, times, known = (torch.cat([each] * (len(texts[0].key) // n)) for each in (codes, times, known))
        logits = self.model.predict(codes, times, texts, torch.ones_like(known), known).float()
        return guide_rows(logits, n, rows.guidance[..., None])

    def _read_texts(self, requests: Sequence[DecodingRequest]) -> list[CrossAttentionKV]:
        """Compute every block's keys and values of the texts; row by row of `DecodingRequest.texts`."""
        nothing = torch.zeros(0, self.config.text_width)
        texts = [text for copies in zip(*(request.texts for request in requests), strict=True) for text in copies]
        text, mask = pad([nothing if each is None else each.float().cpu() for each in texts])
        projected, mask = self.model.project_text(text.to(self.device), mask.to(self.device))
        return [kv for kv in self.model.precompute_cross_kv(projected, mask) if kv]


def lay_out(config: LMConfig, request: DecodingRequest) -> Tensor:
    """Return a request's codes [K, T], UNKNOWN where they are to be drawn."""
    codes = torch.full((config.n_q, request.n_frames), UNKNOWN)
    if request.prompt is not None:
        codes[:, : request.n_prompt] = request.prompt
    return codes


def list_windows(codes: Tensor, most: int) -> list[tuple[int, int]]:
    """List the windows, start and end of each, in which a sequence's UNKNOWN codes [K, T] are drawn, in order.

    # ours: a window has at most the `most` frames that the model was trained on. It holds the first gap of those left,
    in the middle; of a long one the beginning, after as many frames that are known by then as half a window.
    """
    left, found = (codes == UNKNOWN).any(0), []
    n_frames = len(left)
    while bool(left.any()):
        begin = int(left.nonzero()[0])
        after = (~left[begin:]).nonzero()
        length = int(after[0]) if len(after) else n_frames - begin
        before = most // 2 if length >= most // 2 else (most - length) // 2
        start = max(0, min(begin - before, n_frames - most))
        end = min(n_frames, start + most)
        left[start:end] = False
        found.append((start, end))
    return found


def list_passes(n_steps: int, n_passes: int) -> list[tuple[int, int]]:
    """List the passes from n_steps to 0, evenly spread: (t, s) of each, s < t. n_passes: 0, or too many, means all."""
    n_passes = min(n_passes or n_steps, n_steps)
    times = [round(n_steps * (n_passes - number) / n_passes) for number in range(n_passes + 1)]
    return list(pairwise(times))
