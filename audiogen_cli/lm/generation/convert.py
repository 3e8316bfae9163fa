"""Existing sounds, delivered as generated ones are: the sound, what it says of itself, and its sidecar."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from audiogen_cli.data.audio import FORMATS, SAMPLE_RATE, SUBTYPES, find_peak, read_channels, read_tags
from audiogen_cli.errors import AudiogenWarning, InputError
from audiogen_cli.lm.generation.delivery import UNCLIPPED, Delivery, deliver, deliveries_before
from audiogen_cli.lm.generation.requests import check_files, check_text
from audiogen_cli.lm.generation.writer import beside, check_sidecars, read_sidecar


def plan_outputs(sources: list[Path], output: Path | None, folder: Path | None, delivery: Delivery) -> list[Path]:
    """Return the file to write for each source: `output`, or its name in `folder` (as .wav if it cannot be written).

    Raises InputError for several sources and one output, names that collide, an output that is its own source, and
    formats that cannot hold the samples.
    """
    if output and len(sources) > 1:
        raise InputError(f"-o {output}: {len(sources)} sounds cannot go into one file; use --out-dir")
    named = [source if source.suffix.lower() in FORMATS else source.with_suffix(".wav") for source in sources]
    outputs = [output or (folder or Path()) / path.name for path in named]
    places, tried = dict[Path, Path](), set[Path]()
    for source, path in zip(sources, outputs, strict=True):
        check_text(str(source), str(source))
        check_files(path, tried)
        delivery.check(path, SAMPLE_RATE)  # with the source's own rate and channels once it is read
        other = places.setdefault(path.with_suffix(""), source)
        if other is not source:
            raise InputError(f"{other} and {source} would both be written to {path}; convert them apart")
        if path.exists() and source.exists() and path.samefile(source):
            raise InputError(f"{path} would replace its source; write to another folder or name")
        if read_sidecar(source) and path.with_suffix(".json") != source.with_suffix(".json"):
            check_sidecars([path])
    return outputs


def convert(source: Path, output: Path, delivery: Delivery) -> dict[str, Any]:
    """Write a sound at another rate, with other channels, samples or levels; return what its sidecar says.

    Tags go along, and so does a sidecar of ours. What `delivery` leaves out stays as it is, the number of bits
    as far as the file can hold them. Raises InputError if `source` cannot be read, AudiogenError if `output` cannot
    be written. A sidecar of the sound that was there before goes; one that the source needs stays the source's.
    Warns of samples that it clips.
    """
    samples, rate, subtype = read_channels(source)
    delivery.check(output, rate, samples.shape[1])
    sound = deliver(samples if samples.shape[1] > 1 else samples[:, 0], rate, delivery, source=source)
    known = SUBTYPES[output.suffix.lower()]  # the last holds most
    kept = subtype if subtype in known else known[-1] if subtype in ("PCM_24", "PCM_32", "FLOAT", "DOUBLE") else None
    chosen = delivery.subtype or kept
    if (peak := find_peak(sound.samples)) > 1 and chosen not in UNCLIPPED:
        said = f"{output}: its peak of {peak:.3g} is clipped to full scale; --normalize or --subtype FLOAT keep it"
        warnings.warn(said, AudiogenWarning, stacklevel=2)
    made, tags = read_sidecar(source), read_tags(source)
    last = made.get("delivery")
    before = [*deliveries_before(made), *([last] if last and isinstance(last, dict) else [])]
    record = {**made, "path": str(output), "source": str(source), **sound.facts(delivery, chosen)}
    record |= {"deliveries_before": before} if before else {}
    apart = output.with_suffix(".json") != source.with_suffix(".json")
    with beside(output, record if made and apart else None):
        sound.write(output, chosen, tags)
    return record
