"""A request for a sequence of codes, the layout of its steps, and the windows in which they are decoded."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from audiogen_cli.lm.config import LMConfig, Sampling
from audiogen_cli.lm.model import delay
from audiogen_cli.lm.sampling import uniforms

TEXT_BUCKET = 16  # text caches hold a multiple of so many positions
UNKNOWN = -1  # a code still to be predicted
NOT_FINITE = "the model's outputs are no finite numbers: try --dtype float32"
# ours: the share of the trained window, at its end, in which longer sounds are not generated. Through all of it, 17 of
# 40 sounds of 12 s (rain, wind, sea, engine, crickets; the embedded model) had holes, all but one at the windows' ends;
# without its last fifth, one of them had, at its beginning.
UNUSED = 0.2


@dataclass(frozen=True)
class DecodingRequest:
    """One sequence of codes to decode."""

    vectors: Tensor | None  # [L, D], the text's; None: without text
    n_frames: int  # T, with the prompt's
    seed: int
    sampling: Sampling = field(default_factory=Sampling)
    # [K, P] codes to continue, P < T. For diffusion P may be T, and some codes UNKNOWN: to be filled in.
    prompt: Tensor | None = None
    negative: Tensor | None = None  # [L, D], the vectors that guidance steers away from; None: no text

    @property
    def n_prompt(self) -> int:
        """Return P, the number of frames given."""
        return 0 if self.prompt is None else self.prompt.shape[1]

    @property
    def texts(self) -> list[Tensor | None]:
        """List the texts [L, D] that a step reads, a row each: its own, none for guidance, the negative one."""
        if self.negative is not None:
            return [self.vectors, None, self.negative]
        return [self.vectors] if self.vectors is None or self.sampling.guidance == 1 else [self.vectors, None]


@dataclass(frozen=True)
class DecodingWindow:
    """Steps that are decoded with one KV cache: n_prefilled + 1 … end, as if the clip began at `start`."""

    start: int
    n_prefilled: int  # steps start … n_prefilled are read at once
    end: int


def max_delay(config: LMConfig) -> int:
    """Return the largest delay of a stream, in steps."""
    return max(config.stream_delays)


def window_steps(config: LMConfig) -> int:
    """Return the most steps read before the cache is rebuilt."""
    return config.window_frames + max_delay(config)


def list_windows(config: LMConfig, n_prompt: int, n_frames: int) -> list[DecodingWindow]:
    """List the windows in which a sequence of n_frames, n_prompt of them given, is decoded.

    # ours: beyond the trained window, as many frames as its half (of a delayed stream fewer by its delay) are read
    again, all at once, as the past of the next one: keys depend on positions, so the old cache cannot be used. The
    windows of a sequence that one cannot hold end early, by UNUSED of it, because clips end where the trained window
    does, and a model fades out towards there.
    """
    last = n_frames + max_delay(config)
    found, size = [], window_steps(config)
    if n_frames > config.window_frames:
        size = max(size - 1 - round(UNUSED * config.max_frames), config.max_frames // 2 + 1)
    start, n_prefilled = 0, n_prompt  # steps up to n_prefilled hold all they can before decoding
    while n_prefilled < last:
        if n_prefilled - start >= size:
            start = n_prefilled - max(1, config.max_frames // 2)
        end = min(last, start + size)
        found.append(DecodingWindow(start, n_prefilled, end))
        n_prefilled = end
    return found


def count_frames(config: LMConfig, n_prompt: int, n_frames: int) -> tuple[int, int]:
    """Count the work of a sequence: (steps decoded one by one, frames read again where the window slides)."""
    found = list_windows(config, n_prompt, n_frames)
    return sum(each.end - each.n_prefilled for each in found), sum(each.n_prefilled - each.start for each in found[1:])


def count_text_columns(request: DecodingRequest) -> int:
    """Return the positions that a text cache holds for a request's texts."""
    n_text = max([1, *(len(each) for each in request.texts if each is not None)])
    return -(-n_text // TEXT_BUCKET) * TEXT_BUCKET


def lay_out(config: LMConfig, request: DecodingRequest) -> tuple[Tensor, Tensor]:
    """Lay out a sequence's steps and its random numbers, each at the step that it decides: [K, 1 + T + max_delay] both.

    The steps hold the prompt, UNKNOWN where a code is to be predicted, and the special token elsewhere.
    """
    codes = torch.full((1, config.n_q, request.n_frames), UNKNOWN)
    if request.prompt is not None:
        codes[..., : request.n_prompt] = request.prompt
    numbers = uniforms(request.seed, request.n_frames, config.n_q).T[None]
    delays = config.stream_delays
    return delay(codes, delays, config.special_token)[0], delay(numbers, delays, 0)[0]
