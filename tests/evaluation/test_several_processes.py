"""An evaluation shared by processes: the numbers of one, and work for each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from helpers.fakes import FakeGenerator, FakeNetwork
from helpers.processes import run_ranks

from audiogen_cli.data.manifest import load_manifests


def score(folder: Path, manifests: Path, model: Path) -> None:
    """Evaluate with all tasks; print how many clips this process has classified. Run in each process."""
    from audiogen_cli.evaluation.config import EvalConfig
    from audiogen_cli.evaluation.networks import registry
    from audiogen_cli.evaluation.run import evaluate
    from audiogen_cli.lm.generation.generator import Generator

    fake = FakeNetwork()
    registry.load_network = lambda name, source=None: fake
    Generator.load = lambda *model, **options: FakeGenerator()  # type: ignore[method-assign,assignment,return-value]
    shared: dict[str, Any] = {"split": "esc50-test", "manifests": manifests, "model": model, "classifier": "yamnet"}
    for task in ("generation", "codec", "continuation"):
        more: dict[str, dict[str, Any]] = {
            "generation": {"generated": folder.parent / "sounds", "embedding": "yamnet"},
            "codec": {"metrics": ("si_snr", "mel_distance", "bitrate", "code_usage")},
            "continuation": {"prompt_seconds": (0.1,), "limit": 4, "embedding": "yamnet"},
        }
        evaluate(EvalConfig(folder / task, task, **more[task], **shared))
    print(sum(shape[0] for shape in fake.batches))


def test_processes_share_the_scoring_and_give_the_numbers_of_one(
    tmp_path: Path, clip_manifests: Path, tiny_lm: Path
) -> None:
    (tmp_path / "sounds").mkdir()
    clips = load_manifests(clip_manifests, splits=["test"])
    for clip, other in zip(clips, [*[*clips][1:], clips[0]], strict=True):
        shutil.copy(other.audio_path, tmp_path / "sounds" / f"{clip.id.partition('/')[2]}{other.audio_path.suffix}")
    work = []
    for processes in (1, 2, 4):
        inputs = tmp_path / f"{processes}", clip_manifests, tiny_lm
        said = run_ranks(score, *inputs, n=processes, AUDIOGEN_CACHE=str(tmp_path / f"cache{processes}"))
        work.append([int(line) for line in said])
    for task in ("generation", "codec", "continuation"):
        one, *others = (json.loads((tmp_path / name / task / "results.json").read_text()) for name in "124")
        assert others == [one, one] and one["n"] == (4 if task == "continuation" else 12)
    for shares in work[1:]:
        # A content that several sources have, silence say, may be embedded by more than one.
        assert min(shares) > 0 and max(shares) < work[0][0] / len(shares) + 6
