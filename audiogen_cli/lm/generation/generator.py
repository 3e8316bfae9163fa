"""From requests to sounds: a language model, its codec and its text encoder (sec. 3)."""

from __future__ import annotations

import logging
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiogen_cli import model_folder
from audiogen_cli.codec.config import check_same_codes
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.data.captions import read_prompt
from audiogen_cli.devices import choose_device, is_out_of_memory
from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.lm.adapters import Adapter, adapted_fingerprint, add_adapters, find_adapters, read_licenses
from audiogen_cli.lm.config import LMConfig
from audiogen_cli.lm.decoder import check_inpainting, find_decoder
from audiogen_cli.lm.decoding.engine import regroup
from audiogen_cli.lm.decoding.requests import UNKNOWN, DecodingRequest
from audiogen_cli.lm.generation.requests import GenerationRequest, as_samples, check_regions, override
from audiogen_cli.lm.generation.tracks import (
    JOIN_SECONDS,
    Candidate,
    Prepared,
    Track,
    close_loop,
    count_overlap,
    derive_seed,
    generate_best,
    generate_mixed,
    has_no_holes,
    place_timed,
    place_tracks,
    read_timing,
    splice,
)
from audiogen_cli.lm.model import CodeModel
from audiogen_cli.lm.probe import Probe
from audiogen_cli.lm.text.encoders import TextEncoder, load_text_encoder

FIRST_BLOCK = 0.25  # seconds of sound decoded first, so that a stream begins soon
DECODED_TOGETHER = 8  # sounds, on a GPU; on a CPU a decoder's bits, too, may depend on what is decoded beside a sound

OnSeconds = Callable[[float], object]
Span = tuple[float, float | None]  # seconds; the end None: that of the whole
OnCandidates = Callable[[int, int, Sequence[Candidate]], object]  # (sound, its track, candidates, the best first)

logger = logging.getLogger(__name__)  # without a handler, Python prints its warnings on stderr


