"""The one entry for generating: a language model, its codec and its text encoder, from texts to sound."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.errors import InputError
from audiogen_cli.interop import model_folder
from audiogen_cli.lm.config import LMConfig, Sampling
from audiogen_cli.lm.engine import Engine, Job
from audiogen_cli.lm.jobs import model_text
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.text import TextEncoder, load_text_encoder

FADE_SECONDS = 0.02  # after a prompt's end, see `join`


@dataclass(frozen=True)
class Request:
    """One sound to generate. prompt: None is without text. duration: seconds of the whole result."""

    prompt: str | None
    seed: int
    duration: float
    sampling: Sampling = field(default_factory=Sampling)
    prompt_audio: np.ndarray | None = None  # [n] samples at the model's rate, which the result begins with


class Generator:
    """Generates sounds from a model folder.

    On a CPU the same request gives the same samples bit for bit, whatever else is generated beside it.
    """

    max_duration: float | None = None  # none: beyond the trained window the engine slides it

    def __init__(
        self, folder: Path, lm: AudioLanguageModel, codec: AudioCodec, encoder: TextEncoder, dtype: str = "auto"
    ) -> None:
        self.folder, self.config = folder, lm.config
        self.codec, self.encoder, self.engine = codec, encoder, Engine(lm, dtype)
        self.device, self.dtype = lm.null_text.device, self.engine.dtype
        self.licence = model_folder.read_licence(folder)
        self.fingerprint = model_folder.fingerprint(folder)

    @classmethod
    def load(cls, model: str | Path | None = None, device: str = "auto", dtype: str = "auto") -> Generator:
        """Load a model folder, checkpoint or run; None: see `find_model`.

        device: auto, cpu, cuda, cuda:N or mps. dtype: auto, float32, bfloat16, float16 or int8 (`choose_dtype`); the
        codec always runs in float32. Raises InputError if something is missing or does not belong together.
        """
        folder = model_folder.find_model(model)
        config = model_folder.load_config(folder, "lm", LMConfig)
        where = choose_device(device)
        codec = AudioCodec.load(folder / "codec", where)
        if codec.fingerprint != config.codec_fingerprint:
            raise InputError(
                f"{folder}: the language model was trained with the codec {config.codec_fingerprint[:12]}, but "
                f"codec/ holds {codec.fingerprint[:12]}; copy the model folder again"
            )
        encoder = load_text_encoder(config.text, where)
        if (encoder.width, encoder.fingerprint) != (config.text_width, config.text_fingerprint):
            raise InputError(
                f"{folder}: the language model was trained with other word vectors or another text encoder "
                f"({config.text_fingerprint or config.text_width} is wanted, {encoder.fingerprint or encoder.width} is "
                "here); give it the one it knows"
            )
        lm = AudioLanguageModel.load(folder, where).requires_grad_(False)
        return cls(folder, lm, codec, encoder, dtype)

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.config.sample_rate

    @property
    def sampling(self) -> Sampling:
        """The model's own default settings."""
        return self.config.sampling

    def process(self, text: str) -> str:
        """What the model reads in place of a prompt (sec. 4.1)."""
        return model_text(text, self.config)

    def generate(self, requests: Sequence[Request], batch_size: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Generate all requests; yields (index, samples [n] float32), n = round(duration · sample_rate), when ready.

        Raises InputError, before anything is generated, if a request cannot be met.
        """
        plans = [self._plan(request) for request in requests]
        wanted = [index for index, plan in enumerate(plans) if plan.job is not None]
        for index, plan in enumerate(plans):
            if plan.job is None:
                yield index, plan.prompt
        jobs = [job for plan in plans if (job := plan.job) is not None]
        for number, codes in self.engine.generate(jobs, batch_size):
            plan = plans[wanted[number]]
            # One by one: a decoder's bits, too, may depend on what is decoded beside a sample.
            with torch.inference_mode():
                decoded = self.codec.decode(codes[None].to(self.device))[0, 0].float().cpu().numpy()
            tail = join(plan.prompt[plan.skipped :], decoded[: plan.n_samples - plan.skipped], self._n_fade)
            yield wanted[number], np.concatenate([plan.prompt[: plan.skipped], tail])

    @property
    def _n_fade(self) -> int:
        return round(FADE_SECONDS * self.sample_rate)

    def _plan(self, request: Request) -> _Plan:
        n_samples = round(request.duration * self.sample_rate)
        prompt = np.zeros(0, np.float32) if request.prompt_audio is None else request.prompt_audio.astype(np.float32)
        if n_samples < 1:
            raise InputError(f"duration {request.duration} s is no sound; ask for at least 1/{self.sample_rate} s")
        if n_samples < len(prompt):
            raise InputError(
                f"duration {request.duration} s is shorter than the {len(prompt) / self.sample_rate:.2f} s to "
                "continue: the duration is that of the whole result"
            )
        if n_samples == len(prompt):
            return _Plan(n_samples, prompt, 0, None)
        hop = self.codec.hop_length
        n_known = len(prompt) // hop  # whole frames; what is left of the prompt lies over the first new frame
        skipped = 0
        if n_known >= self.config.max_frames:  # ours: the engine would forget the beginning anyway; do not encode it
            skipped = (n_known - max(1, self.config.max_frames // 2)) * hop
        codes = None
        if n_known:
            wav = torch.from_numpy(prompt[skipped:])[None, None].to(self.device)
            with torch.inference_mode():
                codes = self.codec.encode(wav)[0, :, : n_known - skipped // hop].cpu()
        n_frames = math.ceil((n_samples - skipped) / hop)
        job = Job(self._encode(request.prompt), n_frames, request.seed, request.sampling, codes)
        return _Plan(n_samples, prompt, skipped, job)

    def _encode(self, prompt: str | None) -> torch.Tensor | None:
        if prompt is None:
            return None
        vectors = self.encoder.encode([self.process(prompt)])[0]
        if not len(vectors):
            raise InputError(f"prompt '{prompt}' holds no word that the model knows; name a sound")
        return vectors


@dataclass(frozen=True)
class _Plan:
    """A request, worked out. skipped: samples of the prompt that the model does not see; job: None if none is due."""

    n_samples: int
    prompt: np.ndarray
    skipped: int
    job: Job | None


def join(prompt: np.ndarray, decoded: np.ndarray, n_fade: int) -> np.ndarray:
    """The prompt [p] exactly, then what was decoded [n] from sample p on, without a click between them.

    The codec does not return the prompt exactly. So its error just before the seam goes on after it, mirrored in
    time (hence continuous) and faded out over n_fade samples.
    """
    n_prompt = len(prompt)
    n_fade = min(n_fade, n_prompt, len(decoded) - n_prompt)
    result = np.concatenate([prompt, decoded[n_prompt:]])
    error = (prompt - decoded[:n_prompt])[n_prompt - n_fade :][::-1]
    result[n_prompt : n_prompt + n_fade] += error * np.cos(np.linspace(0, np.pi / 2, n_fade, dtype=np.float32)) ** 2
    return result


def choose_device(name: str) -> torch.device:
    """auto: CUDA, else Apple's GPU, else the CPU. Raises InputError if the device is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"device '{name}' cannot be used here: {reason}") from None
    return device
