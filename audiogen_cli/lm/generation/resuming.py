"""Resuming: which sounds of a folder are those that were asked for, and where others go, so that none is replaced."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

from audiogen_cli.data.audio import FORMATS, is_whole
from audiogen_cli.devices import agree, is_main_process
from audiogen_cli.lm.generation.delivery import AS_IT_IS, Delivery, deliveries_before
from audiogen_cli.lm.generation.requests import GenerationRequest, check_files, own_columns
from audiogen_cli.lm.generation.writer import read_sidecar
from audiogen_cli.lm.sampling_config import Sampling

_MOVED = re.compile(r"(.+)-seed\d+(-\d+)?")  # the stem of a sound that made way for another
_CANDIDATE = re.compile(r"((.+?)(-sound\d+)?)-candidate\d+")  # that of one kept beside a sound

Record = dict[str, Any]


@dataclass(frozen=True)
class Maker:
    """Tell whether a file holds the sound of a request, as this model and these options make it.

    computing: the number format (dtype) and the kind of device that it must have been made with, if that matters.
    """

    fingerprint: str
    sample_rate: int
    delivery: Delivery = AS_IT_IS
    keep_candidates: bool = False
    computing: Mapping[str, str] = field(default_factory=dict)

    def made(self, request: GenerationRequest, record: Record) -> bool:
        """Return whether a sidecar tells of the sound that is asked for. A drawn seed agrees with any other."""
        wanted = {
            **own_columns(request.extra),
            **request.facts,
            "prompt": request.text,
            "duration": round(request.duration * self.sample_rate) / self.sample_rate,
            **vars(request.sampling),
            "model_fingerprint": self.fingerprint,
            "delivery": self.delivery.describe(),
            **self.computing,
        }
        if not request.seed_drawn:
            wanted["seed"] = request.seed
        wanted.pop("path", None)
        # A sidecar may lack a setting; older ones say only whether the loudness was brought to -23 LUFS.
        delivery = {"normalize": "-23 LUFS"} if record.get("normalized") else {}
        whole = {**vars(Sampling()), "delivery": delivery, "dtype": "float32", **record}
        whole["device"] = str(record.get("device", "cpu")).partition(":")[0]
        whole["duration"] = record.get("generated_seconds", record.get("duration"))
        if (self.keep_candidates and "kept_candidates" not in record) or deliveries_before(record):
            return False
        return bool(record) and all(whole.get(key) == value for key, value in wanted.items())

    def finished(self, request: GenerationRequest, output: Path) -> Record | None:
        """Return the record of a file that holds the sound asked for, whole; None if it does not."""
        record = read_sidecar(output)
        whole = self.made(request, record) and is_whole(output, record["duration"])
        return {**record, "path": str(output)} if whole else None


def find_finished(requests: Sequence[GenerationRequest], maker: Maker) -> dict[int, Record]:
    """Return index → record of the requests that an earlier run has finished; in a launch as the main process finds."""
    records = (maker.finished(request, request.output) for request in (requests if is_main_process() else ()))
    return agree({index: record for index, record in enumerate(records) if record})


def place_requests(
    requests: Sequence[GenerationRequest], maker: Maker
) -> tuple[list[GenerationRequest], dict[int, Record]]:
    """Find what earlier runs have finished under any name; move what would replace another sound to a name of its own.

    Returns the requests with the files they get, and index → record of the finished ones. With drawn seeds a run that
    ended early is completed; if all of it is there, every request is a new take. Other names: `NAME-seed7`, and if that
    is taken by other settings `NAME-seed7-2` … A name beside which other candidates were kept is taken, too.
    Raises InputError if such a name is too long.
    """
    outputs, found = agree(_place(requests, maker) if is_main_process() else ([], {}))
    moved = [replace(request, output=output) for request, output in zip(requests, outputs, strict=True)]
    return moved, found


def _place(requests: Sequence[GenerationRequest], maker: Maker) -> tuple[list[Path], dict[int, Record]]:
    folders = {request.output.parent for request in requests}
    files = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
    there = _list_moved(files)
    finished = []
    for request in requests:
        others = (path for path in there[_base(request.output)] if path.suffix == request.output.suffix)
        finished.append([record for path in (request.output, *others) if (record := maker.finished(request, path))])
    drawn = {len(records) for request, records in zip(requests, finished, strict=True) if request.seed_drawn}
    complete = all(finished) and len(drawn) == 1
    outputs, found, taken = [], {}, {_base(request.output) for request in requests}
    crowded = _find_crowded([*files, *(request.output for request in requests)] if maker.keep_candidates else [])
    for index, (request, records) in enumerate(zip(requests, finished, strict=True)):
        if records and not (request.seed_drawn and (complete or len(records) < max(drawn))):
            found[index] = records[-1]
            outputs.append(Path(records[-1]["path"]))
        else:
            outputs.append(_choose_name(request, maker, taken, crowded))
        taken.add(_base(outputs[-1]))
    return outputs, found


def _base(path: Path) -> Path:
    return path.with_suffix("")


def _list_moved(files: Sequence[Path]) -> dict[Path, list[Path]]:
    """List the sounds that made way for another: the name without suffix that they would have had → files, by time."""
    moved: dict[Path, list[Path]] = defaultdict(list)
    sounds = [path for path in files if path.suffix.lower() in FORMATS]
    named = [(match[1], path) for path in sounds if (match := _MOVED.fullmatch(path.stem))]
    for stem, path in sorted(named, key=lambda each: (each[1].stat().st_mtime_ns, each[1].name)):
        moved[path.parent / stem].append(path)
    return moved


def _find_crowded(files: Sequence[Path]) -> set[Path]:
    """Return the names without suffix of sounds, there or gone, beside which there are candidates."""
    matches = [(path.parent, _CANDIDATE.fullmatch(path.stem)) for path in files]
    return {folder / name for folder, match in matches if match for name in match.group(1, 2)}


def _choose_name(request: GenerationRequest, maker: Maker, taken: Collection[Path], crowded: Collection[Path]) -> Path:
    """Return the first name of a request that holds no other sound and that no other request has."""
    if _is_free(request, request.output, maker, crowded):
        return request.output
    stem, suffix = f"{request.output.stem}-seed{request.seed}", request.output.suffix
    names = chain([f"{stem}{suffix}"], (f"{stem}-{number}{suffix}" for number in count(2)))
    paths = (request.output.with_name(name) for name in names)
    path = next(path for path in paths if _base(path) not in taken and _is_free(request, path, maker, crowded))
    check_files(path, {path.parent})  # which was tried for the name that was asked for
    return path


def _is_free(request: GenerationRequest, path: Path, maker: Maker, crowded: Collection[Path]) -> bool:
    """Return whether nothing is lost if a request writes to `path`: nothing is there, or its own sound, damaged.

    crowded: names beside which it would replace candidates, unless they are its own sound's.
    """
    record = read_sidecar(path)
    if path.with_suffix(".json").exists() and not record:
        return False  # somebody else's
    if _base(path) in crowded and not maker.made(replace(request, seed_drawn=False), record):
        return False
    if not any(path.with_suffix(suffix).exists() for suffix in (path.suffix, *FORMATS)):
        return True
    return maker.made(request, record) and not is_whole(path, record["duration"]) and not path.is_dir()
