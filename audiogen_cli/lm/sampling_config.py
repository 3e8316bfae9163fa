"""The sampling settings: the drawing of tokens, and the number of sounds for one. Imports only the standard library.

A field of `Sampling` is all that a setting needs to be a flag of generate, continue and eval (its metadata words the
help), a column of prompt files, an override, a part of the model's config.json and an entry of the sidecars.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

MAX_SEED = 2**32 - 1  # torch's generators on a CPU take no more bits
MAX_GUIDANCE = 1000.0  # more than anyone needs, and within float32
MAX_TOP_K = 2**31 - 1
MAX_TEMPERATURE = 1e6
MAX_CANDIDATES = 64
MAX_LAYERS = 8
MAX_PASSES = 10_000


def _setting(default: Any, metavar: str, text: str) -> Any:
    return field(default=default, metadata={"metavar": metavar, "help": text})


@dataclass(frozen=True)
class Sampling:
    """Settings of drawing tokens (sec. 3.2 eq. 4, sec. 4.1); the defaults are the paper's. Raises ValueError if one is
    out of range."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    # γ of eq. 4; 1 is the conditional distribution, 0 the unconditional one
    guidance: float = _setting(3.0, "X", "How closely to follow the text; more is closer and less varied.")
    top_p: float = _setting(0.25, "P", "Draw from the likeliest tokens that hold this probability mass; 1 = all.")
    top_k: int = _setting(0, "N", "Draw from the N likeliest tokens; 0 = all.")
    temperature: float = _setting(
        1.0, "X", "Above 1 flattens the distribution, below 1 sharpens it; 0 always takes the likeliest token."
    )
    # ours: see `generation.tracks`
    candidates: int = _setting(1, "N", "Generate N candidates of each sound and keep the one that fits the text best.")
    # ours: see `generation.tracks`
    layers: int = _setting(
        1, "N", "Generate up to N sounds of a prompt (a dog barks while it rains) apart and mix them; 1 = all in one."
    )

    # ours: see `generation.tracks`
    timing: str = _setting(
        "", "TIMES", "Where each sound of a prompt lies, in seconds: 0-2,1-5; as in the prompt 'a dog@0-2, rain@1-5'."
    )
    # ours: see `generation.tracks.close_loop`
    loop: bool = _setting(False, "", "Let the end of the sound meet its beginning, to be played again and again.")
    # of decoder: diffusion
    passes: int = _setting(
        0, "N", "Passes of a diffusion model; fewer are faster; 0 = as many as it learned. No effect on other models."
    )

    # ours: its logits in place of those without text in eq. 4; "" = no text, as in the paper
    negative: str = _setting("", "TEXT", "What to keep out of the sound; takes guidance above 1.")

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, got {value}")
        if not 0 <= self.guidance <= MAX_GUIDANCE:
            raise ValueError(f"guidance must lie in [0, {MAX_GUIDANCE:g}], got {self.guidance}")
        if self.negative.strip() and self.guidance <= 1:
            raise ValueError(f"negative acts through guidance, which must then be above 1, got {self.guidance:g}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], got {self.top_p}")
        if not 0 <= self.top_k <= MAX_TOP_K:
            raise ValueError(f"top_k must lie in [0, {MAX_TOP_K}] (0 = all), got {self.top_k}")
        if not 0 <= self.temperature <= MAX_TEMPERATURE:
            limits = f"[0, {MAX_TEMPERATURE:g}] (0 = the likeliest token)"
            raise ValueError(f"temperature must lie in {limits}, got {self.temperature}")
        if not 1 <= self.candidates <= MAX_CANDIDATES:
            raise ValueError(f"candidates must lie in [1, {MAX_CANDIDATES}], got {self.candidates}")
        if not 1 <= self.layers <= MAX_LAYERS:
            raise ValueError(f"layers must lie in [1, {MAX_LAYERS}], got {self.layers}")
        if not 0 <= self.passes <= MAX_PASSES:
            raise ValueError(f"passes must lie in [0, {MAX_PASSES}] (0 = all), got {self.passes}")

    def override(self, given: Mapping[str, Any]) -> Sampling:
        """Return these settings with the given ones in their place; None leaves one as it is.

        Raises ValueError if one is out of range, TypeError if there is no setting of that name.
        """
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    def describe(self) -> dict[str, Any]:
        """Return name → value of all settings for a record; texts only if they are not empty."""
        return {name: value for name, value in vars(self).items() if value != ""}


SETTINGS = fields(Sampling)
