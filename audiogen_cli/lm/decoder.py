"""The two decoders of codes, the paper's and its baseline, and the only place where one is chosen.

A decoder is a model, an objective (the loss of a training) and an engine (codes for requests); everything else is
shared. Imports no torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from audiogen_cli.errors import InputError
from audiogen_cli.lm.config import LMConfig, TrainConfig

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from accelerate import Accelerator
    from torch import Tensor

    from audiogen_cli.lm.decoding.requests import DecodingRequest
    from audiogen_cli.lm.model import CodeModel, LMOutput


@dataclass(frozen=True)
class CodeBatch:
    """Examples to compute a loss from, padded on the right, with their texts.

    failures: why audio could not be read; its frames are padding.
    """

    ids: Sequence[str]
    codes: Tensor  # [B, K, T] int64
    frames_mask: Tensor  # [B, T] bool, False on padding
    text: Tensor  # [B, L, D]
    text_mask: Tensor  # [B, L] bool; a row without any True has no text
    failures: Sequence[str] = ()

    def map(self, change: Callable[[Tensor], Tensor]) -> CodeBatch:
        """Return the batch with its tensors changed, to another device for example."""
        codes, frames_mask = change(self.codes), change(self.frames_mask)
        return CodeBatch(self.ids, codes, frames_mask, change(self.text), change(self.text_mask), self.failures)


class Objective(ABC):
    """The loss that a training makes small. It has no state unless it says otherwise."""

    @abstractmethod
    def losses(self, network: Callable[..., LMOutput], batch: CodeBatch, step: int | None) -> Tensor:
        """Return the loss sums [K] of a batch in nats, one a stream; divided by its frames they are comparable.

        network: the model's forward pass. step: of the training; None to validate.
        """

    def end_step(self, accelerator: Accelerator) -> None:
        """Take note of a training step's end, in all processes."""
        return

    def state_dict(self) -> dict[str, Tensor]:
        """Return its state, for a checkpoint."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` returned."""
        return


class CodeEngine(Protocol):
    """Decodes requests; see `decoding.engine.Engine`, which is one."""

    dtype: str  # of the weights
    exact: bool  # whether codes never depend, in any bit, on what is decoded beside them
    most_rows: int  # of a step
    default_batch: int  # most sequences decoded side by side unless something else is asked for

    @property
    def model(self) -> CodeModel:
        """Return the model, as it was changed."""

    def generate(
        self, requests: Sequence[DecodingRequest], batch_size: int | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """Decode all requests; yield (index, codes [K, T] int64 on the CPU) as they end, not in order."""

    def stream(self, request: DecodingRequest, block_frames: int) -> Iterator[Tensor]:
        """Decode one request; yield blocks [K, t] of final codes as soon as they are decided."""

    def count_frames(self, n_prompt: int, n_frames: int) -> tuple[int, int]:
        """Count the work of a sequence: frames decided, and frames that are only read."""

    def count_bytes(self, request: DecodingRequest, n: int) -> int:
        """Count the bytes of memory, beside the weights, that n sequences like this one take side by side."""


class CodeDecoder(ABC):
    """A way to make codes of texts."""

    # Why there is none; "" where there is one.
    no_stream: ClassVar[str] = ""
    no_inpainting: ClassVar[str] = ""

    @abstractmethod
    def model_class(self) -> type[CodeModel]:
        """Return the class of its models, which are built from an `LMConfig` alone."""

    @abstractmethod
    def build_objective(self, model: LMConfig, training: TrainConfig, device: torch.device) -> Objective:
        """Return the loss of a training."""

    @abstractmethod
    def build_engine(self, model: Any, dtype: str) -> CodeEngine:
        """Return an engine for a model, which must not be used otherwise afterwards."""

    def load(self, folder: Path, device: torch.device, dtype: str) -> tuple[CodeModel, str]:
        """Read a model folder to decode with; return it, and the number format that its engine is to have."""
        return self.model_class().load(folder, device), dtype

    def build(self, config: LMConfig) -> CodeModel:
        """Return a fresh model."""
        return self.model_class()(config)  # type: ignore[call-arg]


class Autoregressive(CodeDecoder):
    """The paper's language model: a frame after the other."""

    no_inpainting = "it can only continue a sound, and filling in takes a model trained with decoder: diffusion"

    def model_class(self) -> type[CodeModel]:
        from audiogen_cli.lm.model import AudioLanguageModel

        return AudioLanguageModel

    def load(self, folder: Path, device: torch.device, dtype: str) -> tuple[CodeModel, str]:
        from audiogen_cli.lm.decoding.engine import choose_dtype
        from audiogen_cli.lm.decoding.rounding import ROUNDED
        from audiogen_cli.model_folder import load_config

        chosen = choose_dtype(dtype, load_config(folder, "lm", LMConfig), device)
        if chosen not in ROUNDED:
            return self.model_class().load(folder, device), chosen
        from audiogen_cli.lm.decoding.packed_files import load_rounded

        return load_rounded(folder, chosen), chosen

    def build_objective(self, model: LMConfig, training: TrainConfig, device: torch.device) -> Objective:
        from audiogen_cli.lm.training.step import NextCodes

        return NextCodes(training.code_dropout)

    def build_engine(self, model: Any, dtype: str) -> CodeEngine:
        from audiogen_cli.lm.decoding.engine import Engine

        return Engine(model, dtype)


class Diffusion(CodeDecoder):
    """The baseline of the paper's Table 1: all codes at once, in several passes."""

    no_stream = "a diffusion model decides all of a sound at once"

    def model_class(self) -> type[CodeModel]:
        from audiogen_cli.lm.diffusion.network import DiffusionModel

        return DiffusionModel

    def build_objective(self, model: LMConfig, training: TrainConfig, device: torch.device) -> Objective:
        from audiogen_cli.lm.diffusion.objective import Denoising

        return Denoising(model, training.seed, device)

    def build_engine(self, model: Any, dtype: str) -> CodeEngine:
        from audiogen_cli.lm.diffusion.engine import DiffusionEngine

        return DiffusionEngine(model, dtype)


DECODERS: Mapping[str, CodeDecoder] = {"autoregressive": Autoregressive(), "diffusion": Diffusion()}


def find_decoder(config: LMConfig) -> CodeDecoder:
    """Return a model's decoder."""
    return DECODERS[config.decoder]


def check_streaming(config: LMConfig) -> None:
    """Raise InputError if a model's sounds cannot be streamed."""
    if reason := find_decoder(config).no_stream:
        raise InputError(f"--stream: {reason}: leave it out")


def check_inpainting(config: LMConfig, name: str) -> None:
    """Raise InputError if a model, of this name, cannot fill in a part of a sound."""
    if reason := find_decoder(config).no_inpainting:
        raise InputError(f"model {name} is {config.decoder}: {reason} (recipes/diffsound.yaml): give it as --model")
