"""First phases for a spectrum of which only magnitudes are known.

# ours: noise takes any phases, a tone does not: with those of noise, voices and bells are hoarse. Where a peak stands
out of its neighbours, the phases of a tone run on from frame to frame (Beauregard, Harish and Wyse 2015); elsewhere
they are those of white noise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

NEAR, AROUND = 5, 9  # bins: those that a tone reaches, and those that it stands out of
LEAST, SURE = 1.2, 1.7  # a peak over the mean around it: noise below, a tone above


def tonality(magnitude: Tensor) -> Tensor:
    """Rate every bin of magnitudes [B, bins, F] from noise (0) to part of a tone (1)."""
    frames = magnitude.transpose(1, 2)
    around = F.avg_pool1d(frames, AROUND, 1, AROUND // 2, count_include_pad=False)
    ratio = F.max_pool1d(frames, NEAR, 1, NEAR // 2) / around.clamp(min=1e-6)
    return ((ratio - LEAST) / (SURE - LEAST)).clamp(0, 1).transpose(1, 2)


def tone_angles(magnitude: Tensor, turn: float, before: Tensor) -> Tensor:
    """Return the angle of the tone nearest to every bin, in each frame's middle: [B, bins, F].

    magnitude: [B, bins, F]. turn: what a tone of one bin's frequency turns by from frame to frame. before: the angles
    [B, bins] in the frame before the first. A bin takes over the angle of the nearest peak, then turns as it does.
    """
    peak, frequency = find_peaks(magnitude)
    turns = turn * frequency.gather(1, peak)
    angles = []
    for nearest, by in zip(peak.unbind(2), turns.unbind(2), strict=True):
        before = (before.gather(1, nearest) + by) % math.tau
        angles.append(before)
    return torch.stack(angles, 2)


def find_peaks(magnitude: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest peak of every bin, and the frequency at every peak, in bins: both [B, bins, F].

    A parabola through the logarithms of three bins has its summit at the frequency (Smith and Serra 1987).
    """
    height = (magnitude + 1e-5).log()
    low, middle, high = height[:, :-2], height[:, 1:-1], height[:, 2:]
    is_peak = F.pad((middle > low) & (middle >= high), (0, 0, 1, 1))
    summit = F.pad((low - high) / (2 * (low - 2 * middle + high).clamp(max=-1e-6)), (0, 0, 1, 1)).clamp(-0.5, 0.5)

    n_bins = magnitude.shape[1]
    place = torch.arange(n_bins, device=magnitude.device)[:, None].expand_as(is_peak)
    below = torch.where(is_peak, place, -n_bins).cummax(1).values
    above = torch.where(is_peak, place, 2 * n_bins).flip(1).cummin(1).values.flip(1)
    nearest = torch.where(place - below < above - place, below, above)
    return torch.where(is_peak.any(1, keepdim=True), nearest, place), place + summit
