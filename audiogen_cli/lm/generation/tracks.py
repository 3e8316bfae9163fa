"""Tracks: the sounds of one prompt, generated apart and mixed, each the best of several candidates.

# ours: the paper's model generates all sounds of a prompt at once, as any model here does with `layers: 1`. A codec of
few bits a second has no room for two: through the embedded model's, a fifth of real mixes keep both of their sounds.
Mixed after decoding (mixdown), each sound has all the bits to itself.

# ours: the paper keeps what it draws. Guidance makes every step likely given the text, but one unlucky token misleads
all that follow. So the model's probe (`lm.probe`) ranks several candidates (reranking). On a CPU, whose steps
have room for several rows, a few candidates cost little more than one.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
from torch import Tensor

from audiogen_cli.data.captions import only_describes, split_caption
from audiogen_cli.data.loudness import find_holes, gain_to, loudness, measure
from audiogen_cli.errors import AudiogenError, InputError, read_seconds
from audiogen_cli.lm.decoding.requests import DecodingRequest
from audiogen_cli.lm.generation.requests import GenerationRequest
from audiogen_cli.lm.sampling_config import MAX_LAYERS

Generate = Callable[[Sequence[DecodingRequest]], Iterator[tuple[int, Tensor]]]
Decode = Callable[[Sequence[Tensor]], Sequence[np.ndarray]]
Score = Callable[[Tensor, Tensor, Tensor | None], float]

LEAD = 2.0  # seconds from the beginning of the first track to that of the last, and from end to end …
MAX_LEAD = 0.4  # … or this share of the whole, if that is less
OVERLAP = 1.0  # seconds, of the end of a loop with its beginning
_TIMES = re.compile(r"(\.?\d[\d.:hms]*)\s*-\s*(\.?\d[\d.:hms]*)?")  # each as `read_seconds` takes it
_TIMED = re.compile(rf"(.*[^@\s])\s*@\s*{_TIMES.pattern}")
_UNREAD = re.compile(r"\S@\.?\d")  # a time, but not where one is read
JOIN_SECONDS = 0.02  # after the end of prompt audio, see `splice`
FADE = 0.25  # seconds, where a track begins or ends inside the whole
TRIED = 4  # candidates, after which holes in all of them belong to the sound
CEILING = 0.99  # of full scale; a sample at full scale would count as clipped


@dataclass(frozen=True)
class Track:
    """One of the sounds that are mixed, or the only one; in samples.

    begin: where it begins in the whole. n_known: how many samples at its beginning are the prompt audio's. regions: the
    parts [begin, end) that are generated; (): all that is not known.
    """

    decoding: DecodingRequest
    begin: int
    n_samples: int
    n_known: int = 0
    regions: tuple[tuple[int, int], ...] = ()

    @property
    def n_generated(self) -> int:
        """Return the number of samples that are generated."""
        return sum(end - begin for begin, end in self.regions) or self.n_samples - self.n_known

    def generated(self, sound: np.ndarray) -> np.ndarray:
        """Return the generated part of the track's samples."""
        return np.concatenate([sound[begin:end] for begin, end in self.regions or ((self.n_known, len(sound)),)])


