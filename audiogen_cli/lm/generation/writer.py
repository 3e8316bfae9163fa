"""Writing sounds: from requests to audio files and their sidecars. generate, continue, eval and training previews share
it; a failure costs one sound, and the processes of an accelerate launch divide the work."""

from __future__ import annotations

import json
import math
import secrets
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiogen_cli.data.loudness import measure
from audiogen_cli.devices import agree, count_processes, is_out_of_memory, join_processes
from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.files import read_json, temporary_name, write_text
from audiogen_cli.lm.generation.delivery import AS_IT_IS, Delivered, Delivery, deliver, join_stats
from audiogen_cli.lm.generation.requests import STDOUT, WHOLE_SECONDS, GenerationRequest, own_columns
from audiogen_cli.model_folder import explain_rights, known_sounds, license_line, model_name

if TYPE_CHECKING:
    from audiogen_cli.lm.adapters import Adapter
    from audiogen_cli.lm.generation.generator import Generator, Prepared
    from audiogen_cli.lm.generation.tracks import Candidate

LONG_SECONDS = 120.0  # of sound, candidates included, from which on the time is estimated
N_SOUNDS = 10  # that a model knows, named to who asks for none of them

Progress = Callable[[int, int], object]  # (seconds of sound done, of how many)
Say = Callable[[str], object]  # shows the user a line


@dataclass(frozen=True)
class RenderOptions:
    """Options of writing. batch_size: most sounds decoded at once. sidecars: write `<name>.json` beside each sound.
    delivery: rate, channels, format and level of the files. keep_candidates: write the other candidates, too, as
    `NAME-candidate02` and so on, in the order of their scores. skip: see `Rendered`."""

    batch_size: int | None = None
    sidecars: bool = False
    delivery: Delivery = AS_IT_IS
    keep_candidates: bool = False
    skip: bool = False


@dataclass(frozen=True)
class Rendered:
    """The result of a request. index: its place in the list; record: its sidecar's content; failure: the reason why
    there is none, with `skip` also that only others can be met; kept: an earlier run had finished it."""

    index: int
    record: dict[str, Any] | None = None
    failure: str | None = None
    kept: bool = False


def write_sounds(
    generator: Generator | None,
    requests: Sequence[GenerationRequest],
    options: RenderOptions = RenderOptions(),
    finished: Mapping[int, dict[str, Any]] | None = None,
    progress: Progress | None = None,
    say: Say = lambda line: None,
) -> Iterator[Rendered]:
    """Generate and write every request that is not `finished` (see `resuming`); yield all results in order.

    With one process a result comes as soon as it can; with several, which divide the requests and each yield every
    result, all come at the end. A sound that cannot be written is a failure, and so are those left when the device
    runs out of memory. generator: None if all are finished. say: called with notes for the user.
    Raises InputError, before anything is generated, if a request cannot be met, unless `options` skip it.
    """
    finished = finished or {}
    todo = [index for index in range(len(requests)) if index not in finished]
    if count_processes() == 1:
        results = _in_order(_render(generator, requests, todo, options, progress, say), todo)
    else:
        from accelerate.utils import gather_object

        own = todo[join_processes().process_index :: count_processes()]
        shares = gather_object(list(_render(generator, requests, own, options, progress, say)))
        results = iter(sorted(shares, key=lambda rendered: rendered.index))
    for index in range(len(requests)):
        yield Rendered(index, finished[index], kept=True) if index in finished else next(results)


