"""Rendering on the terminal, for `generate` and `continue`: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from audiogen_cli.errors import AudiogenError, InputError, format_seconds
from audiogen_cli.files import show_line, sweep

if TYPE_CHECKING:
    from audiogen_cli.lm.adapters import Adapter
    from audiogen_cli.lm.config import LMConfig
    from audiogen_cli.lm.generation.delivery import Delivery
    from audiogen_cli.lm.generation.generator import Generator
    from audiogen_cli.lm.generation.requests import GenerationRequest
    from audiogen_cli.lm.generation.writer import RenderOptions, Say

MAX_LINES = 100  # sounds of a run, up to which each gets a line of its own


@dataclass(frozen=True)
class ModelChoice:
    """The model that a command is to use. device, dtype: as `Generator.load` takes them."""

    folder: Path
    config: LMConfig
    adapters: Sequence[Adapter]
    device: str
    dtype: str

    @classmethod
    def find(cls, model: str | None, adapters: Sequence[str] | None, device: str, dtype: str) -> ModelChoice:
        """Find what the options of a command name. Raises InputError if it is not there or does not go."""
        from audiogen_cli.devices import check_device
        from audiogen_cli.lm.adapters import find_adapters
        from audiogen_cli.lm.generation.requests import find_language_model

        check_device(device)
        folder, config = find_language_model(model)
        return cls(folder, config, find_adapters(adapters or [], folder), device, dtype)

    def defaults(self, seed: int | None, duration: float, sampling: Mapping[str, Any]) -> GenerationRequest:
        """Return what holds for every prompt. seed: None draws one; sampling: None where a setting is the model's."""
        from audiogen_cli.lm.generation.requests import GenerationRequest, override
        from audiogen_cli.lm.generation.writer import choose_seed

        settings = override(self.config.sampling, sampling)
        first = choose_seed() if seed is None else seed
        return GenerationRequest(None, first, duration, settings, seed_drawn=seed is None)

    def load(self, requests: Sequence[GenerationRequest]) -> Generator:
        """Say which model generates the requests, and load it."""
        from audiogen_cli.commands.terminal.announce import announce, plan_computing, plan_generation
        from audiogen_cli.lm.generation.writer import load_generator

        seconds = sum(request.duration for request in requests)
        announce(plan_generation, self, len(requests), seconds)
        generator = load_generator(self.folder, self.device, self.dtype, self.adapters)
        announce(plan_computing, generator)
        return generator


def render_with(
    model: ModelChoice,
    requests: Sequence[GenerationRequest],
    delivery: Delivery,
    as_json: bool,
    out_dir: Path | None = None,
    batch_size: int | None = None,
    keep_candidates: bool = False,
    stream: bool = False,
    overwrite: bool = False,
) -> None:
    """Write every request, whole or as a stream; see `RenderOptions`.

    out_dir: the folder that gets them, if there is one; what earlier runs finished there is kept unless `overwrite`.
    """
    from audiogen_cli.devices import is_main_process
    from audiogen_cli.lm.decoder import check_streaming
    from audiogen_cli.lm.generation.requests import STDOUT
    from audiogen_cli.lm.generation.writer import RenderOptions

    if stream:
        check_streaming(model.config)
    if out_dir is not None:
        from audiogen_cli.lock import hold_folder

        hold_folder(out_dir, deep=False)
    elif is_main_process():
        sweep(request.output.parent for request in requests if str(request.output) != STDOUT)
    options = RenderOptions(batch_size, as_json or out_dir is not None, delivery, keep_candidates)
    if stream:
        render_stream(model, requests[0], options, as_json)
    else:
        render(model, requests, options, as_json, keep=out_dir is not None and not overwrite)