@dataclass(frozen=True)
class Prepared:
    """A request whose text has been read and whose prompt audio has been encoded.

    texts: what the model reads in place of the prompt (sec. 4.1), one a track; () without text. tracks: what there is
    to generate; () if the prompt audio is the whole result. n_skipped: samples of the prompt audio that the model does
    not read. n_overlap: samples generated beyond n_samples, for `close_loop`. words: those of the texts → whether the
    text encoder knows them; {} if it can spell any.
    """

    request: GenerationRequest
    n_samples: int
    texts: tuple[str, ...] = ()
    tracks: tuple[Track, ...] = ()
    n_skipped: int = 0
    n_overlap: int = 0
    words: Mapping[str, bool] = field(default_factory=dict)

    @property
    def n_decoded(self) -> int:
        """Return how many samples the tracks are mixed to."""
        return self.n_samples - self.n_skipped + self.n_overlap

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Return where the tracks are in the whole: (begin, length) of each, in samples."""
        return tuple((track.begin, track.n_samples) for track in self.tracks)

    @property
    def is_single(self) -> bool:
        """Return whether there is nothing to mix: one track, from the beginning to the end."""
        return self.places == ((0, self.n_decoded),)

    @property
    def prompt(self) -> np.ndarray:
        """Return the prompt audio: [n] float32, n = 0 without any."""
        audio = self.request.prompt_audio
        return np.zeros(0, np.float32) if audio is None else audio.astype(np.float32, copy=False)


def read_timing(request: GenerationRequest) -> tuple[list[str], list[tuple[float, float | None]]]:
    """Read where the sounds of a request's text are: their texts, and (begin, end) of each in seconds; end None: that
    of the whole. Empty lists if there are no times.

    Raises InputError for times that are none, and where a sound is continued or loops.
    """
    texts, spans = _read_timing(request.text or "", request.sampling.timing)
    if len(texts) > MAX_LAYERS or (texts and (request.prompt_audio is not None or request.sampling.loop)):
        most = f"at most {MAX_LAYERS} sounds can have times"
        raise InputError(f"prompt '{request.text}': {most}, and none where a sound is continued or loops")
    return texts, spans


def _read_timing(text: str, timing: str) -> tuple[list[str], list[tuple[float, float | None]]]:
    """Read times in a text (`a dog@0-2, rain@1-5, wind`: the wind is there from the beginning to the end), or those of
    `timing` (`0-2, 1-5`) for a text of so many sounds."""
    if timing.strip():
        spans = [_TIMES.fullmatch(part.strip()) for part in timing.split(",")]
        if not all(spans):
            raise InputError(f"timing '{timing}': write seconds, as in 0-2,1-5, a pair for each sound of the prompt")
        texts = split_caption(text, len(spans) + 1) if text and "@" not in text else []
        if len(texts) != len(spans):
            named = f"'{text}' names another number of them" if text else "there is no prompt"
            raise InputError(f"timing '{timing}' is for {len(spans)} sounds, but {named}")
        return texts, [_span(*match.groups()) for match in spans if match]
    parts = _split_timed(text)
    found = [_TIMED.fullmatch(part) for part in parts]
    texts = [match[1].strip() if match else part for part, match in zip(parts, found, strict=True)]
    if any(map(_UNREAD.search, texts)):
        raise InputError(f"prompt '{text}': write times behind each sound, commas between: 'a dog@0-2, rain@1-5'")
    if not any(found):
        return [], []
    return texts, [_span(match[2], match[3]) if match else (0.0, None) for match in found]


def _split_timed(text: str) -> list[str]:
    """Split a text at its commas into sounds with times and without; what only describes one (`big, loud dog@0-2`)
    stays with the next, or with the last."""
    parts, before = list[str](), list[str]()
    for part in filter(None, map(str.strip, text.split(","))):
        before.append(part)
        if "@" in part or not only_describes(part):
            parts.append(", ".join(before))
            before = []
    return [*parts[:-1], ", ".join([*before, *parts[-1:]])]


def _span(begin: str, end: str | None) -> tuple[float, float | None]:
    try:
        found = read_seconds(begin), read_seconds(end) if end else None
    except ValueError as error:
        raise InputError(f"times {begin}-{end or ''}: {error}") from None
    if found[1] is not None and found[1] <= found[0]:
        raise InputError(f"times {begin}-{end}: a sound must end after it begins")
    return found


def place_timed(spans: Sequence[tuple[float, float | None]], n_samples: int, sample_rate: int) -> list[tuple[int, int]]:
    """Return (begin, length) in samples of sounds in spans of seconds. Raises InputError beyond the whole."""
    places = []
    for first, last in spans:
        begin, end = round(first * sample_rate), n_samples if last is None else round(last * sample_rate)
        if not begin < end <= n_samples:
            raise InputError(
                f"times {first:g}-{last or ''}: the whole lasts {n_samples / sample_rate:g} s; see --duration"
            )
        places.append((begin, end - begin))
    return places


def count_overlap(n_samples: int, sample_rate: int) -> int:
    """Return how many samples more are generated of a loop, for `close_loop`."""
    return min(round(OVERLAP * sample_rate), n_samples // 2)


def close_loop(wav: np.ndarray, n_overlap: int) -> np.ndarray:
    """Let the end of a sound meet its beginning: [N + n_overlap] float32 → [N].

    # ours: what follows the end is faded out over the beginning, which fades in; with equal power, for the two are
    different noise. So the last sample is followed by what came after it, and the level stays.
    """
    n_overlap = min(n_overlap, len(wav) // 3)  # of a track alone, which may be much shorter than the whole
    n_samples = len(wav) - n_overlap
    angle = np.linspace(0, np.pi / 2, n_overlap, endpoint=False, dtype=np.float32)
    looped = wav[:n_samples].copy()
    looped[:n_overlap] = wav[:n_overlap] * np.sin(angle) + wav[n_samples:] * np.cos(angle)
    return looped * np.float32(CEILING / max(CEILING, float(np.abs(looped).max())))


def generate_mixed(
    requests: Sequence[Sequence[Track]],
    generate: Callable[[Sequence[Track]], Iterator[tuple[int, np.ndarray]]],
    sample_rate: int,
    lengths: Sequence[int],
) -> Iterator[tuple[int, np.ndarray]]:
    """Generate the tracks of all requests together; yield (index, samples [N]) of each mix, when ready.

    requests: the tracks of each; lengths: N of each. generate: yields (index, samples [track.n_samples]) of tracks.
    """
    owners = [index for index, tracks in enumerate(requests) for _ in tracks]
    sounds: dict[int, dict[int, np.ndarray]] = defaultdict(dict)
    for number, sound in generate([track for tracks in requests for track in tracks]):
        index = owners[number]
        sounds[index][number] = sound
        if len(sounds[index]) == len(requests[index]):
            in_order = [sound for _, sound in sorted(sounds.pop(index).items())]
            yield index, mix_tracks(in_order, [track.begin for track in requests[index]], sample_rate, lengths[index])


def place_tracks(n: int, n_samples: int, sample_rate: int) -> list[tuple[int, int]]:
    """Place n tracks of equal length in n_samples: (begin, length) of each, in samples.

    They begin one after the other, and end in the same order. So the first is alone at the beginning and the last at
    the end, as in the mixes of training (sec. 4.1), which have a temporal offset too; in between all sound together.
    """
    lead = round(min(LEAD * sample_rate, MAX_LEAD * n_samples)) if n > 1 else 0
    return [(lead * i // max(1, n - 1), n_samples - lead) for i in range(n)]


def mix_tracks(
    sounds: Sequence[np.ndarray], begins: Sequence[int], sample_rate: int, n_samples: int | None = None
) -> np.ndarray:
    """Sum sounds [n] float32, each from its sample of `begins` on → [n_samples] float32, by default to the last end.

    A single one that is the whole stays as it is. All but near-silence get the loudness of the loudest one, measured
    where they sound, as far as their peaks allow; they fade where they begin and end inside the whole. A sum that
    passes CEILING is scaled down as a whole.
    """
    n_samples = n_samples or max(begin + len(sound) for begin, sound in zip(begins, sounds, strict=True))
    if len(sounds) == 1 and len(sounds[0]) == n_samples:
        return sounds[0]
    loudest = max(loudness(sound, sample_rate) for sound in sounds)
    whole = np.zeros(n_samples, np.float32)
    for sound, begin in zip(sounds, begins, strict=True):
        stats = measure(sound)
        most = 1.0 if stats.near_silent else max(1.0, CEILING / stats.peak)
        gain = min(gain_to(loudest, sound, sample_rate), most)
        end = begin + len(sound)
        envelope = _envelope(len(sound), begin > 0, end < n_samples, round(FADE * sample_rate))
        whole[begin:end] += np.float32(gain) * (sound * envelope)
    return whole * np.float32(CEILING / max(CEILING, float(np.abs(whole).max())))


def _envelope(n_samples: int, fade_in: bool, fade_out: bool, n_fade: int) -> np.ndarray:
    """Return gains [n_samples] float32: 1 outside the fades asked for."""
    n_fade = min(n_fade, n_samples // 2)
    ramp = np.linspace(0.0, 1.0, n_fade, dtype=np.float32)
    envelope = np.ones(n_samples, np.float32)
    if fade_in:
        envelope[:n_fade] = ramp
    if fade_out:
        envelope[n_samples - n_fade :] = ramp[::-1]
    return envelope


@dataclass(frozen=True)
class Candidate:
    """One of the drafts of a track. score: how well it fits the text; None if nothing judges it. codes: [K, T]."""

    seed: int
    score: float | None
    codes: Tensor


def splice(audio: np.ndarray, decoded: np.ndarray, regions: Sequence[tuple[int, int]], n_fade: int) -> np.ndarray:
    """Put regions of what was decoded [N] into audio [n], which stays exactly as it is elsewhere, without clicks.

    regions: [begin, end) in samples, in order; audio may end where the last one begins.
    The codec does not return the audio exactly. So inside of a seam what is outside is added, mirrored in time (so it
    is continuous) and faded out over n_fade samples, and the codec's own version of it taken away: of a good codec
    little is left then. A codec that invents waveforms has no such version; there one fades into the other.
    """
    result, n_samples = np.concatenate([audio, decoded[len(audio) :]]), len(decoded)
    bounds = [0, *(place for region in regions for place in region), n_samples]
    for number, (begin, end) in enumerate(regions):
        inside = decoded[begin:end].copy()
        # Of the audio between regions each seam takes what is next to it.
        n_left = min(n_fade, begin - bounds[2 * number], end - begin)
        n_right = min(n_fade, bounds[2 * number + 3] - end, end - begin)
        before, after = slice(begin - n_left, begin), slice(end, end + n_right)
        _join(inside[:n_left], audio[before][::-1], decoded[before][::-1])
        _join(inside[::-1][:n_right], audio[after], decoded[after])
        result[begin:end] = inside
    return result


def _join(inside: np.ndarray, audio: np.ndarray, decoded: np.ndarray) -> None:
    """Let `inside` begin as audio goes on, in place. All [n], from the seam: inwards; audio and decoded, outwards."""
    fade = np.cos(np.linspace(0, np.pi / 2, len(inside), dtype=np.float32)) ** 2
    error = audio - decoded
    invented = min(1.0, float(error @ error) / max(float(audio @ audio), 1e-9))  # nothing of it is the audio: 1
    inside *= 1 - invented * fade
    inside += (audio - (1 - invented) * decoded) * fade


def generate_best(
    tracks: Sequence[Track],
    generate: Generate,
    decode: Decode,
    score: Score | None,
    is_fine: Callable[[Track, np.ndarray], bool] = lambda track, sound: True,
    most: int = 1,
) -> Iterator[tuple[int, np.ndarray, list[Candidate]]]:
    """Generate each track's candidates; yield (index, samples [track.n_samples] of the best one, candidates), when
    ready. The candidates are those of the track, the best first, then as they are ranked.

    generate: yields (index, codes [K, T]) of decoding requests. decode: codes [K, T] of sounds → samples [n] of each.
    score: codes, and the vectors [L, D] of text and negative text → how well they fit; None leaves the candidates in
    the order drawn. is_fine: whether nothing is wrong with an audible one; see `_choose`. The best one is decoded
    first, with those of other tracks until they are `most`, and kept unless its generated part is near-silent; then the
    next one follows. If all are, the best is kept.
    """
    drawn = [(index, candidate) for index, track in enumerate(tracks) for candidate in list_candidates(track.decoding)]
    n_drawn = Counter(index for index, _ in drawn)
    ranked: dict[int, list[tuple[float, int, Candidate]]] = defaultdict(list)
    ready: dict[int, list[Candidate]] = {}

    def finish() -> Iterator[tuple[int, np.ndarray, list[Candidate]]]:
        bests = decode([candidates[0].codes for candidates in ready.values()]) if ready else []
        for best in bests:
            index = next(iter(ready))
            candidates = ready.pop(index)
            others = (decode([each.codes])[0] for each in candidates[1:])
            sound, place = _choose(tracks[index], chain([best], others), is_fine)
            yield index, sound, [candidates.pop(place), *candidates]

    try:
        for number, codes in generate([candidate for _, candidate in drawn]):
            index, candidate = drawn[number]
            judged = score is not None and candidate.vectors is not None and n_drawn[index] > 1
            value = score(codes, candidate.vectors, candidate.negative) if judged else None  # type: ignore[misc, arg-type]
            ranked[index].append((-(value or 0.0), number, Candidate(candidate.seed, value, codes)))
            if len(ranked[index]) == n_drawn[index]:
                ready[index] = [each for *_, each in sorted(ranked.pop(index), key=lambda each: each[:2])]
            if len(ready) == most:
                yield from finish()
    except AudiogenError:  # of a track that does not fit into the memory: the others are done
        yield from finish()
        raise
    yield from finish()


def list_candidates(request: DecodingRequest) -> list[DecodingRequest]:
    """Return the request once for each candidate, with seeds derived from its own; the first is the request itself.

    Without a text there is nothing to fit, so one.
    """
    others = range(1, 1 if request.vectors is None else request.sampling.candidates)
    return [request, *(replace(request, seed=derive_seed(request.seed, str(number))) for number in others)]


def derive_seed(seed: int, part: str) -> int:
    """Return the seed of a part of a sound; it is not near `seed`, whose neighbors other sounds have."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{part}".encode()).digest()[2:6], "big")


def has_no_holes(track: Track, sound: np.ndarray, sample_rate: int) -> bool:
    """Return whether the generated part of a track's samples nowhere stops for a moment."""
    return not find_holes(track.generated(sound), sample_rate).size


def _choose(
    track: Track, sounds: Iterator[np.ndarray], is_fine: Callable[[Track, np.ndarray], bool]
) -> tuple[np.ndarray, int]:
    """Return the first of a track's decoded candidates, ranked, that is audible and fine; and its place.

    If the first TRIED audible ones are not fine, the text asks for what is not (a dog barks, and stops): the first of
    them is kept.
    """
    first, audible = None, list[tuple[np.ndarray, int]]()
    for place, sound in enumerate(sounds):
        sound = sound[: track.n_samples]
        first = sound if first is None else first
        if measure(track.generated(sound)).near_silent:
            continue
        if is_fine(track, sound):
            return sound, place
        audible.append((sound, place))
        if len(audible) == TRIED:
            break
    assert first is not None
    return audible[0] if audible else (first, 0)