def write_stream(
    generator: Generator,
    request: GenerationRequest,
    options: RenderOptions = RenderOptions(),
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """Generate one sound into its file block by block, or as raw 16-bit samples to stdout if the output is `-`.

    The file has its final name and a valid header from the first block on, for players that follow it; it is removed
    if generating fails. One candidate and one layer, whatever the request says. Returns the record, which also has
    `first_sound`, the seconds until the first samples were written; a sound too long for the memory has no loudness.
    Raises InputError, before a file is touched, for a request that cannot be streamed.
    """
    from audiogen_cli.data.wav_stream import RawPipe, StreamingWavWriter

    request = replace(request, sampling=replace(request.sampling, candidates=1, layers=1))
    prepared = generator.prepare(request)
    stream = generator.stream(prepared)
    _announce(generator, [prepared], options, say)
    to_stdout = str(request.output) == STDOUT
    if to_stdout:
        say(f"writing 16-bit mono samples at {generator.sample_rate} Hz, no header")
    begun, first, blocks = time.monotonic(), 0.0, list[np.ndarray]()
    n_samples, stats, whole = 0, measure(np.zeros(0)), request.duration <= WHOLE_SECONDS
    try:
        with (
            nullcontext() if to_stdout else beside(request.output, None),
            nullcontext(RawPipe(sys.stdout.buffer))
            if to_stdout
            else StreamingWavWriter(request.output, generator.sample_rate, _tags(generator, request)) as sink,
        ):
            for wav in stream:
                sink.write(wav)
                first = first or time.monotonic() - begun
                if not whole:
                    blocks.clear()
                    stats = join_stats([(n_samples, stats), (len(wav), measure(np.clip(wav, -1, 1)))])
                n_samples += len(wav)
                blocks.append(wav)
    except Exception as error:
        raise AudiogenError(f"{request.output}: {_reason(error)}") if is_out_of_memory(error) else error from None
    sound = Delivered(np.concatenate(blocks), generator.sample_rate)
    record = {**_record(generator, prepared, sound, AS_IT_IS), "first_sound": first}
    if not whole:  # `sound` is the last block
        record |= {"duration": n_samples / generator.sample_rate, **vars(stats), "loudness": None}
    if options.sidecars and not to_stdout:
        write_sidecar(request.output, record)
    return record


def load_generator(folder: Path, device: str, dtype: str, adapters: Sequence[Adapter] = ()) -> Generator:
    """Load a Generator; in an accelerate launch `auto` is this process's own device."""
    from audiogen_cli.lm.generation.generator import Generator

    if count_processes() > 1 and (processes := join_processes()) and device == "auto":
        device = processes.device.type
    return Generator.load(folder, device, dtype, adapters)


def choose_seed() -> int:
    """Draw a random seed, the same in every process of an accelerate launch."""
    return agree(secrets.randbelow(2**31))


def write_sidecar(output: Path, record: Mapping[str, Any]) -> None:
    """Write the record of an output file beside it, under the same name with `.json`."""
    write_text(output.with_suffix(".json"), json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def read_sidecar(output: Path) -> dict[str, Any]:
    """Read the sidecar of an output file; {} if there is none, none of ours, or that of one with another suffix."""
    try:
        record = read_json(output.with_suffix(".json"))
    except InputError:
        return {}
    if not isinstance(record, dict) or "model_fingerprint" not in record:
        return {}
    owner = output.with_suffix(Path(str(record.get("path"))).suffix or output.suffix)
    return {} if owner != output and owner.exists() else record


def check_sidecars(outputs: Iterable[Path]) -> None:
    """Raise InputError if a file that is not its sidecar has the name of an output's."""
    for output in outputs:
        if (sidecar := output.with_suffix(".json")).exists() and not read_sidecar(output):
            raise InputError(f"{sidecar} is no sidecar of {output.name}, which would replace it; give another name")


def _render(
    generator: Generator | None,
    requests: Sequence[GenerationRequest],
    chosen: Sequence[int],
    options: RenderOptions,
    progress: Progress | None,
    say: Say,
) -> Iterator[Rendered]:
    """Generate and write the requests with the numbers `chosen`, in any order."""
    if generator is None:
        return
    ready: dict[int, Prepared] = {}
    refused: dict[int, InputError] = {}
    for index in chosen:
        try:
            ready[index] = generator.prepare(requests[index])
        except InputError as error:
            refused[index] = error
    if refused and not (options.skip and (ready or count_processes() > 1)):
        raise next(iter(refused.values()))
    yield from (Rendered(index, failure=str(error)) for index, error in refused.items())
    if not ready:
        return
    chosen, prepared = [*ready], [*ready.values()]
    _announce(generator, prepared, options, say)
    total = sum(requests[index].new_seconds(generator.sample_rate) for index in chosen)
    report = (lambda seconds: progress(int(seconds), math.ceil(total))) if progress else lambda seconds: None
    left = dict.fromkeys(range(len(prepared)))
    drawn: dict[int, dict[int, Sequence[Candidate]]] = defaultdict(dict)  # of each sound and track

    def keep(number: int, track: int, candidates: Sequence[Candidate]) -> None:
        drawn[number][track] = candidates if options.keep_candidates else candidates[:1]

    try:
        for number, wav in generator.generate(prepared, options.batch_size, report, keep):
            del left[number]
            candidates = [each for _, each in sorted(drawn.pop(number, {}).items())]
            yield _write(generator, prepared[number], chosen[number], wav, options, candidates)
    except Exception as error:
        if not isinstance(error, AudiogenError) and not is_out_of_memory(error):
            raise
        for number in left:
            yield Rendered(chosen[number], failure=f"{requests[chosen[number]].output}: {_reason(error)}")


def _in_order(results: Iterator[Rendered], order: Sequence[int]) -> Iterator[Rendered]:
    waiting: dict[int, Rendered] = {}
    for index in order:
        while index not in waiting:
            rendered = next(results)
            waiting[rendered.index] = rendered
        yield waiting.pop(index)


def _announce(generator: Generator, prepared: Sequence[Prepared], options: RenderOptions, say: Say) -> None:
    """Say what is worth knowing before long work, and what happens beyond the trained window."""
    from audiogen_cli.lm.generation.tracks import list_candidates

    requests, rate = [each.request for each in prepared], generator.sample_rate
    window = generator.config.max_frames / generator.config.frame_rate
    if max((each.duration for each in requests if not each.regions), default=0) > window + 0.5:
        say(f"note: trained on {window:g} s; what comes later is generated from the last {window / 2:.2g} s and more")
    strange = [each.request.text for each in prepared if each.words and not any(each.words.values())]
    if strange:
        others = f" and of {len(strange) - 1} more prompts" if len(strange) > 1 else ""
        sounds = [*known_sounds(generator.folder)]
        named = f"; the model speaks of: {', '.join(sounds[:: len(sounds) // N_SOUNDS])}, …" if sounds else ""
        say(f"note: no word of '{strange[0]}'{others} is known{named}")
    first: dict[object, str | None] = {}
    for asked, each in zip(requests, prepared, strict=True):
        key = each.texts, each.places, asked.seed, asked.duration, asked.sampling
        if (other := first.setdefault(key, asked.text)) != asked.text:
            say(f"note: '{other}' and '{asked.text}' are read alike: with one seed they are one sound, so give two")
            break
    tracks = [track for each in prepared for track in each.tracks]
    drawn = [each.n_generated / rate for each in tracks for _ in list_candidates(each.decoding)]
    if len(drawn) > len(tracks) and generator.probe is None:
        say("note: this model has no probe to rank candidates with; the first that is not near-silent is kept")
    if sum(drawn) >= LONG_SECONDS:
        from audiogen_cli.lm.generation.estimates import describe_work

        if line := describe_work(generator, requests, drawn, options.batch_size):
            say(line)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, AudiogenError) else "out of memory; lower --duration"


def _write(
    generator: Generator,
    prepared: Prepared,
    index: int,
    wav: np.ndarray,
    options: RenderOptions,
    candidates: Sequence[Sequence[Candidate]],
) -> Rendered:
    """Write a sound and what is to be kept of the candidates of its tracks, of which the first are the best."""
    try:
        others = _write_candidates(generator, prepared, options, candidates) if options.keep_candidates else []
        more: dict[str, Any] = {"kept_candidates": others} if options.keep_candidates else {}
        scores = [each[0].score for each in candidates]
        more |= {"scores": scores} if any(score is not None for score in scores) else {}
        return Rendered(index, _write_one(generator, prepared, wav, options, more))
    except (AudiogenError, OSError) as error:
        return Rendered(index, failure=str(error))


def _write_candidates(
    generator: Generator, prepared: Prepared, options: RenderOptions, candidates: Sequence[Sequence[Candidate]]
) -> list[dict[str, Any]]:
    """Write the candidates that are no sound of their own yet; return path, seed, score and level of each.

    Each is what its seed gives with one candidate, so its sidecar says so. Of a sound of several tracks all candidates
    are written, as sounds of the track's text.
    """
    request, written, single = prepared.request, list[dict[str, Any]](), prepared.is_single
    for track, ranked in enumerate(candidates):
        for place, candidate in enumerate(ranked[single:], 1 + single):
            name = f"{request.output.stem}{'' if single else f'-sound{track + 1}'}-candidate{place:02d}"
            own = replace(
                request,
                text=request.text if single else prepared.texts[track],
                seed=candidate.seed,
                sampling=replace(request.sampling, candidates=1, layers=1, timing=""),
                output=request.output.with_name(name + request.output.suffix),
                duration=request.duration if single else prepared.tracks[track].n_samples / generator.sample_rate,
            )
            check_sidecars([own.output] if options.sidecars else [])
            wav = generator.decode_candidate(prepared, track, candidate)
            more = {} if candidate.score is None else {"scores": [candidate.score]}
            drawn = replace(prepared, request=own, texts=prepared.texts[track : track + 1], n_samples=len(wav))
            record = _write_one(generator, drawn, wav, options, more)
            written.append({**{key: record[key] for key in ("path", "seed", "peak", "loudness")}, **more})
    return written


def _write_one(
    generator: Generator, prepared: Prepared, wav: np.ndarray, options: RenderOptions, more: Mapping[str, Any]
) -> dict[str, Any]:
    """Write a sound and, if asked for, its sidecar; return its record. more: entries of it."""
    output, delivery = prepared.request.output, options.delivery
    sound = deliver(wav, generator.sample_rate, delivery, prepared.request.sampling.loop)
    record = {**_record(generator, prepared, sound, delivery), **more}
    with beside(output, record if options.sidecars else None):
        sound.write(output, delivery.subtype, _tags(generator, prepared.request))
    return record


@contextmanager
def beside(output: Path, record: Mapping[str, Any] | None) -> Iterator[None]:
    """Put a record beside an output file that is written in the meantime, or leave all as it was if that fails.

    Beside a new sound it comes first: of a killed run no sound is left without a record, which the next run would take
    for somebody else's. Beside an old one it comes last, so that it never describes that.
    """
    sidecar, is_new = output.with_suffix(".json"), not output.exists()
    aside = sidecar.replace(temporary_name(sidecar.parent)) if read_sidecar(output) else None
    try:
        if record and is_new:
            output.parent.mkdir(parents=True, exist_ok=True)
            write_sidecar(output, record)
        yield
    except BaseException:
        if record and is_new:
            sidecar.unlink(missing_ok=True)
        if aside:
            aside.replace(sidecar)
        raise
    if aside:
        aside.unlink()
    if record and not is_new:
        write_sidecar(output, record)


def _tags(generator: Generator, request: GenerationRequest) -> dict[str, str]:
    """Say what made a sound, for its file. copyright: the license again, for which RIFF INFO has no place."""
    model = f"{_model_name(generator)} {generator.fingerprint[:12]}".rstrip()
    license = f"weights: {license_line(generator.license)}"
    return {
        "title": request.text or "",
        "comment": f"generated; seed {request.seed}; model {model}",
        "software": f"audiogen {version('audiogen-cli')}",
        "license": license,
        "copyright": license,
    }


def _model_name(generator: Generator) -> str:
    return model_name(generator.folder) if generator.folder else "in training"


def _record(generator: Generator, prepared: Prepared, sound: Delivered, delivery: Delivery) -> dict[str, Any]:
    """Describe what made a sound, and how it came out (`Delivered.facts`), in plain values.

    text: what the model read, with ` + ` between tracks.
    """
    request = prepared.request
    return {
        **own_columns(request.extra),
        **request.facts,
        "path": str(request.output),
        "prompt": request.text,
        "text": " + ".join(prepared.texts) if prepared.texts else None,
        "unknown_words": [word for word, known in prepared.words.items() if not known],
        "seed": request.seed,
        "generated_seconds": prepared.n_samples / generator.sample_rate,
        **request.sampling.describe(),
        "model": str(generator.folder),
        "model_fingerprint": generator.fingerprint,
        **({"adapters": [str(each) for each in generator.adapters]} if generator.adapters else {}),
        "licence": license_line(generator.license),
        "rights": explain_rights(license_line(generator.license), _model_name(generator)),
        "device": str(generator.device),
        "dtype": generator.dtype,
        "audiogen_version": version("audiogen-cli"),
        **sound.facts(delivery, delivery.subtype),
    }
