"""`audiogen eval` end to end: synthetic folders, a split, an untrained codec, a fake model and network."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.fakes import FakeGenerator, write_clips
from helpers.zoo import chirp

from audiogen_cli.commands.eval import _metrics, eval_, show_report
from audiogen_cli.commands.terminal.announce import describe_identity
from audiogen_cli.data.audio import write_audio
from audiogen_cli.errors import AudiogenError, InputError
from audiogen_cli.evaluation.metrics import reconstruction
from audiogen_cli.evaluation.references import load_references
from audiogen_cli.lm.generation.requests import GenerationRequest
from audiogen_cli.lm.generation.tracks import Prepared
from audiogen_cli.model_folder import fingerprint

NAMES = {f"clip-{index}": index for index in range(12)}
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return write_clips(tmp_path / "reference", NAMES)


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    return write_clips(tmp_path / "generated", {name: seed + 100 for name, seed in NAMES.items()})


def run(capsys: pytest.CaptureFixture[str], code: int = 0, **options: Any) -> dict[str, Any]:
    """Run the command with --json; its results, which must be those of results.json."""
    capsys.readouterr()
    assert eval_(json_=True, **options) == code
    results: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert json.loads((options["out"] / "results.json").read_text()) == results
    return results


@pytest.mark.usefixtures("network")
class TestFolders:
    def test_results(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, reference: Path, generated: Path
    ) -> None:
        results = run(capsys, reference=reference, generated=generated, out=tmp_path / "out")
        assert results["n"] == 12
        assert not results["partial"]
        assert set(results["metrics"]) == {"fad_fake", "kl_fake", "near_silent"}
        assert list(results["baselines"]) == [
            "reference",
            "reference halves",
            "white noise",
            "silence",
            "reference, shuffled",
        ]
        low, high = results["intervals"]["kl_fake"]
        assert low < results["metrics"]["kl_fake"] < high
        assert results["metrics"]["fad_fake"] < results["baselines"]["silence"]["fad_fake"]
        assert len(results["classifier"]["sha256"]) == len(results["reference_set"]) == 64
        assert results["resampler"] == "soxr HQ"
        assert {"audiogen-cli", "numpy", "torch"} <= set(results["versions"])

    def test_results_of_another_system_in_the_folder_by_default_stay(
        self,
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
        reference: Path,
        generated: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for _ in range(2):  # its own are replaced
            assert eval_(reference=reference, generated=generated) == 0
        capsys.readouterr()
        for other in ({"generated": reference}, {"generated": generated, "reference": generated}):
            with pytest.raises(InputError, match=r"has the results of another .*choose another --out"):
                eval_(**{"reference": reference, **other})
        assert json.loads(Path("runs/eval-folders/results.json").read_text())["generated"] == str(generated)

    def test_the_same_audio_has_no_distance(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, reference: Path
    ) -> None:
        results = run(capsys, reference=reference, generated=reference, out=tmp_path / "out")
        assert results["metrics"]["fad_fake"] == pytest.approx(0, abs=1e-6)
        assert results["metrics"]["kl_fake"] == pytest.approx(0, abs=1e-3)

    def test_all_variants_of_kl(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, reference: Path, generated: Path
    ) -> None:
        names = "kl_yamnet,kl-reverse,kl_exact,kl-sigmoid"
        results = run(capsys, reference=reference, generated=generated, metrics=names, out=tmp_path / "out")
        variants = {"kl_fake", "kl_reverse_fake", "kl_exact_fake", "kl_sigmoid_fake"}
        assert set(results["metrics"]) == variants | {"near_silent"}
        assert set(results["intervals"]) == variants

    def test_clips_of_a_folder_of_ones_own_under_the_names_that_generate_gives(
        self, capsys: pytest.CaptureFixture[str], audiogen: Run, tmp_path: Path, tiny_lm: Path
    ) -> None:
        for index in range(3):
            write_audio(tmp_path / "sounds" / "test" / "dog" / f"{index}.ogg", chirp(index, 1.0), 16_000)
        assert audiogen("prep", "--folder", "sounds", "--name", "mine", "--workers", "1").returncode == 0
        manifests = tmp_path / "data" / "manifests"
        names = [clip.name for clip in load_references("mine-test", manifests, None)[0]]
        assert names == ["test_dog_0.ogg", "test_dog_1.ogg", "test_dog_2.ogg"]
        (tmp_path / "prompts.csv").write_text("prompt,name\n" + "".join(f"dog,{name}\n" for name in names))
        options = ("--duration", "0.5", "--model", tiny_lm, "--out-dir", "out")
        assert audiogen("generate", "--prompts", "prompts.csv", *options).returncode == 0
        assert (tmp_path / "out" / names[0]).is_file()
        results = run(
            capsys, split="mine-test", manifests=manifests, generated=tmp_path / "out", out=tmp_path / "scores"
        )
        assert results["n"] == 3 and not any("belong to no clip" in warning for warning in results["warnings"])

    def test_table(self, capsys: pytest.CaptureFixture[str], tmp_path: Path, reference: Path, generated: Path) -> None:
        eval_(reference=reference, generated=generated, out=tmp_path / "out")
        printed = capsys.readouterr()
        title, header, first, *baselines = printed.out.splitlines()
        assert "12 clips" in title
        assert header.split() == ["fad_fake", "kl_fake", "near_silent"]
        assert first.startswith("generated")
        assert "[" in first
        assert [row.split("  ")[0] for row in baselines] == [
            "reference",
            "reference halves",
            "white noise",
            "silence",
            "reference, shuffled",
        ]
        assert "warning: only 12 clips" in printed.err
        assert str(tmp_path / "out" / "results.json") in printed.err

    @pytest.mark.parametrize("unpaired", [False, True])
    def test_the_generated_files_are_told_by_their_content(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, reference: Path, generated: Path, unpaired: bool
    ) -> None:
        def told(folder: Path) -> str:
            options = {"reference": reference, "generated": folder, "unpaired": unpaired}
            found: str = run(capsys, **options, metrics="fad", out=tmp_path / "out")["generated_set"]
            return found

        first = told(generated)
        shutil.copytree(generated, tmp_path / "copy")
        write_audio(tmp_path / "copy" / "clip-3.wav", chirp(99), 16_000)
        assert len(first) == 64 and told(tmp_path / "copy") != first  # another file under one name
        shutil.copy(generated / "clip-3.wav", tmp_path / "copy")
        assert told(tmp_path / "copy") == first

    def test_a_missing_file_is_listed_and_in_the_exit_code(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, reference: Path, generated: Path
    ) -> None:
        (generated / "clip-3.wav").unlink()
        results = run(capsys, code=1, reference=reference, generated=generated, out=tmp_path / "out")
        assert (results["n"], results["partial"]) == (11, True)
        assert [item["id"] for item in results["skipped"]] == ["clip-3"]

    def test_broken_and_far_too_short_files_are_skipped(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, reference: Path, generated: Path
    ) -> None:
        (generated / "clip-1.wav").write_bytes(b"RIFF, or not")
        write_audio(generated / "clip-2.wav", np.ones(100, np.float32), 16000)
        results = run(capsys, code=1, reference=reference, generated=generated, out=tmp_path / "out")
        reasons = {item["id"]: item["reason"] for item in results["skipped"]}
        assert set(reasons) == {"clip-1", "clip-2"}
        assert "0.1 s" in reasons["clip-2"]
        assert results["n"] == 10

    def test_warnings(self, capsys: pytest.CaptureFixture[str], tmp_path: Path, reference: Path) -> None:
        generated = write_clips(tmp_path / "generated", NAMES, duration=1.5, sample_rate=44_100)
        write_audio(generated / "clip-0.wav", np.zeros(66_150, np.float32), 44_100)
        results = run(capsys, reference=reference, generated=generated, limit=8, out=tmp_path / "out")
        text = "\n".join(results["warnings"])
        assert "partial: 8 of 12" in text
        assert "only 8 clips" in text
        assert "windows for embeddings of 60" in text
        assert "mixed sample rates (16000, 44100 Hz)" in text
        assert "8 generated clips are not as long" in text
        silent = results["metrics"]["near_silent"]
        assert (f"{silent} of 8 generated clips are near silent" in text) == (silent > 0)

    def test_a_longer_sound_is_cut_to_its_reference(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, reference: Path
    ) -> None:
        for name, seed in NAMES.items():
            write_audio(tmp_path / "longer" / f"{name}.wav", np.concatenate([chirp(seed), chirp(seed + 50)]), 16000)
        results = run(capsys, reference=reference, generated=tmp_path / "longer", out=tmp_path / "out")
        assert results["metrics"]["kl_fake"] == pytest.approx(0, abs=1e-3)

    def test_one_clip_has_no_halves(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, reference: Path, generated: Path
    ) -> None:
        results = run(capsys, reference=reference, generated=generated, limit=1, out=tmp_path / "out")
        assert results["metrics"]["fad_fake"] is not None  # a second is two windows
        assert results["baselines"]["reference halves"] == {"fad_fake": None}

    def test_a_codec_beside_a_folder(
        self,
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
        reference: Path,
        generated: Path,
        tiny_codec: Path,
    ) -> None:
        results = run(
            capsys, reference=reference, generated=generated, model=str(tiny_codec), limit=3, out=tmp_path / "out"
        )
        assert results["baselines"]["codec reconstruction"]["kl_fake"] > 0
        assert len(results["codec_fingerprint"]) == 64

    def test_class_hits_need_classes(self, tmp_path: Path, reference: Path, generated: Path) -> None:
        with pytest.raises(InputError, match="ESC-50"):
            eval_(reference=reference, generated=generated, metrics="class-hits", out=tmp_path / "out")


@pytest.mark.usefixtures("network")
class TestModel:
    @pytest.fixture
    def options(self, tmp_path: Path, clip_manifests: Path, tiny_codec: Path) -> dict[str, Any]:
        return {"split": "esc50-test", "manifests": clip_manifests, "model": str(tiny_codec), "out": tmp_path / "out"}

    def test_generates_one_sound_per_clip(
        self, capsys: pytest.CaptureFixture[str], generator: FakeGenerator, options: dict[str, Any]
    ) -> None:
        assert eval_(json_=True, guidance=1.5, **options) == 0
        printed = capsys.readouterr()
        results = json.loads(printed.out)
        assert f"model codec ({options['model']}), {fingerprint(Path(options['model']))[:12]}: codec's" in printed.err
        assert results["model_name"] == "tiny" and results["model_license"] == "CC BY 4.0, by the testers"
        assert describe_identity(results) == "model tiny (models/tiny), ffffffffffff: CC BY 4.0, by the testers"
        assert [request.text for request in generator.requests[:3]] == ["dog", "clock alarm", "rain"]
        assert {request.duration for request in generator.requests} == {0.5}
        assert len({request.seed for request in generator.requests}) == 12
        assert results["model_fingerprint"] == generator.fingerprint
        assert results["sampling"] == {
            "guidance": 1.5,
            "top_p": 0.25,
            "top_k": 0,
            "temperature": 1.0,
            "candidates": 1,
            "layers": 1,
            "passes": 0,
            "loop": False,
        }
        assert "codec reconstruction" in results["baselines"]
        assert results["generated"] is results["generated_set"] is None
        assert len(list((options["out"] / "generated").glob("*.wav"))) == 12

    def test_a_sound_lasts_as_long_as_the_recording_that_it_is_compared_with(
        self, capsys: pytest.CaptureFixture[str], generator: FakeGenerator, options: dict[str, Any], tmp_path: Path
    ) -> None:
        references, _ = load_references("esc50-test", options["manifests"], None)
        (tmp_path / "real").mkdir()
        lengths = [0.2 + 0.05 * number for number in range(len(references))]
        lengths[1] = 12.0
        for reference, seconds in zip(references, lengths, strict=True):
            write_audio(tmp_path / "real" / f"{reference.name}.wav", chirp(1, seconds), 16_000)
        (tmp_path / "real" / f"{references[0].name}.wav").write_bytes(b"no sound")
        generator.config = SimpleNamespace(max_frames=25, frame_rate=25.0)
        assert eval_(json_=True, reference=tmp_path / "real", **options) == 1
        printed = capsys.readouterr()
        assert "\nnote: trained on 1 s;" in printed.err
        results = json.loads(printed.out)
        assert results["n"] == len(references) - 1
        assert [skipped["id"] for skipped in results["skipped"]] == [references[0].id]
        assert sorted(request.duration for request in generator.requests) == pytest.approx([*lengths[2:], 10.0])

    def test_a_model_is_compared_with_the_one_it_was_trained_from(
        self, capsys: pytest.CaptureFixture[str], generator: FakeGenerator, options: dict[str, Any]
    ) -> None:
        options["split"] = "esc50-val,esc50-test"
        assert eval_(before=options["model"], report=True, **options) == 0
        assert "esc50-val-before" in (options["out"] / "report.html").read_text()
        rows = json.loads((options["out"] / "comparison.json").read_text())
        names = ["fad_fake", "kl_fake", "near_silent"]
        assert [(row["split"], row["metric"]) for row in rows] == [
            *(("esc50-val", name) for name in names),
            *(("esc50-test", name) for name in names),
        ]
        assert [row["n"] for row in rows] == [4] * 3 + [12] * 3 and {row["change"] for row in rows} == {0}
        table = capsys.readouterr().out.splitlines()
        assert table[0].split() == ["split", "clips", "metric", "before", "after", "change"] and len(table) == 7
        assert (options["out"] / "esc50-test-before" / "results.json").is_file()
        with pytest.raises(InputError, match="--before compares"):
            eval_(before=options["model"], generated=options["out"], **options)

    def test_a_second_run_makes_only_what_is_missing(
        self, capsys: pytest.CaptureFixture[str], generator: FakeGenerator, options: dict[str, Any]
    ) -> None:
        first = run(capsys, limit=5, **options)
        assert (first["run"]["reused"], len(generator.requests)) == (0, 5)
        second = run(capsys, **options)
        assert (second["run"]["reused"], len(generator.requests)) == (5, 12)
        (options["out"] / "generated" / "5-3-A-0.wav").unlink()
        third = run(capsys, **options)
        assert (third["run"]["reused"], len(generator.requests)) == (11, 13)
        assert third["metrics"] == second["metrics"]

    @pytest.mark.parametrize("task", ["generation", "continuation"])
    def test_results_and_report_do_not_tell_that_a_run_was_interrupted(
        self, capsys: pytest.CaptureFixture[str], generator: FakeGenerator, options: dict[str, Any], task: str
    ) -> None:
        def evaluate() -> tuple[dict[str, Any], dict[str, Any], bytes]:
            results = run(capsys, **options, task=task, prompt_seconds="0.1", limit=4)
            show_report(options["out"])
            capsys.readouterr()
            return results.pop("run"), results, (options["out"] / "report.html").read_bytes()

        calm, *whole = evaluate()
        next(options["out"].rglob("5-*.wav")).unlink()
        resumed, *again = evaluate()
        assert again == whole and 0 == calm["reused"] < resumed["reused"]
        assert list(json.loads((options["out"] / "results.json").read_text()))[-1] == "run"

    def test_another_number_format_or_device_makes_other_sounds_and_is_told(
        self, capsys: pytest.CaptureFixture[str], generator: FakeGenerator, options: dict[str, Any]
    ) -> None:
        told = []
        for device, dtype in (("cpu", "float32"), ("cuda:1", "float32"), ("cuda:0", "float32"), ("cuda:0", "int4")):
            generator.device, generator.dtype = device, dtype
            results = run(capsys, limit=2, **options)
            told.append((results["device"], results["dtype"], results["run"]["reused"]))
        assert told == [("cpu", "float32", 0), ("cuda", "float32", 0), ("cuda", "float32", 2), ("cuda", "int4", 0)]

    @pytest.mark.parametrize("change", [{"seed": 1}, {"guidance": 2.0}], ids=["seed", "guidance"])
    def test_other_settings_make_other_sounds(
        self,
        capsys: pytest.CaptureFixture[str],
        generator: FakeGenerator,
        options: dict[str, Any],
        change: dict[str, Any],
    ) -> None:
        first = run(capsys, limit=3, **options)
        second = run(capsys, limit=3, **change, **options)
        assert second["run"]["reused"] == 0
        assert second["metrics"]["kl_fake"] != first["metrics"]["kl_fake"]

    def test_another_model_makes_other_sounds(
        self, capsys: pytest.CaptureFixture[str], generator: FakeGenerator, options: dict[str, Any]
    ) -> None:
        run(capsys, limit=2, **options)
        generator.fingerprint = "0" * 64
        assert run(capsys, limit=2, **options)["run"]["reused"] == 0

    def test_a_sound_that_cannot_be_written_is_skipped_under_its_own_name(
        self, capsys: pytest.CaptureFixture[str], generator: FakeGenerator, options: dict[str, Any]
    ) -> None:
        run(capsys, **options)
        for name in ("5-7-A-0", "5-9-A-0"):
            (options["out"] / "generated" / f"{name}.wav").unlink()
        (options["out"] / "generated" / "5-9-A-0.wav").mkdir()  # in the way
        results = run(capsys, code=1, **options)
        assert [item["id"] for item in results["skipped"]] == ["esc50/5-9-A-0"]
        assert (results["n"], results["run"]["reused"]) == (11, 10)

    def test_a_prompt_that_the_model_cannot_read_is_skipped(
        self,
        capsys: pytest.CaptureFixture[str],
        generator: FakeGenerator,
        options: dict[str, Any],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def prepare(request: GenerationRequest) -> Prepared:
            if request.text == "rain":
                raise InputError("prompt 'rain' holds no word that the model knows; name a sound")
            return FakeGenerator.prepare(generator, request)

        monkeypatch.setattr(generator, "prepare", prepare)
        results = run(capsys, code=1, **options)
        assert results["n"] == 8 and {item["reason"].split(";")[0] for item in results["skipped"]} == {
            "prompt 'rain' holds no word that the model knows"
        }

    def test_a_sidecar_never_vouches_for_audio_of_a_later_run(
        self,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        generator: FakeGenerator,
        options: dict[str, Any],
    ) -> None:
        first = run(capsys, limit=2, **options)
        with monkeypatch.context() as patch:  # the disk fills up after the audio of another seed
            patch.setattr("audiogen_cli.lm.generation.writer.write_text", _full_disk)
            with pytest.raises(AudiogenError, match=r"none of 2 clips.*No space left"):
                eval_(seed=1, limit=2, **options)
        again = run(capsys, limit=2, **options)
        assert again["run"]["reused"] == 0
        assert again["metrics"] == first["metrics"]

    @pytest.mark.parametrize("task", ["generation", "continuation"])
    def test_a_helping_process_generates_and_leaves_the_rest_to_the_main_one(
        self,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        generator: FakeGenerator,
        options: dict[str, Any],
        task: str,
    ) -> None:
        monkeypatch.setattr(f"audiogen_cli.evaluation.tasks.{task}.is_main_process", lambda: False)
        assert eval_(**options, task=task, prompt_seconds="0.1", limit=2) == 0
        assert len(generator.requests) == (2 if task == "generation" else 6)
        assert not (options["out"] / "results.json").exists()
        assert not capsys.readouterr().out

    def test_class_hits(
        self, capsys: pytest.CaptureFixture[str], generator: FakeGenerator, options: dict[str, Any]
    ) -> None:
        results = run(capsys, metrics="class-hits", limit=6, **options)
        assert set(results["metrics"]) == {"class_hits_top1_fake", "class_hits_top5_fake", "near_silent"}
        assert "class_hits_top5_fake" in results["baselines"]["reference"]
        assert "reference halves" not in results["baselines"]
        per_class = results["details"]["class_hits"]["generated"]
        assert {category: hits["n"] for category, hits in per_class.items()} == {"clock_alarm": 2, "dog": 2, "rain": 2}


def _full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


class TestCodec:
    def test_results(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, clip_manifests: Path, tiny_codec: Path
    ) -> None:
        results = run(
            capsys,
            task="codec",
            split="esc50-test",
            manifests=clip_manifests,
            model=str(tiny_codec),
            out=tmp_path / "out",
        )
        metrics = results["metrics"]
        assert metrics["kbps"] == pytest.approx(25 * 2 * 4 / 1000)
        assert metrics["paper_kbps"] == pytest.approx(25 * 2 * 4 / 1024)
        assert 0 <= metrics["entropy_kbps"] <= metrics["kbps"]  # the untrained codec may use one code alone
        assert 0 < metrics["codes_used"] <= 1
        assert metrics["si_snr"] < 0  # untrained
        for name in ("si_snr", "mel_distance_db"):
            low, high = results["intervals"][name]
            assert low < metrics[name] < high
        assert metrics["mel_distance_db"] > 0
        assert results["baselines"]["another clip"]["mel_distance_db"] > 0
        assert len(results["details"]["code_usage"]["entropy_bits"]) == 2
        assert results["n"] == 12
        assert [results[name] for name in ("seed", "device", "dtype")] == [None, "cpu", "float32"]

    def test_the_codec_of_a_language_model_and_chosen_metrics(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, reference: Path, tiny_codec: Path
    ) -> None:
        model = tmp_path / "lm"
        model.mkdir()
        (model / "config.json").write_text("{}")
        shutil.copytree(tiny_codec, model / "codec")
        results = run(
            capsys, task="codec", reference=reference, model=str(model), metrics="si-snr", limit=2, out=tmp_path / "out"
        )
        assert set(results["metrics"]) == {"si_snr", "si_snr_aligned"}
        assert set(results["baselines"]["another clip"]) == {"si_snr", "si_snr_aligned"}
        assert results["partial"]

    def test_visqol_counts_the_clips_that_have_a_value(
        self,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        reference: Path,
        tiny_codec: Path,
    ) -> None:
        values = iter([float("nan"), *[4.0] * 24])  # a silent clip, or one too short for it
        monkeypatch.setattr(reconstruction, "visqol", lambda *_: next(values))
        monkeypatch.setattr(reconstruction.Visqol, "check", lambda self: None)
        monkeypatch.setattr("audiogen_cli.evaluation.run.versions", lambda *names: dict.fromkeys(names, "1"))
        where = {"reference": reference, "model": str(tiny_codec), "out": tmp_path / "out"}
        results = run(capsys, task="codec", metrics="visqol", limit=3, **where)
        assert (results["metrics"]["visqol"], results["details"]["visqol_clips"]) == (4.0, 2)
        assert results["versions"]["visqol-python"] == "1"
        assert "visqol-python" not in run(capsys, task="codec", metrics="si-snr", limit=3, **where)["versions"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"split": "esc50-test", "task": "karaoke"},
            "unknown task 'karaoke': choose one of generation, continuation, codec",
        ),
        ({"split": "esc50-test", "metrics": "fad,bleu"}, "unknown metric 'bleu' for the task generation"),
        ({"split": "esc50-test", "task": "codec", "metrics": "fad"}, "unknown metric 'fad' for the task codec"),
        ({"split": "esc50-test", "classifier": "ears"}, "unknown classifier 'ears'"),
        ({}, "give --split <dataset>-<split>, or --reference"),
        ({"reference": Path("x")}, "give --split, or --generated"),
        ({"split": "esc50-test", "top_p": 1.5}, "top_p must lie in"),
        ({"split": "esc50-test", "device": "toaster"}, "unknown device 'toaster'"),
        ({"split": "esc50-test", "task": "codec", "generated": Path("x")}, "--generated does not go with --task codec"),
    ],
)
def test_what_does_not_exist_or_go_together(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        eval_(out=tmp_path / "out", **options)


def test_results_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written to"):
        eval_(split="esc50-test", out=tmp_path / "file" / "out")


def test_importing_the_command_and_the_library_imports_no_torch() -> None:
    code = (
        "import sys, audiogen_cli.commands.eval, audiogen_cli.evaluation.run;"
        "assert not {'torch', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.shared
@pytest.mark.usefixtures("network")
def test_another_fold_of_esc50_is_nearer_than_noise(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, esc50: Path
) -> None:
    for fold, folder in (("1", "reference"), ("2", "generated")):
        (tmp_path / folder).mkdir()
        # By class, so that both sides hold the same 20 classes, once each.
        by_class = {path.stem.split("-")[-1]: path for path in sorted((esc50 / "audio").glob(f"{fold}-*"))}
        for target in sorted(by_class)[:20]:
            (tmp_path / folder / f"{target}{by_class[target].suffix}").symlink_to(by_class[target])
    results = run(capsys, reference=tmp_path / "reference", generated=tmp_path / "generated", out=tmp_path / "out")
    for metric in ("fad_fake", "kl_fake"):
        assert results["metrics"][metric] < results["baselines"]["white noise"][metric]
        assert results["metrics"][metric] < results["baselines"]["silence"][metric]


@pytest.mark.usefixtures("network")
def test_a_diffusion_model_is_scored_in_as_many_passes_as_asked_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, clip_manifests: Path, tiny_diffusion: Path
) -> None:
    options = {"split": "esc50-test", "manifests": clip_manifests, "model": str(tiny_diffusion), "limit": 3}
    results = run(capsys, passes=2, out=tmp_path / "two", **options)
    assert (results["n"], results["sampling"]["passes"], results["model_fingerprint"]) == (
        3,
        2,
        fingerprint(tiny_diffusion),
    )
    again = run(capsys, passes=2, out=tmp_path / "two", **options)
    assert (again["run"]["reused"], again["metrics"]) == (3, results["metrics"])
    other = run(capsys, passes=3, out=tmp_path / "three", **options)
    name = sorted(path.name for path in (tmp_path / "two" / "generated").glob("*.wav"))[0]
    two, three = ((tmp_path / folder / "generated" / name).read_bytes() for folder in ("two", "three"))
    assert other["sampling"]["passes"] == 3 and two != three


def test_metrics_are_named_as_results_name_them_or_short() -> None:
    given = "fad_yamnet,fd_pann_cnn14_32k,kl_pann_16k,is_pann_cnn14_32k,class_hits_top1_yamnet,fd_infinity_passt,clap"
    named = ("fad", "kl", "is", "class_hits", "fad_infinity", "clap")
    assert _metrics(given) == named
    assert _metrics("fad_vgish,nonsense") == ("fad_vgish", "nonsense")  # which EvalConfig refuses


def test_systems_are_for_listening_tests() -> None:
    with pytest.raises(InputError, match="--system is for --task listening"):
        eval_(split="mini-test", system=["a=b"])
