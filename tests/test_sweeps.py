"""The sweeps' scripts and the paper in miniature: which stages they call with what, and that every flag exists."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.fakes import write_clips
from helpers.manifests import write_manifest
from helpers.scripts import list_calls
from helpers.zoo import chirp

from audiogen_cli.codec.config import CodecTrainConfig
from audiogen_cli.data.audio import write_audio
from audiogen_cli.data.manifest import Clip, load_manifests
from audiogen_cli.data.preparation.prep import prepare
from audiogen_cli.lm.config import TextConfig, TrainConfig
from audiogen_cli.training.recipe import load_recipe

RECIPES = Path(__file__).parents[1] / "recipes"
SWEEPS, PAPER = RECIPES / "sweeps", RECIPES / "paper"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "AUDIOGEN",
        "SPLIT",
        "LIMIT",
        "CODEC_OPTIONS",
        "LM_OPTIONS",
        "EVAL_OPTIONS",
        "GUIDANCES",
        "SIZE",
        "COPIES",
    ):
        monkeypatch.delenv(name, raising=False)


def test_inpainting_is_measured_beside_what_else_could_stand_there(
    tmp_path: Path, tiny_diffusion: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = []
    for number in range(3):
        write_audio(tmp_path / f"{number}.wav", chirp(number, 3.5), 16_000)
        place = (f"mine/{number}", "mine", "test", f"{number}.wav")
        texts = {"captions": ("a dog barks",), "tags": (), "texts": ("dog bark",)}
        clips.append(Clip(*place, 0.0, 3.5, 16_000, 1, license="", **texts))
    write_manifest(tmp_path / "mine.parquet", clips, {"dataset": "mine", "root": str(tmp_path), "options": {}})
    script, options = SWEEPS / "inpainting.py", ["--split", "mine-test", "--clips", "3"]
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path), str(tiny_diffusion), *options])
    runpy.run_path(str(script), run_name="__main__")
    found = json.loads(capsys.readouterr().out)
    assert found["clips"] == found["outside bit-exact"] == 3
    distances = found["mean distance"]
    assert min(distances.values()) > 0 and distances["codec"] < distances["silence"]


def flags_of(command: str) -> set[str]:
    from typer.main import get_command

    from audiogen_cli.app import app

    found: set[str] = set()
    for parameter in get_command(app).commands[command].params:  # type: ignore[attr-defined]
        found |= set(parameter.opts)
    return found


def flags(call: list[str]) -> dict[str, str]:
    return {word: following for word, following in zip(call, [*call[1:], ""], strict=True) if word.startswith("--")}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("guidance.sh", ["man", "model", "out"]),
        ("streams.sh", ["man", "out"]),
        ("text-encoders.sh", ["man", "tokens", "out"]),
        ("mixing.sh", ["man", "codec", "out"]),
        ("datasets.sh", ["man", "codec", "out"]),
        ("audio-prior.sh", ["man", "tokens", "out"]),
        ("diffsound.sh", ["man", "codec", "out"]),
    ],
)
def test_every_flag_and_recipe_exists(name: str, arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for codec in ("x32", "x64", "x128"):  # where the speed is written
        (tmp_path / "out" / codec).mkdir()
    made = list_calls(tmp_path, SWEEPS / name, *arguments[:-1], tmp_path / "out", PYTHON="true")
    assert made
    for call in made:
        assert set(flags(call)) <= flags_of(call[0]), call
        if "--config" in call:
            assert Path(flags(call)["--config"]).is_file()


def test_guidance(tmp_path: Path) -> None:
    script, settings = SWEEPS / "guidance.sh", {"EVAL_OPTIONS": "--limit 8"}
    made = [flags(call) for call in list_calls(tmp_path, script, "man", "model", "out", **settings)]
    assert [call["--guidance"] for call in made] == ["1", "1.5", "2", "3", "4", "5"]
    assert made[0] == {
        "--split": "audiocaps-test",
        "--manifests": "man",
        "--model": "model",
        "--out": "out/guidance-1",
        "--guidance": "1",
        "--limit": "8",
    }


def test_options_may_stand_on_several_lines(tmp_path: Path) -> None:
    lines = "--max-steps 9\n  --set lr=1\n"
    prior, *_ = list_calls(
        tmp_path, SWEEPS / "audio-prior.sh", "man", "tokens", "out", LM_OPTIONS=lines, PRIOR_OPTIONS="--json\n--seed 4"
    )
    assert {"--max-steps", "lr=1", "--json", "--seed"} <= set(prior)


def test_lists_may_stand_on_several_lines(tmp_path: Path) -> None:
    settings = {"RECIPES": "lm-tiny\ndiffsound-tiny", "SCHEDULES": "mask\nuniform", "PASSES": "5\n9", "PYTHON": "true"}
    (tmp_path / "out").mkdir()
    made = list_calls(tmp_path, SWEEPS / "diffsound.sh", "man", "codec", tmp_path / "out", **settings)
    trained = [flags(call) for call in made if call[0] == "train-lm"]
    assert [Path(call["--config"]).stem for call in trained] == ["lm-tiny", "diffsound-tiny", "diffsound-tiny"]
    assert [flags(call).get("--passes") for call in made if call[0] == "eval"] == [None, "5", "9", "9"]


@pytest.mark.parametrize("sign", [" ", "="])
def test_options_of_eval_go_to_what_takes_them(sign: str, tmp_path: Path) -> None:
    settings = {"EVAL_OPTIONS": f"--seed 3 --metrics{sign}fad,class-hits --download", "CODECS": "x32"}
    (tmp_path / "out" / "x32").mkdir(parents=True)
    made = list_calls(tmp_path, SWEEPS / "streams.sh", "man", tmp_path / "out", **settings)
    codec, model = (call for call in made if call[0] == "eval")
    assert codec[-5:] == ["--seed", "3", "--download", "--task", "codec"]
    assert model[-len(settings["EVAL_OPTIONS"].split()) :] == settings["EVAL_OPTIONS"].split()


def test_what_a_sweep_varies_wins_over_options_that_name_it_too(tmp_path: Path) -> None:
    settings = {"EVAL_OPTIONS": "--guidance 9 --passes 9", "GUIDANCES": "1 2", "PASSES": "5 7"}
    settings |= {"PRIOR_OPTIONS": "--set text_dropout=0.5", "SCHEDULES": "mask uniform", "PYTHON": "true"}
    settings |= {"LM_OPTIONS": "--set model.diffusion.schedule=mask_uniform --set text.name=x --set text_dropout=0"}

    def last(calls: list[list[str]], flag: str) -> list[str]:
        """Return of each call the value of a flag or a setting that counts: the last one, if there is any."""
        found = [re.findall(rf"{flag}[ =](\S+)", " ".join(call)) for call in calls]
        return [values[-1] for values in found if values]

    def calls(name: str, stage: str, *arguments: object) -> list[list[str]]:
        folder = tmp_path / f"{name}-{stage}"
        (folder / "out").mkdir(parents=True)
        made = list_calls(folder, SWEEPS / name, *arguments, folder / "out", **settings)
        return [call for call in made if call[0] == stage]

    assert last(calls("guidance.sh", "eval", "man", "model"), "--guidance") == ["1", "2"]
    assert last(calls("diffsound.sh", "eval", "man", "codec"), "--passes")[1:] == ["5", "7", "7"]
    assert last(calls("diffsound.sh", "train-lm", "man", "codec"), "schedule")[1:] == ["mask", "uniform"]
    assert last(calls("text-encoders.sh", "train-lm", "man", "tokens"), "text.name")[::2] == ["t5-base", "t5-large"]
    assert last(calls("audio-prior.sh", "train-lm", "man", "tokens"), "text_dropout") == ["1", "0", "0"]


def test_text_encoders(tmp_path: Path) -> None:
    made = list_calls(tmp_path, SWEEPS / "text-encoders.sh", "man", "tokens", "out")
    assert [call[0] for call in made] == ["train-lm", "eval"] * 4
    assert [flags(call)["--model"] for call in made[1::2]] == [
        "out/t5-base-base/lm",
        "out/t5-base-large/lm",
        "out/t5-large-base/lm",
        "out/t5-large-large/lm",
    ]
    assert "text.name=t5-large" in made[4]


def test_a_table_of_words_in_place_of_t5(tmp_path: Path) -> None:
    settings = {"ENCODERS": "lookup", "SIZES": "base"}
    train, _ = list_calls(tmp_path, SWEEPS / "text-encoders.sh", "man", "tokens", "out", **settings)
    assert {"text.kind=lookup", "text.name=null"} <= set(train)
    recipe = load_recipe(TrainConfig, "lm-base", [word for word in train if word.startswith("text.")])
    assert recipe.text == TextConfig("lookup")


def test_diffsounds_data(tmp_path: Path) -> None:
    tokenize, train, score = list_calls(tmp_path, SWEEPS / "datasets.sh", "man", "codec", "out")
    assert flags(tokenize)["--datasets"] == "audioset,audiocaps" and flags(tokenize)["--mix"] == "1"
    assert flags(train)["--tokens"] == "out/audioset-audiocaps/tokens" == flags(tokenize)["--out"]
    assert flags(score)["--out"] == "out/audioset-audiocaps/eval"


def test_both_decoders_are_measured_alike_and_stand_in_one_table(tmp_path: Path) -> None:
    script, out = SWEEPS / "diffsound.sh", tmp_path / "out"
    made = list_calls(
        tmp_path, script, "man", "codec", out, PYTHON="true", SCHEDULES="mask_uniform mask", PASSES="5 20"
    )
    assert Counter(call[0] for call in made) == {"tokenize": 1, "train-lm": 3, "eval": 4, "bench": 8}
    assert [flags(call).get("--passes", "") for call in made if call[0] == "eval"] == ["", "5", "20", "20"]
    assert [word for call in made for word in call if "schedule" in word] == [
        "model.diffusion.schedule=mask_uniform",
        "model.diffusion.schedule=mask",
    ]
    hits = iter((0.25, None, 0.5, 0.125))
    for call in made:
        if call[0] == "train-lm":
            run = Path(flags(call)["--out"])
            run.mkdir(parents=True)
            (run / "metrics.jsonl").write_text(
                '{"step": 9, "kind": "val", "loss": 4.5}\n{"step": 9, "kind": "train"}\n'
            )
        if call[0] == "eval":
            folder, share = Path(flags(call)["--out"]), next(hits)
            folder.mkdir(parents=True)
            scores = {"fad_x": 7.0, "kl_x": 2.5} | ({} if share is None else {"class_hits_top5_x": share})
            (folder / "results.json").write_text(json.dumps({"metrics": scores}))
    for folder in (path for path in out.iterdir() if path.is_dir()):
        for n in (1, 8):
            (folder / f"speed-{n}.json").write_text(json.dumps({"real_time_factor": 0.1 / n}))
    command = [sys.executable, str(SWEEPS / "diffsound_table.py"), str(out)]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert table[2:] == [
        "| autoregressive | – | 9 | 4.50 | 25% | 7.00 | 2.50 | 0.50 | 0.06 |",
        "| mask | 20 | 9 | 4.50 | 12% | 7.00 | 2.50 | 0.50 | 0.06 |",
        "| mask + uniform | 5 | 9 | 4.50 | – | 7.00 | 2.50 | 0.50 | 0.06 |",
        "| mask + uniform | 20 | 9 | 4.50 | 50% | 7.00 | 2.50 | 0.50 | 0.06 |",
    ]

    for path in out.glob("*/speed-8.json"):  # BATCHES=1
        path.unlink()
    (out / "mask-20" / "speed-1.json").unlink()
    (out / "mask-20" / "eval" / "results.json").write_text(
        '{"metrics": {"kl_reverse_passt": 9, "kl_passt": 1, "fd_passt": 3}}'
    )
    (out / "mask" / "lm" / "metrics.jsonl").write_text("")  # never validated
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert table[0].endswith("| KL | s a sound, alone |") and table[3] == "| mask | 20 | – | – | – | 3.00 | 1.00 | – |"


def test_an_audio_prior_reads_no_text_and_is_begun_with(tmp_path: Path) -> None:
    made = list_calls(tmp_path, SWEEPS / "audio-prior.sh", "man", "tokens", "out")
    prior, pretrained, plain, *scored = made
    settings = [word for word in prior if "=" in word]
    assert load_recipe(TrainConfig, "lm-base", settings).text_dropout == 1
    assert flags(pretrained)["--from"] == flags(prior)["--out"] == "out/prior"
    assert "--from" not in plain and not [word for word in pretrained if word.startswith("text_dropout")]
    assert [flags(call)["--model"] for call in scored] == ["out/pretrained/lm", "out/plain/lm"]


def test_captions_with_two_sounds_are_counted(tmp_path: Path) -> None:
    captions = ("a dog barks while a bird chirps", "rain falls", "a car passes, then thunder")
    clips = [
        Clip(f"audiocaps/{i}", "audiocaps", "test", f"{i}.wav", 0.0, 1.0, 16_000, 1, (caption,), (), (caption,), "")
        for i, caption in enumerate(captions)
    ]
    metadata = {"dataset": "audiocaps", "root": str(tmp_path), "options": {}}
    write_manifest(tmp_path / "audiocaps.parquet", clips, metadata)
    command = [sys.executable, str(SWEEPS / "count_sounds.py"), str(tmp_path), "audiocaps-test"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "audiocaps-test: 2 of 3, 67% (the paper's test: 85%)\n", done.stderr


def test_pairs_are_mixes_that_prep_reads(tmp_path: Path, clip_manifests: Path) -> None:
    command = [sys.executable, str(PAPER / "two_sounds.py"), str(clip_manifests), "esc50-test", str(tmp_path / "pairs")]
    subprocess.run([*command, "--n", "3"], check=True)
    folder, out = tmp_path / "pairs", tmp_path / "manifests"
    (report,) = prepare([], tmp_path, out, folder, captions=folder / "captions.csv", workers=1)
    assert report.clips == {"train": 0, "val": 0, "test": 3} and not report.dropped
    assert all(len(clip.captions[0].split()) > 1 for clip in load_manifests(out))


def test_a_damaged_recording_ends_no_pairs_but_its_own(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips", {"dog": 1, "cat": 2, "rain": 3})
    write_audio(tmp_path / "clips" / "wind.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 8000))
    whole = (tmp_path / "clips" / "wind.flac").read_bytes()
    (tmp_path / "clips" / "wind.flac").write_bytes(whole[: len(whole) // 2])
    prepare([], tmp_path, tmp_path / "manifests", tmp_path / "clips", name="mine", workers=1)
    command = [sys.executable, str(PAPER / "two_sounds.py"), str(tmp_path / "manifests"), "mine-train"]
    done = subprocess.run([*command, str(tmp_path / "pairs"), "--n", "9"], capture_output=True, text=True)
    written, left_out = len(list((tmp_path / "pairs").glob("*.wav"))), done.stderr.count("is left out")
    assert done.returncode == 0 and written + left_out == 9 and written and left_out, done.stderr


def test_a_clip_alone_has_no_partner_to_wait_for(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips", {"dog": 1})
    prepare([], tmp_path, tmp_path / "manifests", tmp_path / "clips", name="mine", workers=1)
    for split, reason in (("mine-train", "holds one clip"), ("mine-val", "no clips in split val")):
        command = [sys.executable, str(PAPER / "two_sounds.py"), str(tmp_path / "manifests"), split]
        done = subprocess.run([*command, str(tmp_path / "pairs")], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and reason in done.stderr and "Traceback" not in done.stderr


def test_a_stage_that_fails_ends_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOGEN", f"{sys.executable} -c raise(SystemExit(3))")
    result = subprocess.run([str(SWEEPS / "mixing.sh"), "man", "codec", "out"], capture_output=True)
    assert result.returncode == 3


PARTIAL = """#!/usr/bin/env bash
echo "$1" >>"$CALLS"
[ "$1" = "${FAILS:-$1}" ] || exit 0
while [ $# -gt 1 ]; do
    [ "$1" = --out ] && out=$2
    shift
done
[ -z "$WRITES" ] || { mkdir -p "$out" && echo >"$out/$WRITES"; }
exit "$CODE"
"""


@pytest.mark.parametrize(("stage", "file"), [("tokenize", "meta.json"), ("eval", "results.json")])
@pytest.mark.parametrize(
    ("writes", "code", "ends"), [(True, 1, False), (False, 1, True), (True, 2, True), (True, 130, True)]
)
def test_what_leaves_clips_out_does_not_end_a_sweep(
    stage: str, file: str, writes: bool, code: int, ends: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool, calls = tmp_path / "audiogen", tmp_path / "calls"
    tool.write_text(PARTIAL)
    tool.chmod(0o755)
    out = tmp_path / "out" / "mix-0"
    for old in ("tokens/meta.json", "eval/results.json"):  # of an earlier run: they say nothing of this one
        (out / old).parent.mkdir(parents=True)
        (out / old).touch()
        os.utime(out / old, (1, 1))
    told = {
        "AUDIOGEN": str(tool),
        "CALLS": str(calls),
        "FAILS": stage,
        "CODE": str(code),
        "WRITES": file if writes else "",
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    script = ["bash", str(SWEEPS / "mixing.sh"), "man", "codec", str(tmp_path / "out")]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == (code if ends else 0), done.stderr
    made = ["tokenize", "train-lm", "eval"]
    assert calls.read_text().split() == (made[: made.index(stage) + 1] if ends else made * 2)


def test_scripts_use_nothing_that_bash_3_lacks() -> None:
    """macOS has 3.2: there an empty list is unset to `set -u`."""
    for script in RECIPES.glob("*/*.sh"):
        text = script.read_text()
        assert not re.search(r"\[-\d+\]|mapfile|readarray|declare -A|,,\}|\|&", text), script
        if "[@]" in text:
            assert not re.search(r"set -\w*u", text) and re.search("common.sh|set -eo pipefail", text), script


def test_the_paper_in_miniature_calls_every_experiment(tmp_path: Path) -> None:
    for codec in ("x32", "x64", "x128"):
        (tmp_path / "out" / "streams" / codec).mkdir(parents=True)
    # Without python: two_sounds.py and table.py need what the stages would have made.
    made = list_calls(tmp_path, PAPER / "run.sh", "raw", tmp_path / "out", PYTHON="true")
    for call in made:
        assert set(flags(call)) <= flags_of(call[0]), call
    stages = Counter(call[0] for call in made)
    # Three codecs and three models, two more models for mixing; two evaluations a stream count, four guidances, single
    # sounds and pairs without and with mixing, continuation, four reports.
    assert stages == {"prep": 2, "train-codec": 3, "tokenize": 5, "train-lm": 5, "eval": 19, "bench": 3}
    out = tmp_path / "out"
    reported = [Path(flags(call)["--out"]) for call in made if "--report" in call]
    assert (
        reported == [out / name for name in ("streams", "guidance", "mixing", "continuation")] and made[-4][0] == "eval"
    )
    for link, target in (("lm", "lm"), ("tokens", "tokens"), ("eval", "lm-eval")):  # what x32 has shown already
        assert (out / "mixing" / "mix-1" / link).resolve() == (out / "streams" / "x32" / target).resolve()
    assert (out / "guidance" / "guidance-3").resolve() == (out / "streams" / "x32" / "lm-eval").resolve()
    scored = {Path(flags(call)["--out"]) for call in made if "--split" in call}
    assert all(
        any(each.is_relative_to(part) and len(each.relative_to(part).parts) < 3 for part in reported) for each in scored
    )
    trained = next(call for call in made if call[0] == "train-codec")
    assert "codec.network.channels=8" in trained and "4000" in trained
    load_recipe(CodecTrainConfig, "codec-x32", [each for each in trained if "=" in each])
    trained = next(call for call in made if call[0] == "train-lm")
    load_recipe(TrainConfig, "lm-tiny", [each for each in trained if "=" in each])


def test_guidance_3_is_measured_where_it_is_not_what_x32_was_measured_with(tmp_path: Path) -> None:
    for codec in ("x32", "x64", "x128"):
        (tmp_path / "out" / "streams" / codec).mkdir(parents=True)
    script, settings = PAPER / "run.sh", {"PYTHON": "true", "EVAL_OPTIONS": "--guidance 5"}
    made = list_calls(tmp_path, script, "raw", tmp_path / "out", **settings)
    (call,) = (call for call in made if str(tmp_path / "out" / "guidance" / "guidance-3") in call)
    assert call[-2:] == ["--guidance", "3"]
    assert not (tmp_path / "out" / "guidance" / "guidance-3").is_symlink()


def test_the_papers_table_says_which_orderings_hold(tmp_path: Path) -> None:
    def write(folder: str, metrics: dict[str, float], **more: object) -> None:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "results.json").write_text(json.dumps({"metrics": metrics, **more}))

    for codec, loss, fad in (("x32", 3.0, 5.0), ("x64", 2.0, 9.0), ("x128", 2.5, 8.0)):
        write(f"streams/{codec}/codec-eval", {"si_snr": loss, "kbps": 5.5, "paper_kbps": 5.37})
        write(f"streams/{codec}/lm-eval", {"fad_yamnet": fad, "kl_yamnet": 2.0})
        (tmp_path / "streams" / codec / "speed.json").write_text(json.dumps({"real_time_factor": 6.0 / int(codec[1:])}))
    for guidance in "123":
        write(f"guidance/guidance-{guidance}", {"fad_yamnet": 9.0 - float(guidance), "kl_yamnet": 1.0})
    for copies in "01":
        write(f"mixing/mix-{copies}/eval", {"fad_yamnet": 4.0, "kl_yamnet": 2.0})
        write(f"mixing/mix-{copies}/eval-pairs", {"fad_yamnet": 4.0, "kl_yamnet": 2.0 - int(copies)})
    cells = [{"prompt_seconds": 0.5, "text": text, "kl_yamnet_src": kl} for text, kl in (("src", 1.0), ("none", 3.0))]
    write("continuation", {}, details={"cells": cells})
    table = subprocess.run([sys.executable, str(PAPER / "table.py"), str(tmp_path)], capture_output=True, text=True)
    assert table.returncode == 0, table.stderr
    assert "| x64 | 4.88 / 5.37 | 4.50 / 2.00 | 3.94 / – | 10.35 / 9.00 | 2.17 / 2.00 | 2.00 / 2.00 |" in table.stdout
    verdicts = [line.rpartition(": ")[2] for line in table.stdout.splitlines() if line.startswith("- ")]
    assert verdicts == ["does not hold", "holds", "holds", "holds", "not measured"]

    for path in tmp_path.rglob(
        "results.json"
    ):  # by another network: FAD of half the runs, and a variant of KL before KL
        path.write_text(
            path.read_text()
            .replace("fad_yamnet", "fd_passt")
            .replace('"kl_yamnet": 2', '"kl_reverse_passt": 9, "kl_yamnet": 2')
        )
    write("streams/x32/lm-eval", {"kl_passt": 1.0})
    write("guidance/guidance-2", {"kl_passt": 1.0})
    table = subprocess.run([sys.executable, str(PAPER / "table.py"), str(tmp_path)], capture_output=True, text=True)
    assert table.returncode == 0, table.stderr
    assert "| 10.35 / 9.00 | 2.17 / 2.00 |" in table.stdout and "| 1 | 3.13 / 4.00 |" in table.stdout
    verdicts = [line.rpartition(": ")[2] for line in table.stdout.splitlines() if line.startswith("- ")]
    assert verdicts == ["does not hold", "not measured", "holds", "holds", "not measured"]
