"""What the lanes decode: a sample's job, how its steps are laid out, and the windows they are read in."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from audiogen_cli.lm.config import LMConfig, Sampling
from audiogen_cli.lm.sampling import uniforms
from audiogen_cli.lm.streams import delay

TEXT_BUCKET = 16  # texts are padded to a multiple of so many positions
UNKNOWN = -1  # a code still to be predicted


@dataclass(frozen=True)
class DecodingRequest:
    """One sequence of codes to decode."""

    vectors: Tensor | None  # [L, D], the text's; None: without text
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
        return self.vectors is not None and self.sampling.guidance != 1


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


def text_columns(job: DecodingRequest) -> int:
    """Columns that a job's text is padded to."""
    n_text = 1 if job.vectors is None else max(1, len(job.vectors))
    return -(-n_text // TEXT_BUCKET) * TEXT_BUCKET


def lay_out(config: LMConfig, job: DecodingRequest, n_frames: int) -> tuple[Tensor, Tensor]:
    """A sample's steps and its random numbers, each at the step that it decides: [1, K, 1 + n_frames + late] both.

    The steps hold the prompt, UNKNOWN where a code is to be predicted, and the special token elsewhere.
    """
    codes = torch.full((1, config.n_q, n_frames), config.special_token)
    codes[..., : job.n_frames] = UNKNOWN
    if job.prompt is not None:
        codes[..., : job.n_prompt] = job.prompt
    numbers = uniforms(job.seed, n_frames, config.n_q).T[None]
    delays = config.stream_delays
    return delay(codes, delays, config.special_token), delay(numbers, delays, 0)


def additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask to add to attention scores: 0 where visible, -inf elsewhere."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, -torch.inf)
