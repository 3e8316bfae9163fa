"""`audiogen generate` with a tiny untrained model: what is printed, what is written, what repeats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from audiogen_cli.commands.generate import generate
from audiogen_cli.data.audio import probe, read_audio, write_audio
from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.interop.model_folder import fingerprint
from audiogen_cli.lm import render

RATE = 16_000


def test_one_prompt_one_file(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "sounds" / "dog.wav"
    generate(["a dog barks"], output, model=str(model), duration=0.3, seed=1)
    out, err = capsys.readouterr()
    assert out == f"{output}\n"
    assert err.splitlines()[0] == "weights tiny: CC0: for tests only"
    assert "seed" not in err
    assert (probe(output).n_samples, probe(output).sample_rate) == (4_800, RATE)
    assert [path.name for path in output.parent.iterdir()] == ["dog.wav"]


def test_a_drawn_seed_is_printed_and_repeats_the_sound(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate(["rain"], tmp_path / "a.wav", model=str(model), duration=0.3)
    seed = int(capsys.readouterr().err.split("--seed ")[1].split()[0])
    generate(["rain"], tmp_path / "b.wav", model=str(model), duration=0.3, seed=seed)
    generate(["rain"], tmp_path / "c.wav", model=str(model), duration=0.3, seed=seed + 1)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert (tmp_path / "a.wav").read_bytes() != (tmp_path / "c.wav").read_bytes()


def test_a_folder_gets_sidecars_and_json_prints_them(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate(
        ["rain", "a dog"], out_dir=tmp_path, model=str(model), duration=0.2, samples=2, seed=5, top_k=3, json_=True
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
    assert (last["model_fingerprint"], last["licence"]) == (fingerprint(model), "CC0: for tests only")
    wav = read_audio(last["path"])
    assert last["peak"] == pytest.approx(float(np.abs(wav).max()), abs=1e-4)
    assert last["near_silent"] in (True, False)


def test_a_file_sounds_the_same_alone_or_beside_others(tmp_path: Path, model: Path) -> None:
    generate(["rain", "a dog barks", "wind"], out_dir=tmp_path, model=str(model), duration=0.3, seed=2)
    generate(["a dog barks"], tmp_path / "alone.wav", model=str(model), duration=0.3, seed=2)
    assert (tmp_path / "alone.wav").read_bytes() == (tmp_path / "0002-a-dog-barks.wav").read_bytes()


def test_a_prompt_file_has_its_own_seeds_lengths_and_names(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("prompt,seed,duration,name,tag\na dog,7,0.2,bark.flac,dog\nrain,,,,weather\n")
    generate(prompts=prompts, out_dir=tmp_path / "out", model=str(model), duration=0.3, seed=1)
    assert capsys.readouterr().out.splitlines() == [
        str(tmp_path / "out" / name) for name in ("bark.flac", "0002-rain.wav")
    ]
    bark, rain = (json.loads((tmp_path / "out" / name).read_text()) for name in ("bark.json", "0002-rain.json"))
    assert (bark["seed"], bark["duration"], bark["tag"]) == (7, 0.2, "dog")
    assert (rain["seed"], rain["duration"], rain["tag"]) == (1, 0.3, "weather")


def test_without_text(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate(None, tmp_path / "x.ogg", model=str(model), duration=0.2, seed=1, unconditional=True, json_=True)
    record = json.loads(capsys.readouterr().out)
    assert (record["prompt"], record["text"]) == (None, None)
    assert (tmp_path / "x.json").is_file()


def test_existing_files_are_replaced_and_that_is_said(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        generate(["rain"], out_dir=tmp_path, model=str(model), duration=0.2, seed=1)
    assert "replacing 1 file" in capsys.readouterr().err


def test_one_failure_leaves_the_others_and_exits_with_1(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(path: Path, wav: np.ndarray, sample_rate: int) -> None:
        if "rain" in path.name:
            raise AudiogenError(f"{path}: disk full")
        write_audio(path, wav, sample_rate)

    monkeypatch.setattr(render, "write_audio", write)
    with pytest.raises(AudiogenError, match="1 of 2 sounds failed") as error:
        generate(["rain", "wind"], out_dir=tmp_path, model=str(model), duration=0.2, seed=1)
    assert error.value.exit_code == 1
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / '0002-wind.wav'}\n"
    assert f"failed: {tmp_path / '0001-rain.wav'}: disk full" in err


@pytest.mark.parametrize("text", ["!?", "狗"])
def test_a_prompt_that_says_nothing_to_the_model_is_refused(tmp_path: Path, model: Path, text: str) -> None:
    with pytest.raises(InputError, match="word"):
        generate([text], tmp_path / "x.wav", model=str(model), seed=1)
    assert not list(tmp_path.iterdir())


def test_a_codec_is_no_language_model(tmp_path: Path, model: Path) -> None:
    with pytest.raises(InputError, match="codec"):
        generate(["rain"], tmp_path / "x.wav", model=str(model / "codec"), seed=1)


def test_prompts_from_a_pipe_to_paths_in_a_pipe(audiogen, tmp_path: Path, model: Path) -> None:
    arguments = ["--out-dir", "out", "--model", model, "--duration", "0.2", "--seed", "1"]
    result = audiogen("generate", "--prompts", "-", *arguments, stdin="rain\na dog barks\n")
    assert (result.returncode, result.stdout) == (0, "out/0001-rain.wav\nout/0002-a-dog-barks.wav\n")
    assert "Traceback" not in result.stderr
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_several_processes_share_the_prompts_and_print_as_one(audiogen, tmp_path: Path, model: Path) -> None:
    prompts = "rain\na dog barks\nwind\n"
    arguments = ["generate", "--prompts", "prompts.txt", "--model", model, "--duration", "0.2", "--seed", "1"]
    (tmp_path / "prompts.txt").write_text(prompts)
    launcher = ["accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"]
    launcher += ["--main_process_port", "0", "--mixed_precision", "no", "--dynamo_backend", "no", "-m", "audiogen_cli"]
    shared = audiogen(*arguments, "--out-dir", "two", module=launcher)
    assert (shared.returncode, len(shared.stdout.splitlines())) == (0, 3), shared.stderr
    alone = audiogen(*arguments, "--out-dir", "one")
    assert shared.stdout == alone.stdout.replace("one/", "two/")
    for path in (tmp_path / "one").glob("*.wav"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