class Generator:
    """Generates sounds with a model folder.

    On a CPU the same request gives the same samples bit for bit, whatever else is generated beside it.
    """

    def __init__(
        self,
        lm: CodeModel,
        codec: AudioCodec,
        encoder: TextEncoder,
        dtype: str = "auto",
        folder: Path | None = None,
        adapters: Sequence[Adapter] = (),
    ) -> None:
        """lm: changed here for decoding; use it for nothing else afterwards. folder: has probe, license, weights.
        adapters: those that the weights of the folder were changed by."""
        self.folder, self.config, self.adapters = folder, lm.config, tuple(adapters)
        self.codec, self.encoder, self.engine = codec, encoder, find_decoder(lm.config).build_engine(lm, dtype)
        self.device, self.dtype = lm.null_text.device, self.engine.dtype
        self.sample_rate, self.sampling = lm.config.sample_rate, lm.config.sampling
        self._first_block = max(1, round(FIRST_BLOCK * lm.config.frame_rate))  # frames that a stream decodes first
        self.probe = Probe.load(folder, lm.config) if folder else None
        self.license = read_licenses(folder, adapters) if folder else ""
        self.fingerprint = adapted_fingerprint(folder, adapters) if folder else ""

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        device: str = "auto",
        dtype: str = "auto",
        adapters: Sequence[Adapter | Path | str] = (),
        encoder: TextEncoder | None = None,
    ) -> Generator:
        """Load a model folder, checkpoint or run; None: see `find_model`. adapters: see `find_adapters`.

        device: auto, cpu, cuda, cuda:N or mps. dtype: auto or another of `choose_dtype`'s names; the
        codec always runs in float32. encoder: the one that the model was trained with, if it is none of ours.
        Raises InputError if something is missing or does not belong together.
        """
        folder = model_folder.find_model(model)
        config, changes = model_folder.load_config(folder, "lm", LMConfig), find_adapters(adapters, folder)
        where = choose_device(device)
        codec = AudioCodec.load(folder / "codec", where)
        if codec.fingerprint != config.codec_fingerprint:
            raise InputError(
                f"{folder}: the language model was trained with the codec {config.codec_fingerprint[:12]}, but "
                f"codec/ holds {codec.fingerprint[:12]}; copy the model folder again"
            )
        check_same_codes(codec.config, config, f"{folder}: config.json")
        encoder = encoder or load_text_encoder(config.text, where)
        if (encoder.width, encoder.fingerprint) != (config.text_width, config.text_fingerprint):
            raise InputError(
                f"{folder}: the language model was trained with other word vectors or another text encoder: "
                f"{config.text_fingerprint or config.text_width}, not {encoder.fingerprint or encoder.width}; "
                "put the one it was trained with in its place"
            )
        decoder = find_decoder(config)
        if changes:  # they change the weights, so packed ones are of no use
            lm = decoder.model_class().load(folder, where)
            add_adapters(lm, changes)
        else:
            lm, dtype = decoder.load(folder, where, dtype)
        lm.requires_grad_(False)
        return cls(lm, codec, encoder, dtype, folder, changes)

    def knows(self, prompt: str) -> bool:
        """Return whether the model knows a word of a prompt."""
        return len(self._encode(prompt)[1][0]) > 0

    def request(self, text: str | None, seed: int = 0, duration: float = 5.0, **given: Any) -> GenerationRequest:
        """Return a request with the model's own sampling settings, but for those given (guidance=5.0). Raises
        InputError if one is out of range, TypeError if there is none of its name."""
        return GenerationRequest(text, seed, duration, override(self.sampling, given))

    def prepare(self, request: GenerationRequest) -> Prepared:
        """Read a request's text and encode its prompt audio. Raises InputError if the request cannot be met."""
        request = replace(request, seed=operator.index(request.seed), prompt_audio=as_samples(request.prompt_audio))
        n_samples, n_prompt = self._count_samples(request)
        if n_samples == n_prompt and not request.regions:
            return Prepared(request, n_samples)
        encode = self._encode_around if request.regions else self._encode_prompt
        codes, n_skipped = encode(request)
        texts, vectors, spans = self._read_text(request)
        n_overlap = count_overlap(n_samples, self.sample_rate) if request.sampling.loop else 0
        n_whole = n_samples - n_skipped + n_overlap
        negative = self._read_negative(request.sampling.negative)
        places = place_tracks(len(vectors), n_whole, self.sample_rate)
        if spans:
            places = place_timed(spans, n_whole, self.sample_rate)
        tracks = []
        for number, (each, (begin, length)) in enumerate(zip(vectors, places, strict=True)):
            seed = derive_seed(request.seed, f"layer {number}") if number else request.seed
            n_frames = math.ceil(length / self.codec.hop_length)
            decoding = DecodingRequest(each, n_frames, seed, request.sampling, codes, negative)
            known = 0 if request.regions else n_prompt - n_skipped
            tracks.append(Track(decoding, begin, length, known, request.regions))
        words = {word: known for text in texts for word, known in self.encoder.find_words(text).items()}
        return Prepared(request, n_samples, texts, tuple(tracks), n_skipped, n_overlap, words)

    def generate(
        self,
        requests: Sequence[GenerationRequest | Prepared],
        batch_size: int | None = None,
        progress: OnSeconds = lambda seconds: None,
        on_candidates: OnCandidates = lambda index, track, candidates: None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Generate all sounds; yield (index, samples [n] float32), n = round(duration · sample_rate), when ready.

        batch_size: most sounds decoded at once; halved whenever memory runs out, which changes no sound. progress:
        called with the seconds of new sound generated so far, all together. on_candidates: called for each track of a
        sound, before it is yielded, with the index of the sound, the track's number and its candidates, the best first.
        Raises InputError, before anything is generated, if a request cannot be met; AudiogenError, after all others
        are done, if a sound is too long for the memory by itself.
        """
        prepared = [each if isinstance(each, Prepared) else self.prepare(each) for each in requests]
        for index, each in enumerate(prepared):
            if not each.tracks:
                yield index, each.prompt

        seconds = shown = 0.0  # of finished sounds, and with the one being generated
        total = sum(each.request.new_seconds(self.sample_rate) for each in prepared)

        def show(more: float) -> None:
            nonlocal shown
            shown = max(shown, min(seconds + more, total))  # candidates of a sound begin again
            progress(shown)

        def generate_codes(requests: Sequence[DecodingRequest]) -> Iterator[tuple[int, Tensor]]:
            return self.generate_codes(requests, batch_size, show)

        owners = [(index, track) for index, each in enumerate(prepared) for track in range(len(each.tracks))]

        def generate_tracks(tracks: Sequence[Track]) -> Iterator[tuple[int, np.ndarray]]:
            score = self._score if self.probe else None
            most = 1 if self.engine.exact else DECODED_TOGETHER
            found = generate_best(tracks, generate_codes, self.decode, score, self._is_fine, most)
            for number, wav, candidates in found:
                on_candidates(*owners[number], candidates)
                yield number, wav

        lengths, all_tracks = [each.n_decoded for each in prepared], [each.tracks for each in prepared]
        for index, wav in generate_mixed(all_tracks, generate_tracks, self.sample_rate, lengths):
            seconds += prepared[index].request.new_seconds(self.sample_rate)
            show(0.0)
            yield index, self._finish(prepared[index], wav)

    def decode_candidate(self, prepared: Prepared, track: int, candidate: Candidate) -> np.ndarray:
        """Decode a candidate of a track as if it were the whole result: samples [n] float32."""
        return self._finish(prepared, self.decode([candidate.codes])[0][: prepared.tracks[track].n_samples])

    def generate_codes(
        self,
        requests: Sequence[DecodingRequest],
        batch_size: int | None = None,
        progress: OnSeconds = lambda seconds: None,
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield (index, codes [K, T]) when ready; when memory runs out, halve the batches of the rest."""
        left, failed = dict.fromkeys(range(len(requests))), 0
        while left:
            some = list(left)
            if batch_size == 1:  # one at a time, so that one too many fails alone
                some = some[:1]
            try:
                for number, codes in self._decode_together([requests[i] for i in some], batch_size, progress):
                    del left[some[number]]
                    yield some[number], codes
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            if not left.keys().isdisjoint(some):  # not in the except clause, where the failed batch is still held
                torch.cuda.empty_cache()
                if batch_size == 1:
                    del left[some[0]]
                    failed += 1
                    continue
                batch_size = max(1, min(batch_size or self.engine.default_batch, len(some)) // 2)
                logger.warning("out of memory: going on with at most %d sounds at once", batch_size)
        if failed:
            raise AudiogenError("out of memory: even alone this is too long; lower --duration")

    def decode(self, sounds: Sequence[Tensor]) -> list[np.ndarray]:
        """Decode codes [K, T] of several sounds, those of one length together, to samples [T · hop] float32 of each."""
        # In the blocks of a stream, whose samples are to be the same.
        lengths = [codes.shape[1] for codes in sounds]
        found: dict[int, Iterator[np.ndarray]] = {}
        for length in set(lengths):
            codes = torch.stack([codes for codes in sounds if codes.shape[1] == length])
            found[length] = iter(np.concatenate(list(self._decode_blocks(codes.split(self._first_block, -1))), -1))
        return [next(found[length]) for length in lengths]

    def stream(self, request: GenerationRequest | Prepared) -> Iterator[np.ndarray]:
        """Generate one sound; yield its samples [n] float32 block by block, as soon as they are decided.

        Together they are what `generate` yields for it with one candidate: on a CPU bit for bit. Prompt audio comes
        first. Raises InputError, at once, if it is mixed of several tracks, has times or loops: it must be complete.
        """
        prepared = request if isinstance(request, Prepared) else self.prepare(request)
        if not prepared.is_single or prepared.n_overlap:
            raise InputError("--stream cannot mix sounds, place them at times or close a loop; leave --stream out")
        return self._stream(prepared)

    def _stream(self, prepared: Prepared) -> Iterator[np.ndarray]:
        prompt, n_skipped = prepared.prompt, prepared.n_skipped
        if len(prompt):
            yield prompt
        n_fade, n_known, n_whole = round(JOIN_SECONDS * self.sample_rate), len(prompt) - n_skipped, prepared.n_decoded
        left = n_whole - n_known
        seam: np.ndarray | None = np.zeros(0, np.float32) if n_known else None  # what is decoded up to there
        blocks = self.engine.stream(prepared.tracks[0].decoding, self._first_block)
        for (wav,) in self._decode_blocks(block[None] for block in blocks):
            if seam is not None:
                seam = np.concatenate([seam, wav])[:n_whole]
                if len(seam) < min(n_known + n_fade, n_whole):
                    continue
                wav, seam = splice(prompt[n_skipped:], seam, [(n_known, len(seam))], n_fade)[n_known:], None
            yield wav[:left]
            left -= len(wav[:left])

    @torch.inference_mode()
    def _decode_blocks(self, blocks: Iterable[Tensor]) -> Iterator[np.ndarray]:
        """Decode codes [B, K, t] to samples [B, n] block by block, in the memory of a block."""
        for wav in self.codec.decode_chunks(block.to(self.device) for block in regroup(blocks)):
            yield wav[:, 0].float().cpu().numpy()

    def _decode_together(
        self, requests: Sequence[DecodingRequest], batch_size: int | None, progress: OnSeconds
    ) -> Iterator[tuple[int, Tensor]]:
        """Decode with the engine's `generate`; a single sound is streamed, so that progress can be reported."""
        if len(requests) > 1:
            yield from self.engine.generate(requests, batch_size)
            return
        blocks, n_frames = [], -requests[0].n_prompt
        for block in self.engine.stream(requests[0], self._first_block):
            blocks.append(block)
            n_frames += block.shape[1]
            progress(max(0, n_frames) / self.config.frame_rate)
        yield 0, torch.cat(blocks, dim=1)

    def _finish(self, prepared: Prepared, wav: np.ndarray) -> np.ndarray:
        """Put what was decoded [n] behind the prompt audio, from `n_skipped` of its samples on, or into its regions.

        A loop is closed instead.
        """
        if prepared.n_overlap:
            return close_loop(wav, prepared.n_overlap)
        prompt, n_skipped = prepared.prompt, prepared.n_skipped
        regions = prepared.request.regions or ((len(prompt) - n_skipped, len(wav)),)
        spliced = splice(prompt[n_skipped:], wav, regions, round(JOIN_SECONDS * self.sample_rate))
        return np.concatenate([prompt[:n_skipped], spliced])

    def _is_fine(self, track: Track, sound: np.ndarray) -> bool:
        """Return whether a track fits into the trained window, or has no holes, which may come with its sliding."""
        return track.decoding.n_frames <= self.config.window_frames or has_no_holes(track, sound, self.sample_rate)

    def _score(self, codes: Tensor, vectors: Tensor, negative: Tensor | None) -> float:
        assert self.probe is not None
        return self.probe.score(self.engine.model, codes, vectors, negative)

    def _count_samples(self, request: GenerationRequest) -> tuple[int, int]:
        """Count the samples of the whole result and of its prompt audio."""
        n_samples = round(request.duration * self.sample_rate) if math.isfinite(request.duration) else 0
        n_prompt = 0 if request.prompt_audio is None else len(request.prompt_audio)
        if n_samples < 1:
            raise InputError(f"duration {request.duration} s: ask for at least 1/{self.sample_rate} s")
        if n_samples < n_prompt:
            raise InputError(
                f"duration {request.duration} s is shorter than the {n_prompt / self.sample_rate:.2f} s to continue: "
                "it is the length of the whole result"
            )
        if n_prompt and request.sampling.loop:
            raise InputError("a sound that is continued or mended cannot loop: leave loop out")
        if request.regions:
            check_inpainting(self.config, self.folder.name if self.folder else "")
            check_regions(request.regions, n_prompt, n_samples)
        return n_samples, n_prompt

    @torch.inference_mode()
    def _encode_prompt(self, request: GenerationRequest) -> tuple[Tensor | None, int]:
        """Encode the whole frames of prompt audio: codes [K, P], and how many samples before them are left out.

        What remains after the last whole frame overlaps the first new one.
        """
        audio, hop = request.prompt_audio, self.codec.hop_length
        n_frames, n_skipped = 0 if audio is None else len(audio) // hop, 0
        if audio is None or not n_frames:
            return None, 0
        if n_frames >= self.config.max_frames:  # ours: beyond the window the engine would forget the beginning anyway
            n_skipped = (n_frames - max(1, self.config.max_frames // 2)) * hop
        wav = torch.from_numpy(audio.astype(np.float32)[n_skipped:])[None, None].to(self.device)
        return self.codec.encode(wav)[0, :, : n_frames - n_skipped // hop].cpu(), n_skipped

    @torch.inference_mode()
    def _encode_around(self, request: GenerationRequest) -> tuple[Tensor, int]:
        """Encode audio, with regions: codes [K, T], UNKNOWN in these; and 0 samples left out, see `_encode_prompt`."""
        from audiogen_cli.lm.generation.inpainting import bridge_regions, hide_regions

        assert request.prompt_audio is not None
        wav = torch.from_numpy(bridge_regions(request.prompt_audio, request.regions))[None, None].to(self.device)
        return hide_regions(self.codec.encode(wav)[0].cpu(), request.regions, self.codec.hop_length, UNKNOWN), 0

    def _read_text(self, request: GenerationRequest) -> tuple[tuple[str, ...], list[Tensor | None], list[Span]]:
        """Process and encode the prompt, in up to `layers` parts: the texts, their vectors [L, D], and times if given.

        A prompt of which a part would hold no word that the model knows is read as a whole, and so is one that
        continues a sound. Without a prompt: no text, and None as vectors.
        """
        parts, spans = read_timing(request)
        if request.text is None:
            return (), [None], []
        if parts:
            read = [self._encode(part) for part in parts]
            if unknown := [part for part, (_, vectors) in zip(parts, read, strict=True) if not len(vectors[0])]:
                raise InputError(f"prompt '{unknown[0]}' holds no word that the model knows; name a sound")
            texts = tuple(text for each, _ in read for text in each)
            return texts, [each for _, vectors in read for each in vectors], spans
        texts, vectors = self._encode(request.text, request.sampling.layers if request.prompt_audio is None else 1)
        if len(texts) > 1 and not all(map(len, vectors)):
            texts, vectors = self._encode(request.text)
        if not len(vectors[0]):
            raise InputError(f"prompt '{request.text}' holds no word that the model knows; name a sound")
        return texts, [*vectors], []

    def _read_negative(self, text: str) -> Tensor | None:
        """Encode the text that guidance steers away from; None if there is none."""
        if not text.strip():
            return None
        vectors = self._encode(text)[1][0]
        if not len(vectors):
            raise InputError(f"negative prompt '{text}' holds no word that the model knows; leave it out")
        return vectors

    def _encode(self, prompt: str, most: int = 1) -> tuple[tuple[str, ...], list[Tensor]]:
        """Return the texts that the model reads in place of a prompt (sec. 4.1), at most `most`, and their vectors."""
        texts = tuple(read_prompt(prompt, most, self.config.text_processing == "paper"))
        return texts, self.encoder.encode(texts)