def render(
    model: ModelChoice, requests: Sequence[GenerationRequest], options: RenderOptions, as_json: bool, keep: bool
) -> None:
    """Write every request and print the results in order. Raises AudiogenError if any of them failed.

    keep: keep the model's finished sounds, and replace none. The model is loaded if anything is to be generated.
    """
    from audiogen_cli.commands.terminal.progress import progress_bar
    from audiogen_cli.devices import choose_device, is_main_process
    from audiogen_cli.lm.generation.requests import WHOLE_SECONDS
    from audiogen_cli.lm.generation.writer import check_sidecars, write_sounds

    say = show_line if is_main_process() else lambda line: None
    for request in requests:
        options.delivery.check(request.output, model.config.sample_rate)
        if options.delivery.trim and request.sampling.loop:
            raise InputError(f"{request.output}: --trim would cut the loop of --loop; leave one of them out")
    if long := next((each.output for each in requests if each.duration > WHOLE_SECONDS), None):
        raise InputError(f"{long}: a sound of more than a day does not fit into memory: use --stream")
    asked, kept = requests, dict[int, dict[str, Any]]()
    if keep:
        from audiogen_cli.lm.adapters import adapted_fingerprint
        from audiogen_cli.lm.generation.resuming import Maker, place_requests

        fingerprint, rate = adapted_fingerprint(model.folder, model.adapters), model.config.sample_rate
        computing = dict[str, str]()
        if model.dtype != "auto":
            from audiogen_cli.lm.decoding.engine import choose_dtype

            computing["dtype"] = choose_dtype(model.dtype, model.config, choose_device(model.device))
        maker = Maker(fingerprint, rate, options.delivery, options.keep_candidates, computing)
        requests, kept = place_requests(asked, maker)
    if options.sidecars:
        check_sidecars(request.output for index, request in enumerate(requests) if index not in kept)
        _report_places(asked, requests, kept, say)
    if columns := sorted({name for request in requests for name in request.extra}):
        say(f"note: no settings, and only put into sidecars: {', '.join(columns[:10])}")
    generator = None
    if len(kept) < len(requests):
        _print_seed(requests, kept, say)
        generator = model.load(requests)
    begun, results = time.monotonic(), []
    with progress_bar("generating (seconds of sound)") as progress:
        for rendered in write_sounds(generator, requests, options, kept, progress, say):
            results.append(rendered)
            if is_main_process() and rendered.record is None:
                say(f"failed: {rendered.failure}")
            elif is_main_process() and rendered.record:
                typer.echo(to_json(rendered.record) if as_json else rendered.record["path"])
                if not rendered.kept and (options.keep_candidates or 1 < len(requests) <= MAX_LINES):
                    for each in (rendered.record, *rendered.record.get("kept_candidates", ())):
                        say(_describe(each))
    new = [each for each in results if each.record and not each.kept]
    seconds = sum(requests[each.index].new_seconds(model.config.sample_rate) for each in new)
    _summarize([each.record for each in new if each.record], seconds, time.monotonic() - begun, say)
    if failed := sum(each.record is None for each in results):
        raise AudiogenError(f"{failed} of {len(requests)} sounds failed")


def check_stream(
    stream: bool,
    output: Path | None,
    delivery: Delivery,
    keep_candidates: bool,
    as_json: bool,
    asked: Mapping[str, Any],
) -> None:
    """Refuse what cannot be written while it is generated. asked: sampling settings; None where left out."""
    if not stream:
        if str(output) == "-":
            raise InputError("-o - writes sound to stdout while it is generated: add --stream")
        return
    if output is None or (str(output) != "-" and output.suffix.lower() != ".wav"):
        raise InputError("--stream writes one sound: -o FILE.wav, or -o - for raw samples on stdout")
    if given := next(iter(delivery.describe()), None):
        raise InputError(
            f"--{given} needs the whole sound, and --stream does not wait for it: leave one of them out, or use"
            " audiogen convert afterwards"
        )
    if keep_candidates or (asked.get("candidates") or 1) > 1:
        raise InputError("--stream writes at once and cannot choose among candidates: leave --candidates out")
    if (asked.get("layers") or 1) > 1 or asked.get("timing") or asked.get("loop"):
        what = "cannot mix layers, place sounds in time or close a loop, which must be complete first"
        raise InputError(f"--stream {what}: leave --layers, --timing and --loop out")
    if str(output) != "-":
        return
    if as_json:
        raise InputError("--json and -o - would both go to stdout; stream into a file, or leave --json out")
    if sys.stdout.isatty():
        raise InputError(
            "-o - writes raw samples, which a terminal cannot show: pipe them, as in | aplay -f S16_LE -r 16000"
        )


def render_stream(model: ModelChoice, request: GenerationRequest, options: RenderOptions, as_json: bool) -> None:
    """Write one sound while it is generated, and print its path unless it goes to stdout itself."""
    from audiogen_cli.data.wav_stream import MAX_SAMPLES
    from audiogen_cli.lm.generation.requests import STDOUT
    from audiogen_cli.lm.generation.writer import check_sidecars, write_stream

    to_stdout, rate = str(request.output) == STDOUT, model.config.sample_rate
    if not to_stdout and request.duration * rate > MAX_SAMPLES:
        raise InputError(f"{request.output}: WAV holds at most {format_seconds(MAX_SAMPLES / rate)}; use -o -")
    if options.sidecars:
        check_sidecars([request.output])
    _print_seed([request], {}, show_line)
    generator = model.load([request])
    begun = time.monotonic()
    record = write_stream(generator, request, options, show_line)
    if not to_stdout:
        typer.echo(to_json(record) if as_json else request.output)
    show_line(f"first sound after {record['first_sound']:.2f} s")
    _summarize([record], request.new_seconds(rate), time.monotonic() - begun, show_line)


