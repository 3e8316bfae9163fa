"""`audiogen generate` with a tiny untrained model: what is printed, what is written, what repeats."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from helpers.fakes import FakeGenerator
from helpers.processes import run_audiogen, run_ranks

from audiogen_cli.app import main
from audiogen_cli.commands.generate import generate
from audiogen_cli.data.audio import probe, read_audio, read_tags, write_audio
from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.lm.generation import delivery, writer
from audiogen_cli.lm.generation.generator import Generator, Prepared
from audiogen_cli.lm.generation.requests import GenerationRequest
from audiogen_cli.model_folder import EMBEDDED_MODEL, fingerprint

RATE = 16_000


def test_one_prompt_one_file(tmp_path: Path, tiny_lm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "sounds" / "dog.wav"
    generate(["a dog barks"], output, model=str(tiny_lm), duration=0.3, seed=1)
    out, err = capsys.readouterr()
    assert out == f"{output}\n"
    assert "tiny" in err.splitlines()[0] and err.splitlines()[0].endswith("CC0: for tests only")
    assert "seed" not in err
    assert (probe(output).n_samples, probe(output).sample_rate) == (4_800, RATE)
    assert [path.name for path in output.parent.iterdir()] == ["dog.wav"]


def test_a_drawn_seed_is_printed_and_repeats_the_sound(
    tmp_path: Path, tiny_lm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate(["rain"], tmp_path / "a.wav", model=str(tiny_lm), duration=0.3)
    seed = int(capsys.readouterr().err.split("--seed ")[1].split()[0])
    generate(["rain"], tmp_path / "b.wav", model=str(tiny_lm), duration=0.3, seed=seed)
    generate(["rain"], tmp_path / "c.wav", model=str(tiny_lm), duration=0.3, seed=seed + 1)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert (tmp_path / "a.wav").read_bytes() != (tmp_path / "c.wav").read_bytes()


def test_a_folder_gets_sidecars_and_json_prints_them(
    tmp_path: Path, tiny_lm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate(
        ["rain", "a dog"], out_dir=tmp_path, model=str(tiny_lm), duration=0.2, samples=2, seed=5, top_k=3, json_=True
    )
    out, _ = capsys.readouterr()
    records = [json.loads(line) for line in out.splitlines()]
    names = ["0001-rain-1.wav", "0001-rain-2.wav", "0002-a-dog-1.wav", "0002-a-dog-2.wav"]
    assert [Path(record["path"]).name for record in records] == names
    assert [record["seed"] for record in records] == [5, 6, 5, 6]
    for record in records:
        assert json.loads(Path(record["path"]).with_suffix(".json").read_text()) == record
    last = records[-1]
    assert (last["prompt"], last["text"], last["duration"]) == ("a dog", "dog", 0.2)
    assert (last["guidance"], last["top_p"], last["top_k"], last["temperature"]) == (2.0, 0.9, 3, 1.0)
    assert (last["model_fingerprint"], last["licence"]) == (fingerprint(tiny_lm), "CC0: for tests only")
    wav = read_audio(last["path"])
    assert last["peak"] == pytest.approx(float(np.abs(wav).max()), abs=1e-4)
    assert last["near_silent"] in (True, False)


def test_a_file_sounds_the_same_alone_or_beside_others(tmp_path: Path, tiny_lm: Path) -> None:
    generate(["rain", "a dog barks", "wind"], out_dir=tmp_path, model=str(tiny_lm), duration=0.3, seed=2)
    generate(["a dog barks"], tmp_path / "alone.wav", model=str(tiny_lm), duration=0.3, seed=2)
    assert (tmp_path / "alone.wav").read_bytes() == (tmp_path / "0002-a-dog-barks.wav").read_bytes()


def test_a_prompt_file_has_its_own_seeds_lengths_and_names(
    tmp_path: Path, tiny_lm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("prompt,seed,duration,name,tag\na dog,7,0.2,bark.flac,dog\nrain,,,,weather\n")
    generate(prompts=prompts, out_dir=tmp_path / "out", model=str(tiny_lm), duration=0.3, seed=1)
    assert capsys.readouterr().out.splitlines() == [
        str(tmp_path / "out" / name) for name in ("bark.flac", "0002-rain.wav")
    ]
    bark, rain = (json.loads((tmp_path / "out" / name).read_text()) for name in ("bark.json", "0002-rain.json"))
    assert (bark["seed"], bark["duration"], bark["tag"]) == (7, 0.2, "dog")
    assert (rain["seed"], rain["duration"], rain["tag"]) == (1, 0.3, "weather")


def test_a_negative_prompt_changes_the_sound_and_is_recorded(audiogen, tiny_lm: Path) -> None:
    generate_ = ("generate", "rain", "--model", tiny_lm, "--duration", "0.3", "--seed", "1", "--json", "-o")
    records = [
        json.loads(audiogen(*generate_, f"{i}.wav", *more).stdout)
        for i, more in enumerate(([], ["--negative", ""], ["--negative", "a dog barks"]))
    ]
    assert [record.get("negative") for record in records] == [None, None, "a dog barks"]
    plain, empty, steered = (Path(record["path"]).read_bytes() for record in records)
    assert plain == empty != steered


def test_a_negative_prompt_that_could_not_act_is_refused(audiogen, tiny_lm: Path, tmp_path: Path) -> None:
    call = ["generate", "--model", tiny_lm, "--out-dir", "o"]
    (tmp_path / "p.csv").write_text("prompt,negative,guidance\nrain,a dog,3\nrain,a dog,1\n")
    for more, where in ((["rain", "--negative", "a dog", "--guidance", "1"], ""), (["--prompts", "p.csv"], "line 3: ")):
        done = audiogen(*call, *more)
        assert done.returncode == 2 and f"{where}negative acts through guidance" in done.stderr
    assert not (tmp_path / "o").exists()


def test_prompts_that_are_read_alike_are_told(audiogen, tiny_lm: Path) -> None:
    call = ["generate", "a dog barks", "rain", "dogs barking", "--model", tiny_lm, "--duration", "0.2"]
    assert "note: 'a dog barks' and 'dogs barking' are read alike" in audiogen(*call, "--out-dir", "o").stderr
    assert "alike" not in audiogen(*call[:3], "rain", *call[4:], "--out-dir", "p").stderr
    times = ["dog@0-0.1", "dog@0.1-0.2", "rain"]
    assert "alike" not in audiogen(*call[:1], *times, *call[4:], "--out-dir", "q").stderr


def test_columns_that_set_nothing_are_named(audiogen, tiny_lm: Path, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,guidence,top-p\nrain,9,0.5\n")
    done = audiogen("generate", "--prompts", "p.csv", "--model", tiny_lm, "--duration", "0.2", "--out-dir", "o")
    assert "note: no settings, and only put into sidecars: guidence\n" in done.stderr


def test_a_sidecar_belongs_to_one_of_two_formats(audiogen, tiny_lm: Path, tmp_path: Path) -> None:
    def run(text: str, *more: object) -> subprocess.CompletedProcess[str]:
        return audiogen("generate", text, "--model", tiny_lm, "--duration", "0.2", "--seed", "1", *more)

    run("rain", "--json", "-o", "a.wav")
    assert run("a dog", "-o", "a.flac").returncode == 0
    done = run("a dog", "--json", "-o", "a.flac")
    assert done.returncode == 2 and "a.json is no sidecar of a.flac" in done.stderr
    assert audiogen("convert", "a.wav", "-o", "a.ogg").returncode == 0
    assert json.loads((tmp_path / "a.json").read_text())["path"] == "a.wav"
    (tmp_path / "p.jsonl").write_text('{"prompt": "a dog", "name": "a.flac"}')
    done = audiogen("generate", "--prompts", "p.jsonl", "--model", tiny_lm, "--duration", "0.2", "--out-dir", ".")
    assert re.fullmatch(r"a-seed\d+.flac\n", done.stdout)
    (tmp_path / "a.wav").unlink()
    assert run("a dog", "--json", "-o", "a.flac").returncode == 0  # the one that it belonged to is gone


def test_another_take_leaves_a_name_in_capitals_alone(audiogen, tiny_lm: Path, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "rain", "name": "RAIN.WAV"}')
    call = ["generate", "--prompts", "p.jsonl", "--model", tiny_lm, "--duration", "0.2", "--out-dir", "o"]
    names = [Path(audiogen(*call, "--seed", seed).stdout.strip()).name for seed in (1, 2, 2)]
    assert names == ["RAIN.WAV", "RAIN-seed2.WAV", "RAIN-seed2.WAV"]


def test_without_text(tmp_path: Path, tiny_lm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate(None, tmp_path / "x.ogg", model=str(tiny_lm), duration=0.2, seed=1, unconditional=True, json_=True)
    record = json.loads(capsys.readouterr().out)
    assert (record["prompt"], record["text"]) == (None, None)
    assert (tmp_path / "x.json").is_file()


def test_another_seed_replaces_nothing_unless_told_to(audiogen, tmp_path: Path, tiny_lm: Path) -> None:
    def run(*more: object) -> tuple[list[str], str]:
        result = audiogen("generate", "rain", "--out-dir", "out", "--model", tiny_lm, "--duration", "0.2", *more)
        return [Path(line).name for line in result.stdout.splitlines()], result.stderr

    assert run("--seed", 1)[0] == ["0001-rain.wav"]
    liked = (tmp_path / "out" / "0001-rain.wav").read_bytes()
    names, told = run("--seed", 2)
    assert names == ["0001-rain-seed2.wav"] and "1 new beside other takes, as 0001-rain-seed2.wav; --overwrite" in told
    assert run("--seed", 1) == (["0001-rain.wav"], "1 of 1 sound already there and kept; --overwrite replaces\n")
    assert (tmp_path / "out" / "0001-rain.wav").read_bytes() == liked
    names, told = run()
    assert re.fullmatch(r"0001-rain-seed\d+.wav", *names) and "1 new beside" in told
    names, told = run("--seed", 2, "--overwrite")
    assert names == ["0001-rain.wav"] and "1 replaced" in told
    assert (tmp_path / "out" / "0001-rain.wav").read_bytes() != liked


def test_a_second_run_makes_only_what_is_missing(
    tmp_path: Path, tiny_lm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(**options: Any) -> tuple[str, str]:
        generate(["rain", "wind", "a dog"], out_dir=tmp_path, model=str(tiny_lm), duration=0.2, json_=True, **options)
        return capsys.readouterr()

    first, _ = run()  # its seed is drawn: a second run's would be another
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    (tmp_path / "0002-wind.wav").unlink()
    second, err = run()
    assert "2 of 3 sounds" in err and "1 of" not in err
    assert [json.loads(line)["path"] for line in second.splitlines()] == [
        json.loads(line)["path"] for line in first.splitlines()
    ]
    assert second.splitlines()[0] == first.splitlines()[0] and second.splitlines()[2] == first.splitlines()[2]
    changed = {path.stem for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {"0002-wind"}
    assert "3 replaced" in run(overwrite=True)[1]


def test_a_finished_run_needs_no_model_in_memory(
    tmp_path: Path, tiny_lm: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        generate(["rain"], out_dir=tmp_path, model=str(tiny_lm), duration=0.2, seed=1)
        monkeypatch.setattr(writer, "load_generator", None)
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "0001-rain.wav")] * 2


def test_normalising_is_a_choice_and_part_of_the_settings(
    tmp_path: Path, tiny_lm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = []
    for normalize in (None, "-23"):
        generate(["rain"], out_dir=tmp_path, model=str(tiny_lm), duration=0.5, seed=1, normalize=normalize, json_=True)
        records.append(json.loads(capsys.readouterr().out))
    plain, normal = records
    assert (plain["gain_db"], plain["normalized"], normal["normalized"]) == (0, False, True)
    assert normal["gain_db"] != 0 and (normal["loudness"] == pytest.approx(-23, abs=0.1) or normal["peak"] > 0.88)


def test_a_summary_tells_how_long_and_how_loud(
    tmp_path: Path, tiny_lm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate(["rain"], tmp_path / "x.wav", model=str(tiny_lm), duration=0.5, seed=1)
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"0.5 s of sound in .+ s, .+ real time.+ -.+ dBFS", last)
    generate(["rain", "wind"], out_dir=tmp_path, model=str(tiny_lm), duration=0.5, seed=1)
    assert "2 sounds, 1 s of sound in" in capsys.readouterr().err.splitlines()[-1]


def test_long_work_is_told_beforehand(
    tmp_path: Path, tiny_lm: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiogen_cli.lm.generation.writer.LONG_SECONDS", 6)
    monkeypatch.setattr("audiogen_cli.lm.generation.estimates.LONG_WAIT", 0)
    generate(["rain"], tmp_path / "x.wav", model=str(tiny_lm), duration=6, seed=1)
    lines = capsys.readouterr().err.splitlines()
    note, cost = (next(line for line in lines if start in line) for start in ("note: ", "6 s of sound, about "))
    assert "trained on 5 s" in note and "the last 2.5 s" in note
    assert "computing on cpu, at least" in cost and cost.endswith(" GB of memory")
    assert probe(tmp_path / "x.wav").n_samples == 6 * RATE


def test_candidates_count_as_work(
    tmp_path: Path, tiny_lm: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiogen_cli.lm.generation.writer.LONG_SECONDS", 2)
    asked, waits = [], iter([9.9, 10.0])
    monkeypatch.setattr(
        "audiogen_cli.lm.generation.estimates.estimate", lambda _, *given: asked.append(given[0]) or (next(waits), 1)
    )
    generate(["rain"], tmp_path / "x.wav", model=str(tiny_lm), duration=1, seed=1)
    assert not asked and "of computing" not in capsys.readouterr().err
    for told in (False, True):  # what does not take long needs no warning
        generate(["rain"], tmp_path / "x.wav", model=str(tiny_lm), duration=1, seed=1, candidates=3)
        assert asked.pop() == [1.0] * 3
        assert ("1 s of sound, about 10 s" in capsys.readouterr().err) == told


def test_layers_are_told_and_kept_apart_from_a_sound_in_one(
    tmp_path: Path, tiny_lm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"model": str(tiny_lm), "duration": 1, "seed": 1, "out_dir": tmp_path, "json_": True}
    (tmp_path / "prompts.csv").write_text("prompt,layers\na dog barks while it rains,2\n")
    told = []
    for _ in range(2):  # the second time nothing is made
        generate(prompts=tmp_path / "prompts.csv", **options)
        told.append(json.loads(capsys.readouterr().out))
    assert told[0] == told[1] and (told[0]["layers"], told[0]["text"]) == (2, "dog bark + rain")
    layered = read_audio(Path(told[0]["path"]))
    generate(["a dog barks while it rains"], **options)  # the model's own: all at once
    whole = json.loads(capsys.readouterr().out)
    assert (whole["layers"], whole["text"]) == (1, "dog bark rain")
    assert not np.array_equal(read_audio(Path(whole["path"])), layered)


class TestStream:
    def test_the_file_is_the_one_that_comes_without(
        self, tmp_path: Path, tiny_lm: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "grown.wav").write_bytes(b"an older and longer file" * 9999)
        for name, stream in (("whole.wav", False), ("grown.wav", True)):
            generate(["rain"], tmp_path / name, model=str(tiny_lm), duration=1.3, seed=4, stream=stream)
        out, err = capsys.readouterr()
        assert out.splitlines()[1] == str(tmp_path / "grown.wav") and "first sound after" in err
        np.testing.assert_array_equal(read_audio(tmp_path / "grown.wav"), read_audio(tmp_path / "whole.wav"))
        assert read_tags(tmp_path / "grown.wav") == read_tags(tmp_path / "whole.wav")
        assert read_tags(tmp_path / "grown.wav")["title"] == "rain"

    def test_json_tells_the_first_sound(
        self, tmp_path: Path, tiny_lm: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        generate(["rain"], tmp_path / "x.wav", model=str(tiny_lm), duration=1.3, seed=4, stream=True, json_=True)
        record = json.loads(capsys.readouterr().out)
        assert 0 < record["first_sound"] < 60 and record["duration"] == 1.3
        assert json.loads((tmp_path / "x.json").read_text()) == record

    def test_stdout_gets_the_same_samples_raw(
        self, tmp_path: Path, tiny_lm: Path, capfdbinary: pytest.CaptureFixture[bytes]
    ) -> None:
        generate(["rain"], Path("-"), model=str(tiny_lm), duration=1.3, seed=4, stream=True)
        raw, notes = capfdbinary.readouterr()
        assert b"16-bit" in notes and b"16000 Hz" in notes
        assert list(tmp_path.iterdir()) == []
        generate(["rain"], tmp_path / "x.wav", model=str(tiny_lm), duration=1.3, seed=4)
        assert raw == soundfile.read(tmp_path / "x.wav", dtype="int16")[0].astype("<i2").tobytes()

    def test_a_reader_who_leaves_is_no_error_message(
        self, tiny_lm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        read, write = os.pipe()
        os.close(read)
        words = ["generate", "rain", "--model", str(tiny_lm), "--seed", "4", "--stream", "-o", "-"]
        monkeypatch.setattr(sys, "argv", ["audiogen", *words])
        with os.fdopen(write, "w") as stdout, pytest.raises(SystemExit) as ended:
            monkeypatch.setattr(sys, "stdout", stdout)
            main()
        assert ended.value.code == 1 and "error" not in capsys.readouterr().err.lower()

    def test_what_is_cut_short_leaves_no_file(
        self, tmp_path: Path, tiny_lm: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def break_off(self: Generator, prepared: Prepared) -> Iterator[np.ndarray]:
            yield np.zeros(100, np.float32)
            assert probe(tmp_path / "x.wav").n_samples == 100  # whole at every moment
            raise KeyboardInterrupt

        monkeypatch.setattr(Generator, "stream", break_off)
        with pytest.raises(KeyboardInterrupt):
            generate(["rain"], tmp_path / "x.wav", model=str(tiny_lm), seed=4, stream=True)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"output": "-", "stream": False}, "add --stream"),
            ({"output": "x.flac"}, "-o FILE.wav, or -o -"),
            ({"output": None, "out_dir": "out"}, "-o FILE.wav, or -o -"),
            ({"output": "x.wav", "samples": 2}, "2 sounds cannot go into one file"),
            ({"output": "x.wav", "normalize": "-23"}, "--normalize needs the whole sound"),
            ({"output": "x.wav", "candidates": 2}, "cannot choose among candidates"),
            ({"output": "x.wav", "layers": 2}, "cannot mix layers"),
            ({"output": "x.wav", "loop": True}, "close a loop"),
            ({"output": "x.wav", "timing": "0-1"}, "place sounds in time"),
            ({"output": "-", "json_": True}, "both go to stdout"),
            ({"output": "x.wav", "duration": 1e6}, "WAV holds at most 37 h"),
        ],
    )
    def test_what_cannot_be_streamed_is_refused(
        self, tmp_path: Path, tiny_lm: Path, options: dict[str, Any], message: str
    ) -> None:
        paths = {key: value and Path(value) for key, value in options.items() if key in ("output", "out_dir")}
        with pytest.raises(InputError, match=message):
            generate(["rain"], **{"stream": True, "model": str(tiny_lm), "seed": 1, **options, **paths})
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("text", "options"),
        [("a dog@0-2, rain@1-5", {}), ("rain@1-5", {}), ("rain", {"loop": True}), ("rain", {"timing": "1-5"})],
    )
    def test_what_needs_the_whole_sound_costs_no_older_one(
        self, audiogen, tmp_path: Path, tiny_lm: Path, text: str, options: dict[str, Any]
    ) -> None:
        folder = Path(shutil.copytree(tiny_lm, tmp_path / "lm"))
        config = json.loads((folder / "config.json").read_text())
        config["config"]["sampling"] |= options  # flags are refused earlier
        (folder / "config.json").write_text(json.dumps(config))
        generate(["wind"], tmp_path / "x.wav", model=str(tiny_lm), duration=0.2, seed=1, json_=True)
        before = [(tmp_path / name).read_bytes() for name in ("x.wav", "x.json")]
        done = audiogen("generate", text, "--model", folder, "--stream", "-o", "x.wav")
        assert done.returncode == 2 and "times" in done.stderr.splitlines()[-1]
        assert [(tmp_path / name).read_bytes() for name in ("x.wav", "x.json")] == before

    def test_a_stream_that_breaks_off_leaves_the_old_sound_and_its_sidecar(
        self, tmp_path: Path, tiny_lm: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        generator = Generator.load(tiny_lm, device="cpu")
        request, options = (
            GenerationRequest("rain", 4, 1.0, output=tmp_path / "a.wav"),
            writer.RenderOptions(sidecars=True),
        )
        writer.write_stream(generator, request, options)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert sorted(before) == ["a.json", "a.wav"]
        decode = generator._decode_blocks

        def break_off(blocks: Iterator[Any]) -> Iterator[np.ndarray]:
            yield next(decode(blocks))
            raise ValueError

        monkeypatch.setattr(generator, "_decode_blocks", break_off)
        with pytest.raises(ValueError):
            writer.write_stream(generator, replace(request, seed=5), options)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_of_a_sound_too_long_for_memory_only_a_block_is_kept(
        self, tmp_path: Path, tiny_lm: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        generator, alive = Generator.load(tiny_lm, device="cpu"), list[weakref.ref[np.ndarray]]()
        whole = writer.write_stream(generator, GenerationRequest("rain", 4, 4.0, output=tmp_path / "a.wav"))
        original = generator._decode_blocks

        def watch(blocks: Iterator[Any]) -> Iterator[np.ndarray]:
            for wav in original(blocks):
                alive.append(weakref.ref(wav))
                del wav
                yield alive[-1]()  # type: ignore[misc]
                assert sum(each() is not None for each in alive) <= 2

        monkeypatch.setattr(generator, "_decode_blocks", watch)
        monkeypatch.setattr(writer, "WHOLE_SECONDS", 1.0)
        long = writer.write_stream(generator, GenerationRequest("rain", 4, 4.0, output=tmp_path / "b.wav"))
        assert len(alive) > 3 and (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
        changed = {key for key in long if long[key] != whole[key]}
        assert changed <= {"path", "first_sound", "loudness", "rms"} and long["loudness"] is None
        assert long["rms"] == pytest.approx(whole["rms"])


@pytest.mark.parametrize("stream", [[], ["--stream"]])
@pytest.mark.parametrize("command", ["generate", "continue", "convert"])
def test_a_file_that_is_no_sidecar_is_not_replaced(
    audiogen, tmp_path: Path, tiny_lm: Path, command: str, stream: list[str]
) -> None:
    (tmp_path / "dog.json").write_text('["a dog"]')
    audiogen("generate", "rain", "--model", tiny_lm, "--duration", "0.2", "--json", "-o", "rain.wav")
    what = {"generate": ["--prompts", "dog.json", "--duration", "0.2"], "continue": ["rain.wav", "--duration", "0.4"]}
    more = [] if command == "convert" else ["--model", tiny_lm, "--json", *stream]
    done = audiogen(command, *what.get(command, ["rain.wav"]), *more, "-o", "dog.wav")
    assert done.returncode == 2 and "dog.json is no sidecar" in done.stderr and "computing" not in done.stderr
    assert (tmp_path / "dog.json").read_text() == '["a dog"]' and not (tmp_path / "dog.wav").exists()
    if command == "generate":
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "0001-a-dog.json").write_text("mine")
        done = audiogen(command, *what[command], *more[:2], "--out-dir", "out", "--overwrite")
        assert done.returncode == 2 and (tmp_path / "out" / "0001-a-dog.json").read_text() == "mine"
        assert audiogen(command, *what[command], *more[:2], "--out-dir", "out").returncode == 0
        assert (tmp_path / "out" / "0001-a-dog.json").read_text() == "mine"


def test_another_number_format_is_another_sound(audiogen, tmp_path: Path, tiny_lm: Path) -> None:
    call = ["generate", "rain", "--model", tiny_lm, "--duration", "0.2", "--seed", "1", "--out-dir", "out", "--json"]
    first = json.loads(audiogen(*call).stdout)
    again = audiogen(*call, "--dtype", first["dtype"])
    assert json.loads(again.stdout)["path"] == first["path"] and "already there and kept" in again.stderr
    other = json.loads(audiogen(*call, "--dtype", "int8").stdout)
    assert (other["dtype"], Path(other["path"]).name) == ("int8", "0001-rain-seed1.wav")
    assert json.loads(audiogen(*call, "--dtype", "int8").stdout) == other
    assert "already there and kept" in audiogen(*call).stderr  # auto takes either


def test_a_completed_run_prints_the_seed_that_repeats_what_is_new(audiogen, tmp_path: Path, tiny_lm: Path) -> None:
    call = ["generate", "rain", "--model", tiny_lm, "--duration", "0.2", "-n", "3", "--out-dir", "out"]
    assert "repeats the result)" in audiogen(*call).stderr
    (tmp_path / "out" / "0001-rain-2.wav").unlink()
    (tmp_path / "out" / "0001-rain-3.wav").unlink()
    told = audiogen(*call).stderr
    seeds = [json.loads((tmp_path / "out" / f"0001-rain-{number}.json").read_text())["seed"] for number in (2, 3)]
    assert int(re.search(r"--seed (\d+)", told)[1]) == seeds[0] - 1 == seeds[1] - 2  # type: ignore[index]
    assert "repeats what is new; the .json of each sound" in told


def test_a_seed_that_no_new_sound_has_is_not_printed(audiogen, tmp_path: Path, tiny_lm: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,seed\nrain,\nwind,7\n")
    call = ["generate", "--prompts", "p.csv", "--model", tiny_lm, "--duration", "0.2", "--out-dir", "out"]
    assert "repeats the result)" in audiogen(*call).stderr
    (tmp_path / "out" / "0002-wind.wav").unlink()
    told = audiogen(*call).stderr
    assert "1 of 2 sounds already there" in told and "--seed" not in told


@pytest.mark.parametrize("command", ["generate", "continue"])
def test_candidates_that_an_earlier_run_kept_are_not_replaced(
    audiogen, tmp_path: Path, tiny_lm: Path, command: str
) -> None:
    soundfile.write("a.wav", np.full(1_600, 0.1), RATE)
    call = [command, *(["a.wav"] if command == "continue" else []), "rain", "--model", tiny_lm, "--duration", "0.3"]
    call += ["--candidates", "2", "--top-p", "1", "--out-dir", "out", "--json"]

    def run(*more: object) -> tuple[str, dict[str, bytes]]:
        done = audiogen(*call, *more)
        assert done.returncode == 0, done.stderr
        name = Path(json.loads(done.stdout)["path"]).stem
        return name, {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*-candidate*")}

    name, first = run("--seed", 1, "--keep-candidates")
    assert sorted(first) == [f"{name}-candidate02.json", f"{name}-candidate02.wav"]
    (tmp_path / "out" / f"{name}.wav").unlink()
    assert run("--seed", 1, "--keep-candidates") == (name, first)  # the sound is made again, with the same candidates
    for suffix in (".wav", ".json"):
        (tmp_path / "out" / f"{name}{suffix}").unlink()
    other, second = run("--seed", 2, "--keep-candidates")
    assert other == f"{name}-seed2" and first.items() < second.items() and len(second) == 4
    assert run("--seed", 2, "--keep-candidates") == (other, second)  # found again
    assert run("--seed", 3) == (name, second)  # with no candidates of its own
    _, third = run("--seed", 4, "--keep-candidates", "--overwrite")
    assert first[f"{name}-candidate02.wav"] != third[f"{name}-candidate02.wav"]


def test_a_candidate_takes_no_other_sounds_name(audiogen, tmp_path: Path, tiny_lm: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,name\nrain,a\nwind,a-candidate02\n")
    call = [
        "generate",
        "--model",
        tiny_lm,
        "--duration",
        "0.2",
        "--candidates",
        "2",
        "--keep-candidates",
        "--seed",
        "1",
    ]
    records = [
        json.loads(line)
        for line in audiogen(*call, "--prompts", "p.csv", "--out-dir", "o", "--json").stdout.splitlines()
    ]
    paths = [path for each in records for path in (each["path"], *(other["path"] for other in each["kept_candidates"]))]
    assert len(set(paths)) == 4 and [Path(each["path"]).stem for each in records] == ["a-seed1", "a-candidate02"]
    (tmp_path / "b-candidate02.json").write_text("mine")
    done = audiogen(*call, "rain", "-o", "b.wav", "--json")
    assert done.returncode == 1 and "b-candidate02.json is no sidecar" in done.stderr
    assert (tmp_path / "b-candidate02.json").read_text() == "mine"


def test_with_one_sound_at_a_time_progress_goes_on(tiny_lm: Path) -> None:
    generator, seen = Generator.load(tiny_lm, device="cpu"), list[float]()
    requests = [GenerationRequest("rain", seed, 1.0, replace(generator.sampling, candidates=2)) for seed in range(3)]
    list(generator.generate(requests, 1, seen.append))
    assert seen == sorted(seen) and seen[-1] == 3 and any(1 < seconds < 2 for seconds in seen)


def test_one_failure_leaves_the_others_and_exits_with_1(
    tmp_path: Path, tiny_lm: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(path: Path, wav: np.ndarray, sample_rate: int, *_: object) -> None:
        if "rain" in path.name:
            raise AudiogenError(f"{path}: disk full")
        write_audio(path, wav, sample_rate)

    monkeypatch.setattr(delivery, "write_audio", write)
    with pytest.raises(AudiogenError, match="1 of 2 sounds failed") as error:
        generate(["rain", "wind"], out_dir=tmp_path, model=str(tiny_lm), duration=0.2, seed=1)
    assert error.value.exit_code == 1
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / '0002-wind.wav'}\n"
    assert f"failed: {tmp_path / '0001-rain.wav'}: disk full" in err


@pytest.mark.parametrize("text", ["!?", "狗"])
def test_a_prompt_that_says_nothing_to_the_model_is_refused(tmp_path: Path, tiny_lm: Path, text: str) -> None:
    with pytest.raises(InputError, match="word"):
        generate([text], tmp_path / "x.wav", model=str(tiny_lm), seed=1)
    assert not list(tmp_path.iterdir())


def test_a_prompt_without_a_known_word_is_made_with_a_note(audiogen, tmp_path: Path, tiny_lm: Path) -> None:
    (tmp_path / "prompts.txt").write_text("asdfgh\na dog qwertzes\n")
    result = audiogen(
        *("generate", "--prompts", "prompts.txt", "--model", tiny_lm, "--duration", "0.2", "--json", "--out-dir", "out")
    )
    unknown = [json.loads(line)["unknown_words"] for line in result.stdout.splitlines()]
    assert (result.returncode, unknown) == (0, [["asdfgh"], ["qwertzes"]])
    assert "note: no word of 'asdfgh' is known\n" in result.stderr


def test_the_embedded_model_names_sounds_instead_of_unknown_words(tmp_path: Path) -> None:
    fake, said = FakeGenerator(), list[str]()
    fake.folder = EMBEDDED_MODEL
    prepared = Prepared(GenerationRequest("asdf", 0, 1.0), RATE, ("asdf",), words={"asdf": False})
    writer._announce(fake, [prepared], writer.RenderOptions(), said.append)  # type: ignore[arg-type]
    assert said[0].startswith("note: no word of 'asdf' is known; the model speaks of: airplane, ")


def test_a_codec_is_no_language_model(tmp_path: Path, tiny_lm: Path) -> None:
    with pytest.raises(InputError, match="codec"):
        generate(["rain"], tmp_path / "x.wav", model=str(tiny_lm / "codec"), seed=1)


def test_prompts_from_a_pipe_to_paths_in_a_pipe(audiogen, tmp_path: Path, tiny_lm: Path) -> None:
    arguments = ["--out-dir", "out", "--model", tiny_lm, "--duration", "0.2", "--seed", "1"]
    result = audiogen("generate", "--prompts", "-", *arguments, stdin="rain\na dog barks\n")
    assert (result.returncode, result.stdout) == (0, "out/0001-rain.wav\nout/0002-a-dog-barks.wav\n")
    assert "Traceback" not in result.stderr
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_several_processes_share_the_prompts_and_print_as_one(
    command_environment: None, tmp_path: Path, tiny_lm: Path
) -> None:
    (tmp_path / "prompts.txt").write_text("rain\na dog barks\nwind\n")
    arguments = ["generate", "--prompts", "prompts.txt", "--model", tiny_lm, "--duration", "0.2", "--seed", "1"]
    (alone,) = run_ranks(run_audiogen, *arguments, "--out-dir", "one", n=1)
    assert run_ranks(run_audiogen, *arguments, "--out-dir", "two") == [alone.replace("one/", "two/"), ""]
    assert len(alone.splitlines()) == 3
    for path in (tmp_path / "one").glob("*.wav"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
