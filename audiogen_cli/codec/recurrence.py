"""An LSTM over a long signal, many parts at once.

# ours: with one signal the recurrence reads all its weights for every frame and waits for memory most of the time
# (sec. 3.1's two layers take half of E's time on a CPU). An LSTM forgets, so parts of the signal can run side by side
# as a batch: each starts from what a few frames before it tell. Whether that was right is then known, since the part
# before has ended; parts that started wrong are run again, and what is wrong then goes frame by frame. So what comes
# out is what one pass gives, up to TOLERANCE. Measured: half its time for an LSTM that forgets within WARM_UP, its time
# for one that forgets within a part, at worst twice its time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

State = tuple[Tensor, Tensor]  # hidden and cell [1, B, C]

ROWS = 8  # of the batch that parts make: more no longer gain
WARM_UP = 64  # frames before a part that its first state is told from
SHORTEST = 4 * WARM_UP  # frames of a part: below, warming up costs too much
TOLERANCE = 1e-5  # of a state, relative where it is above 1


def run_lstm(lstm: nn.LSTM, x: Tensor, state: State | None) -> tuple[Tensor, State]:
    """One layer over x [T, B, C] from a state (None: zeros): output [T, B, C] and last state, as `lstm(x, state)`."""
    n_frames, n_rows, width = x.shape
    n_parts = min(ROWS // n_rows, n_frames // SHORTEST)
    if n_parts < 2 or x.device.type != "cpu":  # a GPU keeps the weights at hand
        y, state = lstm(x, state)
        return y, state
    length = n_frames // n_parts
    whole, rest = x.split([n_parts * length, n_frames - n_parts * length])
    start = x.new_zeros(2, n_rows, width) if state is None else torch.cat(state)
    y, end = _run_parts(lstm, whole.view(n_parts, length, n_rows, width), start)
    state = end[:1], end[1:]
    if len(rest):
        y_rest, state = lstm(rest, state)
        y = torch.cat([y, y_rest])
    return y, state


def _run_parts(lstm: nn.LSTM, parts: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """parts [P, L, B, C] of a signal, its state [2, B, C] → output [P · L, B, C] and last state [2, B, C]."""
    warm = _run_batch(lstm, parts[:-1, -WARM_UP:], None)[1]
    starts = torch.cat([start[None], warm])
    y, ends = _run_batch(lstm, parts, starts)
    if wrong := _find_wrong(starts, ends):
        starts[wrong] = ends[[part - 1 for part in wrong]]
        y[wrong], ends[wrong] = _run_batch(lstm, parts[wrong], starts[wrong])
    if wrong := _find_wrong(starts, ends):  # it remembers for longer than parts are: all before the first are right
        rest, end = _run_batch(lstm, parts[wrong[0] :].flatten(0, 1)[None], ends[wrong[0] - 1][None])
        return torch.cat([y[: wrong[0]].flatten(0, 1), rest[0]]), end[0]
    return y.flatten(0, 1), ends[-1]


def _run_batch(lstm: nn.LSTM, parts: Tensor, starts: Tensor | None) -> tuple[Tensor, Tensor]:
    """parts [P, L, B, C] side by side from states [P, 2, B, C] (None: zeros) → output and last states, likewise."""
    shape = parts.shape[0], parts.shape[2], parts.shape[3]
    x = parts.transpose(0, 1).flatten(1, 2)
    state = None if starts is None else (starts[:, 0].reshape(1, *x.shape[1:]), starts[:, 1].reshape(1, *x.shape[1:]))
    y, ends = lstm(x, state)
    return y.unflatten(1, shape[:2]).transpose(0, 1), torch.stack([end.view(shape) for end in ends], 1)


def _find_wrong(starts: Tensor, ends: Tensor) -> list[int]:
    """The parts whose first state is not the last one of the part before them; states [P, 2, B, C]."""
    error = (starts[1:] - ends[:-1]).abs() / ends[:-1].abs().clamp(min=1)
    return [part + 1 for part in (error > TOLERANCE).flatten(1).any(1).nonzero()[:, 0].tolist()]