def _report_places(
    asked: Sequence[GenerationRequest], requests: Sequence[GenerationRequest], kept: Collection[int], say: Say
) -> None:
    """Say in one line what is kept, what is new beside other sounds, and what is replaced, if there is any of it."""
    new = [index for index in range(len(requests)) if index not in kept]
    moved = [requests[index].output.name for index in new if requests[index].output != asked[index].output]
    n_replaced = sum(requests[index].output.exists() for index in new)
    facts = [f"{len(kept)} of {_count(len(requests), 'sound')} already there and kept"] if kept else []
    if moved:
        rest = f" and {len(moved) - 1} more" if len(moved) > 1 else ""
        facts.append(f"{len(moved)} new beside other takes, as {moved[0]}{rest}")
    facts += [f"{n_replaced} replaced"] if n_replaced else []
    if facts and len(new) - len(moved) - n_replaced:
        facts.append(f"{len(new) - len(moved) - n_replaced} new")
    if facts:
        say(", ".join(facts) + ("; --overwrite replaces" if kept or moved else ""))


def _print_seed(requests: Sequence[GenerationRequest], kept: Mapping[int, dict[str, Any]], say: Say) -> None:
    """Say which seed was drawn, if any of the new sounds has it, and whether those kept have it, too."""
    drawn = {index: request.seed for index, request in enumerate(requests) if request.seed_drawn}
    if drawn.keys() - kept.keys():
        first = next(iter(drawn.values()))
        mixed = any(kept[index].get("seed") != seed for index, seed in drawn.items() if index in kept)
        what = "what is new; the .json of each sound tells its own" if mixed else "the result"
        say(f"seed: {first} (--seed {first} repeats {what})")


def to_json(value: Any, indent: int | None = None) -> str:
    """Return JSON that stdout can hold: letters as they are, escaped where its encoding lacks one of them."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def _summarize(records: Sequence[dict[str, Any]], total: float, seconds: float, say: Say) -> None:
    """Say in one line how long it took, how loud it is, and what is wrong with it. total: seconds of new sound."""
    if not records:
        return
    what = "new sound" if "prompt_seconds" in records[0] else "sound"
    rate = total / max(seconds, 1e-9)
    speed = f"{format_seconds(total)} of {what} in {format_seconds(seconds)}, {rate:.2g} times real time"
    silent, clipped = ([record for record in records if record[name]] for name in ("near_silent", "clipped_samples"))
    quiet, below = sum(map(is_held_down, records)), "below the loudness asked for"
    if len(records) == 1:
        facts = [speed, _level(records[0]), *_score(records[0])]
        facts += ["nearly silent: try another seed or other words"] if silent else []
        facts += [f"{_count(records[0]['clipped_samples'], 'sample')} clipped"] if clipped else []
        facts += [f"stays {below}: its peak reaches -1 dBFS"] if quiet else []
    else:
        facts = [f"{_count(len(records), 'sound')}, {speed}"]
        facts += [f"{len(silent)} of {len(records)} nearly silent: try other seeds or words"] if silent else []
        facts += [f"{len(clipped)} of {len(records)} clipped"] if clipped else []
        facts += [f"{quiet} of {len(records)} stay {below}: their peaks reach -1 dBFS"] if quiet else []
    say("; ".join(facts))


def is_held_down(record: dict[str, Any]) -> bool:
    """Return whether a sound's peak kept it from the loudness asked for."""
    level, loudness = record["delivery"].get("normalize", ""), record["loudness"]
    return level.endswith("LUFS") and loudness is not None and loudness < float(level.split()[0]) - 0.1


def _describe(record: dict[str, Any]) -> str:
    """Describe a sound in one line: name, seed, level and score."""
    return ", ".join([f"{Path(record['path']).name}: seed {record['seed']}", _level(record), *_score(record)])


def _score(record: dict[str, Any]) -> list[str]:
    scores = [f"{score:.2f}" for score in record.get("scores", ()) if score is not None]
    best = f", the best of {record['candidates']}" if record.get("candidates", 1) > 1 else ""
    return [f"score {' and '.join(scores)}{best}"] if scores else []


def _level(record: dict[str, Any]) -> str:
    peak = f"peak {20 * math.log10(record['peak']):.1f} dBFS" if record["peak"] else "digital silence"
    return peak if record["loudness"] is None else f"{peak}, {record['loudness']:.1f} LUFS"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
