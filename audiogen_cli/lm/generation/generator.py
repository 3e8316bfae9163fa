"""The one entry for generating: a language model, its codec and its text encoder, from texts to sound."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audiogen_cli import model_folder
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.data.captions import split_caption
from audiogen_cli.data.loudness import measure
from audiogen_cli.devices import choose_device
from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.lm.config import LMConfig, Sampling
from audiogen_cli.lm.decoding.engine import CPU_BATCH, GPU_BATCH, Engine
from audiogen_cli.lm.decoding.requests import Job, count_frames
from audiogen_cli.lm.generation.mixdown import Layer, lay, place_layers
from audiogen_cli.lm.generation.requests import model_text
from audiogen_cli.lm.generation.rerank import derive_seed, fit, takes
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.probe import Probe
from audiogen_cli.lm.text.encoders import TextEncoder, load_text_encoder
from audiogen_cli.oom import is_out_of_memory

FADE_SECONDS = 0.02  # after a prompt's end, see `join`
FIRST_BLOCK = 0.25  # seconds of sound decoded first, so that a stream begins soon
TIMED_FRAMES = 24  # decoded, and read, to estimate what a longer sound takes
BLOCK_RATIO = 4  # all further blocks are so many times as long, which is cheaper

logger = logging.getLogger(__name__)  # unless told otherwise, Python prints its warnings on stderr


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
        self.probe = Probe.load(folder)
        self.device, self.dtype = lm.null_text.device, self.engine.dtype
        self.licence = model_folder.read_license(folder)
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

    def read(self, request: Request) -> list[str]:
        """What the model reads in place of a request's prompt (sec. 4.1), for each of its layers; [] without a prompt.

        A prompt of which a part would hold no word that the model knows is read as a whole, and so is one that goes on
        from a sound.
        """
        if request.prompt is None:
            return []
        layers = request.sampling.layers if request.prompt_audio is None else 1
        texts = [model_text(part, self.config) for part in split_caption(request.prompt, layers)]
        known = len(texts) == 1 or all(len(vectors) for vectors in self.encoder.encode(texts))
        return texts if known else [model_text(request.prompt, self.config)]

    def count_takes(self, request: Request) -> int:
        """How many sounds are drawn for one: the takes of each layer."""
        texts = self.read(request)
        return len(texts) * request.sampling.candidates if texts else 1

    def generate(
        self,
        requests: Sequence[Request],
        batch_size: int | None = None,
        progress: Callable[[float], object] = lambda seconds: None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Generate all requests; yields (index, samples [n] float32), n = round(duration · sample_rate), when ready.

        batch_size: most sounds computed at once; halved whenever memory runs out, which changes no sound. progress:
        called with the seconds of new sound made so far, all together.
        Raises InputError, before anything is generated, if a request cannot be met; AudiogenError, after all others
        are done, if a sound is too long for the memory by itself.
        """
        plans = [self._plan(request) for request in requests]
        for index, plan in enumerate(plans):
            if not plan.jobs:
                yield index, plan.prompt
        jobs = [(index, place, job) for index, plan in enumerate(plans) for place, job in enumerate(plan.jobs)]
        made: dict[int, dict[int, np.ndarray]] = defaultdict(dict)
        seconds = 0.0
        for number, ranked in self._ranked_codes([job for _, _, job in jobs], batch_size, progress):
            index, place, _ = jobs[number]
            plan, sounds = plans[index], made[index]
            sounds[place] = self._audible(plan, plan.layers[place].n_samples, ranked)
            if len(sounds) == len(plan.jobs):
                seconds += (plan.n_samples - len(plan.prompt)) / self.sample_rate
                progress(seconds)
                yield index, self._finish(plan, [sounds[place] for place in sorted(made.pop(index))])

    def estimate(self, durations: Sequence[float], batch_size: int | None = None) -> float:
        """About how many seconds of computing so many seconds of new sound take, windows that slide included.

        Times the first steps of as many sounds as are made at once and, where windows slide, the reading of frames.
        """
        together = min(batch_size or self._default_batch, max(1, len(durations)))
        if self.engine.exact:
            together = min(together, self.engine.most_rows // 2)
        text = torch.zeros(1, self.config.text_width)  # any: it makes the sound a guided one
        counts = [count_frames(self.config, 0, math.ceil(each * self.config.frame_rate)) for each in durations]
        per_step = self._time(Job(text, TIMED_FRAMES, 0, self.sampling), together) / TIMED_FRAMES
        per_read = 0.0
        if any(n_read for _, n_read in counts):
            nothing = torch.zeros(self.config.n_q, TIMED_FRAMES, dtype=torch.long)
            prompted = self._time(Job(text, TIMED_FRAMES + 1, 0, self.sampling, nothing), together)
            per_read = max(0.0, prompted - per_step) / TIMED_FRAMES
        seconds = [per_step * n_steps + per_read * n_read for n_steps, n_read in counts]
        return max(sum(seconds) / together, max(seconds, default=0.0))

    def _time(self, job: Job, n: int) -> float:
        """Seconds of decoding it n times side by side."""
        begun = time.perf_counter()
        for _ in self.engine.generate([job] * n, n):
            pass
        return time.perf_counter() - begun

    def stream(self, request: Request) -> Iterator[np.ndarray]:
        """Generate one sound; yields its samples [n] float32 block by block, as soon as they are decided.

        Together they are what `generate` returns for the request with one candidate and one layer, as there is no
        choosing and no levelling before the end: on a CPU bit for bit, because both decode the same blocks. Raises
        InputError as `generate` does, ValueError if the request has a prompt to go on from.
        """
        if request.prompt_audio is not None:
            raise ValueError("only sounds that begin at their beginning can be streamed")
        plan = self._plan(replace(request, sampling=replace(request.sampling, layers=1)))
        (job,), left = plan.jobs, plan.n_samples
        for wav in self._decode(self.engine.stream(job, self._first_block)):
            yield wav[:left]
            left -= len(wav[:left])

    @property
    def _default_batch(self) -> int:
        return CPU_BATCH if self.engine.exact else GPU_BATCH

    @property
    def _first_block(self) -> int:
        """Frames."""
        return max(1, round(FIRST_BLOCK * self.config.frame_rate))

    @torch.inference_mode()
    def _decode(self, blocks: Iterable[Tensor]) -> Iterator[np.ndarray]:
        """codes [K, t] block by block → samples [n] float32 block by block, in the memory of a block."""
        batches = (block[None].to(self.device) for block in _regroup(blocks))
        for wav in self.codec.decode_chunks(batches):
            yield wav[0, 0].float().cpu().numpy()

    def _audible(self, plan: _Plan, n_samples: int, ranked: Sequence[Tensor]) -> np.ndarray:
        """The first take [n_samples], of codes [K, T], whose new part is no near-silence; if all are, the first."""
        n_known = len(plan.prompt) - plan.skipped
        # One by one: a decoder's bits, too, may depend on what is decoded beside a sample.
        blocks = (codes.split(self._first_block, dim=1) for codes in ranked)
        sounds = (np.concatenate(list(self._decode(each)))[:n_samples] for each in blocks)
        first = next(sounds)
        return next((sound for sound in chain([first], sounds) if not measure(sound[n_known:]).near_silent), first)

    def _finish(self, plan: _Plan, sounds: Sequence[np.ndarray]) -> np.ndarray:
        """The request's samples, from the layers' or, with a prompt, from the one there is."""
        whole = lay(sounds, plan.layers, self.sample_rate) if len(sounds) > 1 else sounds[0]
        return np.concatenate([plan.prompt[: plan.skipped], join(plan.prompt[plan.skipped :], whole, self._n_fade)])

    def _ranked_codes(
        self, jobs: Sequence[Job], batch_size: int | None, progress: Callable[[float], object]
    ) -> Iterator[tuple[int, list[Tensor]]]:
        """Every job's codes: as many takes as it asks for, the one that fits its text best before the others."""
        drawn = [(number, take) for number, job in enumerate(jobs) for take in takes(job)]
        n_takes = Counter(number for number, _ in drawn)
        ranked: dict[int, list[tuple[float, int, Tensor]]] = defaultdict(list)
        for index, codes in self._codes([take for _, take in drawn], batch_size, progress):
            number, take = drawn[index]
            score = 0.0
            if take.text is not None and n_takes[number] > 1:
                score = fit(self.engine.model, self.probe, codes, take.text)
            ranked[number].append((-score, index, codes))
            if len(ranked[number]) == n_takes[number]:
                yield number, [codes for _, _, codes in sorted(ranked.pop(number), key=lambda take: take[:2])]

    def _codes(
        self, jobs: Sequence[Job], batch_size: int | None, progress: Callable[[float], object]
    ) -> Iterator[tuple[int, Tensor]]:
        """Every job's codes as the engine gives them; out of memory, the rest goes on in batches half as large."""
        left, failed = dict.fromkeys(range(len(jobs))), 0
        while left:
            some = list(left)
            if batch_size == 1:  # one at a time, so that one too many fails alone
                some = some[:1]
            try:
                for number, codes in self._run([jobs[index] for index in some], batch_size, progress):
                    del left[some[number]]
                    yield some[number], codes
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            if not left.keys().isdisjoint(some):  # not here but below, where nothing of the failed batch is held
                torch.cuda.empty_cache()
                if batch_size == 1:
                    del left[some[0]]
                    failed += 1
                    continue
                batch_size = max(1, min(batch_size or self._default_batch, len(some)) // 2)
                logger.warning("out of memory: going on with at most %d sounds at once", batch_size)
        if failed:
            raise AudiogenError("out of memory: even alone this is too long; lower --duration")

    def _run(
        self, jobs: Sequence[Job], batch_size: int | None, progress: Callable[[float], object]
    ) -> Iterator[tuple[int, Tensor]]:
        """The engine's `generate`; a sound by itself comes through its stream, which tells how far it is."""
        if len(jobs) > 1:
            yield from self.engine.generate(jobs, batch_size)
            return
        blocks, n_frames = [], -jobs[0].n_prompt
        for block in self.engine.stream(jobs[0], self._first_block):
            blocks.append(block)
            n_frames += block.shape[1]
            progress(max(0, n_frames) / self.config.frame_rate)
        yield 0, torch.cat(blocks, dim=1)

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
            return _Plan(n_samples, prompt, 0, (), ())
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
        texts = self._encode(request)
        layers = place_layers(len(texts), n_samples - skipped, self.sample_rate)
        jobs = tuple(
            Job(
                text,
                math.ceil(layer.n_samples / hop),
                derive_seed(request.seed, f"layer {number}") if number else request.seed,
                request.sampling,
                codes,
            )
            for number, (text, layer) in enumerate(zip(texts, layers, strict=True))
        )
        return _Plan(n_samples, prompt, skipped, jobs, tuple(layers))

    def _encode(self, request: Request) -> list[Tensor | None]:
        """The vectors [L, D] that each layer is conditioned on."""
        texts = self.read(request)
        if not texts:
            return [None]
        vectors = self.encoder.encode(texts)
        if not len(vectors[0]):
            raise InputError(f"prompt '{request.prompt}' holds no word that the model knows; name a sound")
        return list(vectors)


@dataclass(frozen=True)
class _Plan:
    """A request, worked out. skipped: samples of the prompt that the model does not see; jobs: none if none is due."""

    n_samples: int
    prompt: np.ndarray
    skipped: int
    jobs: tuple[Job, ...]
    layers: tuple[Layer, ...]  # where each job's sound lies in what comes after `skipped`


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


def _regroup(blocks: Iterable[Tensor]) -> Iterator[Tensor]:
    """The first block [K, t], then BLOCK_RATIO of them at a time as one."""
    blocks = iter(blocks)
    yield from islice(blocks, 1)
    while group := list(islice(blocks, BLOCK_RATIO)):
        yield torch.cat(group, dim=1)
