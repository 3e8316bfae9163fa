"""The sounds of a report: found again through results.json, embedded while the page stays small."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from audiogen_cli.data.audio import SAMPLE_RATE, pcm16
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.audio_sources import MAX_DURATION, Recording
from audiogen_cli.evaluation.references import Reference, clip_name, find_audio, load_references, match_files
from audiogen_cli.evaluation.report.parts import Player
from audiogen_cli.evaluation.report.plots import strip
from audiogen_cli.evaluation.templates import MIME, data_uri

MAX_AUDIO = 24 << 20  # bytes of embedded audio in a page


@dataclass
class Budget:
    """The audio that a page may still hold, and counts of sounds that did not fit or could not be read."""

    left: int = MAX_AUDIO
    embedded: int = 0
    omitted: int = 0
    unreadable: int = 0

    def player(
        self, label: str, recording: Recording | None, picture: bool = True, most: float = MAX_DURATION
    ) -> Player:
        """Make a player of a recording, with its picture, of `most` seconds; one without a sound says why."""
        if recording is None:
            return Player(label, None, "no file")
        try:
            wav = recording.read(most=most)
            content = encode(wav)
        except InputError as error:
            self.unreadable += 1
            return Player(label, None, f"not readable: {error}")
        if len(content) > self.left:
            self.omitted += 1
            return Player(label, None, f"left out to keep the page small: {recording.path}")
        self.left -= len(content)
        self.embedded += 1
        return Player(label, data_uri(content, MIME[".flac"]), picture=strip(wav, SAMPLE_RATE) if picture else None)

    @property
    def notes(self) -> list[str]:
        """Notes for the reader about sounds that are not in the page."""
        limit = f"{MAX_AUDIO >> 20} MB"
        found = [f"{self.omitted} sounds were left out: the page holds {limit} of audio at most."] * bool(self.omitted)
        return found + [f"{self.unreadable} sounds could not be read again."] * bool(self.unreadable)


def encode(wav: np.ndarray) -> bytes:
    """Encode wav [N] at SAMPLE_RATE as FLAC: lossless, half a WAV's size, played by every browser."""
    import soundfile

    content = BytesIO()
    soundfile.write(content, pcm16(wav), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return content.getvalue()


class Recordings:
    """The recordings behind a results.json: references and generated clips. folder: the one of results.json."""

    def __init__(self, results: Mapping[str, Any], folder: Path) -> None:
        self.results, self.folder = results, folder
        self.problem: str | None = None  # why the references cannot be found

    def reference(self, clip: str) -> Reference | None:
        """Return the real clip of that id; None if its manifest or folder is gone."""
        return self._references.get(clip)

    def generated(self, clip: str) -> Recording | None:
        """Return the clip generated for a reference (unpaired: of its own id)."""
        reference = self.reference(clip)
        name = reference.name if reference else clip_name(clip)
        names = {name, *(each.name for each in self._references.values())}
        path = match_files(names, self._generated).get(name)
        return Recording(path) if path else None

    def continued(self, clip: str, cell: str) -> Recording | None:
        """Return a clip's continuation in a cell of the grid."""
        reference = self.reference(clip)
        path = self.folder / "continuation" / cell / f"{reference.name if reference else clip_name(clip)}.wav"
        return Recording(path) if path.is_file() else None

    @cached_property
    def _references(self) -> dict[str, Reference]:
        results = self.results
        folder = Path(results["reference"]) if results.get("reference") else None
        if not (results.get("split") or folder):
            return {}
        try:
            found, _ = load_references(results.get("split"), Path(results.get("manifests") or ""), folder)
        except InputError as error:
            self.problem = str(error)
            return {}
        return {reference.id: reference for reference in found}

    @cached_property
    def _generated(self) -> dict[str, Path]:
        given = self.results.get("generated")
        try:
            return find_audio(Path(given) if given else self.folder / "generated")
        except InputError:
            return {}
