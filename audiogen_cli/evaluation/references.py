"""The real clips to compare with: a manifest's split or a folder, paired with generated files by name."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path

from audiogen_cli.data.audio import AUDIO_SUFFIXES, SOUND_SUFFIXES, probe
from audiogen_cli.data.captions import published_texts
from audiogen_cli.data.manifest import SPLITS, Clip, load_manifests
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.audio_sources import Recording, hash_file
from audiogen_cli.evaluation.results import Skipped
from audiogen_cli.model_folder import esc50_classes

# ours: a missing file costs its clip, but a folder that lacks more than this share belongs to another set.
MAX_MISSING = 0.1

# ours: ESC-50's categories by their names in AudioSet's ontology: a category's own, its synonyms and its kinds ('Bark'
# for dog), not its broad parents ('Animal'), which half of all clips would hit. can_opening, drinking_sipping,
# mouse_click and washing_machine have no class there: sounds that they consist of stand in for them.
AUDIOSET_NAMES = {category: frozenset(names) for category, names in esc50_classes().items()}


@dataclass(frozen=True)
class Reference:
    """A real clip.

    name: of its generated file, without suffix. text: its first text as the manifest processed it. caption: its first
    caption as published, else its tags: what a model is asked for. category: its ESC-50 class.
    """

    id: str
    name: str
    recording: Recording
    text: str | None = None
    caption: str | None = None
    category: str | None = None


def load_references(split: str | None, manifests: Path, folder: Path | None) -> tuple[list[Reference], list[Skipped]]:
    """List the clips of a split, of a folder, or of a split with its audio taken from a folder; and those left out.

    Raises InputError for an unknown split, an empty folder, or a folder that does not fit the split.
    """
    if split is None:
        assert folder is not None
        return folder_references(folder), []
    dataset, _, part = split.rpartition("-")
    if not dataset or part not in SPLITS:
        raise InputError(f"unknown split '{split}': give <dataset>-<split>, such as audiocaps-test")
    references = [_from_clip(clip) for clip in load_manifests(manifests, [dataset], [part])]
    names = {reference.name for reference in references}
    if len(names) < len(references):  # `a/b` and `a_b` would be one file
        raise InputError(f"{manifests}: {len(references) - len(names)} clips of {split} share their file name")
    if folder is None:
        return references, []
    pairs, skipped = pair(references, folder)
    return [replace(reference, recording=Recording(path)) for reference, path in pairs], skipped


def folder_references(folder: Path) -> list[Reference]:
    """List the audio files of a folder as clips without texts. Raises InputError as `find_audio` does."""
    return [Reference(name, name, Recording(path)) for name, path in find_audio(folder).items()]


def limit_clips(references: Sequence[Reference], limit: int | None) -> list[Reference]:
    """Choose at most `limit` clips: the same ones in every run, spread evenly over the texts.

    Texts take turns, so 200 clips of ESC-50 are four of each class; within a text, clips are ordered by the hashes of
    their ids, which is as good as random and depends on no seed.
    """
    if limit is None or limit >= len(references):
        return list(references)
    by_text: dict[str, list[Reference]] = defaultdict(list)
    for reference in sorted(references, key=lambda reference: hashlib.sha256(reference.id.encode()).digest()):
        by_text[reference.id if reference.text is None else reference.text].append(reference)
    turns = chain.from_iterable(zip_longest(*by_text.values()))
    chosen = {reference.id for reference in [turn for turn in turns if turn is not None][:limit]}
    return [reference for reference in references if reference.id in chosen]


def pair(
    references: Sequence[Reference], folder: Path, everything: Sequence[Reference] = ()
) -> tuple[list[tuple[Reference, Path]], list[Skipped]]:
    """Pair each reference with its file in `folder`, and list the references without one.

    everything: also the clips left out by a limit, whose files are theirs.
    Raises InputError if the folder is empty, nothing fits, or more than a tenth of the references has no file.
    """
    files = find_audio(folder)
    matched = match_files({reference.name for reference in (*references, *everything)}, files)
    pairs = [(reference, matched[reference.name]) for reference in references if reference.name in matched]
    missing = [reference for reference in references if reference.name not in matched]
    if not pairs:
        example, found = references[0].name, next(iter(files.values())).name
        raise InputError(f"{folder}: no file is named like a clip, such as '{example}.wav'; it holds '{found}'")
    if len(missing) > MAX_MISSING * len(references):
        names = ", ".join(reference.name for reference in missing[:3])
        raise InputError(f"{folder}: {len(missing)} of {len(references)} clips have no file of their own ({names}, …)")
    return pairs, [Skipped(reference.id, _why_missing(reference.name, files, folder)) for reference in missing]


def match_files(names: Collection[str], files: Mapping[str, Path]) -> dict[str, Path]:
    """Match different names of clips with files: name → path. files: by name without suffix.

    A clip `a.ogg` has the file `a.ogg.wav`, or else `a.wav`, unless that is the file of a clip `a` or could also be
    another clip's (`a.mp3`).
    """
    found = {name: files[name] for name in names if name in files}
    bare = {name: _drop_suffix(name) for name in names if name not in found}
    claims = Counter(bare.values())
    free = {name for name in files if name not in found and claims[name] == 1}
    return found | {name: files[short] for name, short in bare.items() if short in free}


def unmatched(references: Sequence[Reference], folder: Path) -> list[str]:
    """List the names of audio files in `folder` that belong to no reference, sorted."""
    files = find_audio(folder)
    matched = set(match_files({reference.name for reference in references}, files).values())
    return sorted(name for name, path in files.items() if path not in matched)


def find_audio(folder: Path) -> dict[str, Path]:
    """Map the audio files of a folder (not of its subfolders) by name without suffix (NFC), sorted.

    folder: also a pattern such as `audio/1-*`, for some files of a folder.
    Raises InputError if there is no such folder, it holds no audio, or two files differ only in their suffix.
    """
    pattern = "*"
    if not folder.is_dir() and any(letter in folder.name for letter in "*?["):
        folder, pattern = folder.parent, folder.name
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    files: dict[str, Path] = {}
    for path in sorted(folder.glob(pattern)):
        if path.suffix.lower() not in SOUND_SUFFIXES or path.name.startswith("."):
            continue
        name = unicodedata.normalize("NFC", path.stem)  # macOS archives hold decomposed names
        if name in files:
            raise InputError(f"{folder}: {files[name].name} and {path.name} are both '{name}'; remove one")
        files[name] = path
    if not files:
        raise InputError(f"{folder / pattern}: no audio files here ({', '.join(sorted(SOUND_SUFFIXES))})")
    return files


def sample_rates(paths: Iterable[Path]) -> list[int]:
    """List the sample rates in Hz that occur; unreadable files are reported by whoever reads them."""
    rates = set()
    for path in paths:
        try:
            rates.add(probe(path).sample_rate)
        except InputError:
            continue
    return sorted(rates)


def hash_references(references: Iterable[Reference]) -> str:
    """Hash ids, windows and files of a reference set: equal hashes mean numbers over the same recordings."""
    digest = hashlib.sha256()
    for reference in sorted(references, key=lambda reference: reference.id):
        recording = reference.recording
        window = f"{reference.id}\0{recording.start}\0{recording.duration}\0{hash_file(recording.path)}\n"
        digest.update(window.encode())
    return digest.hexdigest()


def clip_name(clip: str) -> str:
    """Return the name without suffix of the file generated for a clip: `mine/rain/1.ogg` → `rain_1.ogg`."""
    return unicodedata.normalize("NFC", clip.split("/", 1)[-1].replace("/", "_"))


def _drop_suffix(name: str) -> str:
    return Path(name).stem if Path(name).suffix.lower() in AUDIO_SUFFIXES else name


def _why_missing(name: str, files: Mapping[str, Path], folder: Path) -> str:
    if other := files.get(_drop_suffix(name)):
        return f"{other} may be another clip's: call this one's '{name}{other.suffix}'"
    return f"no file named '{name}' in {folder}"


def _from_clip(clip: Clip) -> Reference:
    words = [word.replace(" ", "_") for word in clip.tags]
    return Reference(
        id=clip.id,
        name=clip_name(clip.id),
        recording=Recording(clip.audio_path, clip.start, clip.duration),
        text=clip.texts[0],
        caption=published_texts(clip)[0],
        category=next((word for word in words if word in AUDIOSET_NAMES), None) if clip.dataset == "esc50" else None,
    )
