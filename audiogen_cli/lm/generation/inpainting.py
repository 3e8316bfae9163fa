"""Inpainting: parts of a sound are generated anew, from what is around them and a text; the rest stays as it is."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audiogen_cli.data.audio import probe
from audiogen_cli.errors import InputError
from audiogen_cli.lm.config import LMConfig
from audiogen_cli.lm.generation.requests import GenerationRequest, check_text, describe_audio, read_long

if TYPE_CHECKING:
    from torch import Tensor

Region = tuple[float, float]  # from and to, in seconds
_REGION = re.compile(r"\s*(\d*\.?\d+|\d+\.)\s*-\s*(\d*\.?\d+|\d+\.)\s*")


def parse_region(text: str) -> Region:
    """Read a region as `--region` takes it, as in 1.5-3.0. Raises InputError if it is none."""
    match = _REGION.fullmatch(text)
    if not match:
        raise InputError(f"--region {text}: expected two times in seconds, as in --region 1.5-3.0")
    return float(match[1]), float(match[2])


def fill_regions(
    defaults: GenerationRequest, audio: Path, regions: Sequence[Region], config: LMConfig
) -> GenerationRequest:
    """Return the defaults with a sound, and the regions of it that are to be generated anew.

    Raises InputError for unreadable audio and for regions that are reversed, outside of it, shorter than a frame, or
    overlap.
    """
    check_text(str(audio), str(audio))
    duration, frame = probe(audio).duration, 1 / config.frame_rate
    regions = sorted(regions)
    for begin, end in regions:
        _check_region(begin, end, duration, frame, audio)
    for (_, end), (begin, other) in pairwise(regions):
        if begin < end:
            raise InputError(f"region {begin:g}-{other:g} overlaps the one before it, which ends at {end:g} s")
    wav = read_long(audio, config.sample_rate, duration)
    rate, n_samples = config.sample_rate, len(wav)
    places = [(round(begin * rate), min(n_samples, round(end * rate))) for begin, end in regions]
    if regions[-1][1] >= duration:  # of which reading may have made a sample more or less
        places[-1] = places[-1][0], n_samples
    facts = {**describe_audio(audio, wav), "regions": [[begin, end] for begin, end in regions]}
    joined = _join_touching(places)
    return replace(defaults, duration=n_samples / rate, prompt_audio=wav, regions=joined, facts=facts)


def hide_regions(codes: Tensor, regions: Sequence[tuple[int, int]], hop_length: int, unknown: int) -> Tensor:
    """Return codes [K, T] with `unknown` in every frame that reaches into a region (in samples)."""
    codes = codes.clone()
    for begin, end in regions:
        codes[:, begin // hop_length : math.ceil(end / hop_length)] = unknown
    return codes


def bridge_regions(audio: np.ndarray, regions: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return audio [n] whose regions mirror what is on either side of them, one fading into the other.

    # ours: what a codec makes of the frames beside a region depends on the region, too. There it must find neither what
    is to be replaced nor a sudden silence, which would seem to go on.
    """
    result, n_samples = audio.astype(np.float32), len(audio)
    bounds = [0, *(place for region in regions for place in region), n_samples]
    for number, (begin, end) in enumerate(regions):
        before = audio[bounds[2 * number] : begin][::-1]
        after = audio[end : bounds[2 * number + 3]][::-1]
        length = end - begin
        left = np.resize(before, length) if len(before) else None
        right = np.resize(after[::-1], length)[::-1] if len(after) else None
        ramp = np.linspace(0, 1, length, dtype=np.float32)
        if left is None or right is None:
            sides = [side for side in (left, right) if side is not None]
            result[begin:end] = sides[0] if sides else 0.0
        else:
            result[begin:end] = left * (1 - ramp) + right * ramp
    return result


def _check_region(begin: float, end: float, duration: float, frame: float, audio: Path) -> None:
    name = f"region {begin:g}-{end:g}"
    if not (math.isfinite(begin) and math.isfinite(end)):
        raise InputError(f"{name}: give numbers of seconds")
    if end <= begin:
        raise InputError(f"{name} ends before it begins: give its beginning first")
    if begin < 0 or end > duration + 1e-3:
        raise InputError(f"{name} is not within {audio}, which lasts {duration:g} s")
    if end - begin < frame * (1 - 1e-9):
        raise InputError(f"{name} is shorter than a frame of this model's codec, {frame:g} s: take more")


def _join_touching(places: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    joined: list[tuple[int, int]] = []
    for begin, end in places:
        if joined and begin <= joined[-1][1]:
            begin = joined.pop()[0]
        joined.append((begin, end))
    return tuple(joined)
