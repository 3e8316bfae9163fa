"""The stages that are killed: small inputs for all of them, and a command line each that works for a second or so."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from fuzz.world import CODEC_RECIPE, LM_RECIPE

PREP_SOUNDS, CLIPS = 80, 48  # files for prep, more than one process gets; clips of the manifest
STAGES = {
    "prep": "prep --folder sounds --name mine --convert flac --val 0.1 --workers 2 --out out",
    "train-codec": "train-codec --config codec.yaml --manifests manifests --out out",
    "tokenize": "tokenize --manifests manifests --codec codec --splits train,val --mix 14 --device cpu --out out",
    "train-lm": "train-lm --config lm.yaml --tokens tokens --out out",
    "generate": "generate --prompts prompts.csv --model lm --out-dir out --batch-size 3",
    "continue": "eval --task continuation --split mine-test --manifests manifests --model lm"
    " --prompt-seconds 0.2,0.4 --metrics fad,kl --batch-size 3 --out out --report",
    "eval": "eval --split mine-test --manifests manifests --model lm --metrics fad,kl"
    " --batch-size 3 --out out --report",
}
REPLACED = {
    CODEC_RECIPE: {"max_steps: 2": "max_steps: 14", "save_every: 1": "save_every: 3", "workers: 0": "workers: 1"},
    LM_RECIPE: {"max_steps: 2": "max_steps: 14", "save_every: 1": "save_every: 3", "{every: 0": "{every: 5"},
}


def make_world(folder: Path, zoo: dict[str, Path], esc50: Path | None) -> None:
    """Fill `folder` with what STAGES read. zoo: models and shards by name. esc50: real recordings, if they are here."""
    from helpers.manifests import write_manifest

    from audiogen_cli.data.audio import write_audio
    from audiogen_cli.data.manifest import Clip

    for number in range(PREP_SOUNDS):
        write_audio(folder / "sounds" / f"dog bark {number}.wav", _sound(esc50, number, 0.5), 44_100)
    (folder / "sounds" / "broken.wav").write_bytes(b"RIFF")
    clips = []
    for number in range(CLIPS):
        split, seconds = ("test", 1.4) if number < 6 else ("val", 0.4) if number < 9 else ("train", 0.4)
        name, text = f"{number}.wav", ("a dog barks", "rain", "dogs bark", "rain on a dog")[number % 4]
        write_audio(folder / "raw" / name, _sound(esc50, 7 * number, seconds), 16_000)
        place = (f"mine/{number}", "mine", split, name)
        clips.append(Clip(*place, 0.0, seconds, 16_000, 1, captions=(text,), tags=(), texts=(text,), license=""))
    metadata = {"dataset": "mine", "root": str(folder / "raw"), "options": {}}
    write_manifest(folder / "manifests" / "mine.parquet", clips, metadata)
    for name, source in zoo.items():
        shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns(".cache"))
    shutil.copytree(zoo["codec"], folder / "tokens" / "codec")
    rows = [f"{text},{seed},0.6,part-{seed}" for seed, text in enumerate(("a dog barks", "rain", "dog rain") * 4)]
    (folder / "prompts.csv").write_text("\n".join(["prompt,seed,duration,name", *rows]) + "\n")
    for name, recipe in (("codec.yaml", CODEC_RECIPE), ("lm.yaml", LM_RECIPE)):
        text = recipe
        for old, new in REPLACED[recipe].items():
            assert old in text
            text = text.replace(old, new)
        (folder / name).write_text(text)
    (folder / "tmp").mkdir()


def environment(folder: Path) -> dict[str, str]:
    """Return the variables of a command that keeps everything, also its temporary files, in `folder`."""
    settings = {"AUDIOGEN_MODEL": "", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HOME": str(folder / "home")}
    return {**settings, "TMPDIR": str(folder / "tmp"), "AUDIOGEN_CACHE": str(folder / "cache")}


def _sound(esc50: Path | None, number: int, seconds: float) -> np.ndarray:
    """Take some of a recording, else make a sound that differs for every number."""
    from helpers.zoo import chirp

    from audiogen_cli.data.audio import read_audio

    if esc50 is None:
        return chirp(number, seconds)
    paths = sorted((esc50 / "audio").iterdir())[::13]
    return read_audio(paths[number % len(paths)], duration=seconds)
