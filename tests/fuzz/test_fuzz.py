"""Damage every file between the stages, run who reads it, and see that it is refused in one line, or does its work.

Default: some hundred cases, the same every time. `pytest -m fuzz`: thousands, from AUDIOGEN_FUZZ_SEED on
(AUDIOGEN_FUZZ_CASES of them). A case is a number: `AUDIOGEN_FUZZ_CASE=123 pytest -m fuzz` runs that one alone.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from random import Random

import pytest
from fuzz.arguments import draw_arguments
from fuzz.harness import faults, files_of, run
from fuzz.mutations import mutate
from fuzz.world import TARGETS, Target, copy_world, find_target, make_world, put_back

DEFAULT_CASES = 200
DEAR = ("train-", "tokenize", "import")  # commands of which the default test runs fewer


@pytest.fixture(scope="session")
def world(tmp_path_factory, tiny_codec, light_codec, tiny_lm, word_vectors, token_shards, clip_manifests):
    """Return the undamaged world, all of whose commands succeed."""
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("world")
    zoo = {"codec": tiny_codec, "light": light_codec, "lm": tiny_lm, "vectors": word_vectors, "tokens": token_shards}
    with pytest.MonkeyPatch.context() as patch:
        _enter(folder, patch)

        def audiogen(*arguments):
            ended = run(list(arguments))
            assert ended.code == 0, ended.stderr

        make_world(folder, audiogen, {**zoo, "manifests": clip_manifests})
    return folder


def _enter(folder, patch):
    patch.chdir(folder)
    settings = {"AUDIOGEN_MODEL": "", "OMP_NUM_THREADS": "1", "COLUMNS": "120", "HOME": str(folder / "home")}
    for name, value in {**settings, "AUDIOGEN_CACHE": str(folder / "cache")}.items():
        patch.setenv(name, value)


def fuzz_one(world: Path, folder: Path, number: int, cheap: bool) -> tuple[str, list[str]]:
    """Run case `number`; return it in words, and its faults."""
    random = Random(number)
    copy_world(world, folder)
    try:
        with pytest.MonkeyPatch.context() as patch:
            _enter(folder, patch)
            if number % 8 == 0:
                arguments, stdin, encoding = draw_arguments(random)
                words = ""
            else:
                target = random.choices(TARGETS, [each.weight for each in TARGETS])[0]
                arguments, stdin, encoding = _choose(target, random, cheap), b"", "utf-8"
                words = mutate(find_target(folder, target), target.kind, random)
                put_back(folder, target)
            before = files_of(folder)
            ended = run(arguments, stdin, encoding)
            found = faults(ended, folder, before)
            last = (ended.stderr.strip().splitlines() or [""])[-1][:300]
        return f"case {number}: {words}; audiogen {' '.join(arguments)[:150]!r} → {ended.code} {last}", found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _choose(target: Target, random: Random, cheap: bool) -> list[str]:
    runs = [each for each in target.runs if not (cheap and each.startswith(DEAR) and random.random() < 0.7)]
    return random.choice(runs or list(target.runs)).split()


def _fuzz(world: Path, folder: Path, numbers, cheap: bool) -> None:
    wrong = []
    log = os.environ.get("AUDIOGEN_FUZZ_LOG")
    for number in numbers:
        begun = time.process_time()
        words, found = fuzz_one(world, folder / f"{number}", number, cheap)
        if found:
            wrong.append(f"{words}: {', '.join(found)}")
        if log:
            with Path(log).open("a") as file:
                verdict = "FAULT " + ", ".join(found) if found else "ok"
                file.write(f"{time.process_time() - begun:.2f} {verdict} | {words!a}\n")
    assert not wrong, f"{len(wrong)} of {len(numbers)} cases:\n" + "\n".join(map(ascii, wrong))


def test_damaged_files_and_arguments_are_refused_in_one_line(world, tmp_path):
    _fuzz(world, tmp_path, range(DEFAULT_CASES), cheap=True)


@pytest.mark.fuzz
@pytest.mark.timeout(0)
def test_many_damaged_files(world, tmp_path):
    if one := os.environ.get("AUDIOGEN_FUZZ_CASE"):
        return _fuzz(world, tmp_path, [int(one)], cheap=False)
    first = int(os.environ.get("AUDIOGEN_FUZZ_SEED", "1000"))
    _fuzz(world, tmp_path, range(first, first + int(os.environ.get("AUDIOGEN_FUZZ_CASES", "3000"))), cheap=False)
