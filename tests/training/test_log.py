"""A run's records: metrics read as one undisturbed run, and settings that may not change are named."""

import json
import math
from dataclasses import dataclass, replace

import pytest

from audiogen_cli.errors import InputError
from audiogen_cli.training import log as log_module
from audiogen_cli.training.log import RunLog, record_run


@dataclass(frozen=True)
class Recipe:
    lr: float = 0.1
    max_steps: int = 10
    schedule: str = "constant"


def test_lines_after_the_resumed_step_are_cut(tmp_path):
    with RunLog(tmp_path, 0, 10) as log:
        for step in range(1, 6):
            log.write(step, {"loss": float(step)})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # killed in mid-line
    with RunLog(tmp_path, 3, 10) as log:
        log.write(4, {"loss": 40.0})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0)]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_in_the_place_of_metrics_is_not_followed(tmp_path, there):
    if there:
        (tmp_path / "victim").write_text("mine")
    (tmp_path / "metrics.jsonl").symlink_to(tmp_path / "victim")
    RunLog(tmp_path, 0, 10).write(1, {"loss": 3.0})
    assert (tmp_path / "victim").exists() == there
    assert not there or (tmp_path / "victim").read_text() == "mine"


def test_the_first_step_is_shown_at_once_and_slow_ones_by_the_minute(tmp_path, monkeypatch):
    with RunLog(tmp_path, 20, 99, every=10) as log:
        assert [step for step in range(21, 41) if log.due(step)] == [21, 30, 40]
        monkeypatch.setattr(log_module.time, "monotonic", lambda: log._logged + 61)
        assert log.due(33)


def test_only_lines_that_no_interruption_changes_are_kept(tmp_path, capsys):
    def run(start, end):
        with RunLog(tmp_path, start, 25, every=10) as log:
            for step in range(start + 1, end + 1):
                log.write(step, {"loss": 1.0})

    run(0, 13)
    run(13, 25)
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 10, 20]
    assert "train step 14:" in capsys.readouterr().err


def test_only_the_main_process_writes(tmp_path, capsys):
    with RunLog(tmp_path, 0, 10, enabled=False) as log:
        log.write(1, {"loss": 1.0})
        log.say("hello")
    assert not (tmp_path / "metrics.jsonl").exists()
    assert capsys.readouterr() == ("", "")


def test_every_process_names_what_it_cannot_read_once(tmp_path, capsys):
    with RunLog(tmp_path, 0, 10, enabled=False) as log:
        for _ in range(2):
            log.leave_out({"a": "a.wav: not audio"})
    assert capsys.readouterr().err.count("left out: a.wav: not audio (1 so far)") == 1


def test_a_run_of_an_older_version_goes_on_with_the_defaults_of_new_settings(tmp_path):
    record_run(tmp_path, Recipe(), {"rows": 3})
    document = json.loads((tmp_path / "run.json").read_text())
    del document["recipe"]["lr"]  # as if the setting had come later
    (tmp_path / "run.json").write_text(json.dumps(document))
    record_run(tmp_path, Recipe(), {"rows": 3})
    (tmp_path / "run.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"recipe\.lr = 0\.1, now it is 0\.5"):
        record_run(tmp_path, replace(Recipe(), lr=0.5), {"rows": 3})


def test_other_data_is_refused_but_for_runs_that_did_not_record_it(tmp_path):
    record_run(tmp_path, Recipe(), {"rows": 3})
    record_run(tmp_path, Recipe(), {"rows": 3, "training_data": "a"})
    with pytest.raises(InputError, match=r"inputs\.training_data = a, now it is b"):
        record_run(tmp_path, Recipe(), {"rows": 3, "training_data": "b"})


def test_a_change_that_is_taken_is_said(tmp_path, capsys):
    record_run(tmp_path, Recipe(schedule="cosine"), {"license": "a"})
    assert capsys.readouterr().err == ""
    record_run(tmp_path, Recipe(max_steps=20, schedule="cosine"), {"license": "a"})
    said = capsys.readouterr().err
    assert said.count("note:") == 1 and "max_steps was 10, now it is 20, where the cosine" in said
    with pytest.raises(InputError, match=r"inputs\.datasets = \['a'\], now it is \['b'\]"):
        for datasets in (["a"], ["b"]):
            record_run(tmp_path / "of", Recipe(), {"datasets": datasets})


def test_fewer_steps_than_there_are_is_said(tmp_path, capsys):
    RunLog(tmp_path, 10, 10)
    assert capsys.readouterr().err == ""
    RunLog(tmp_path, 10, 8)
    assert "step 10 is done already: max_steps 8 takes nothing back" in capsys.readouterr().err


def test_a_finished_model_in_the_folder_of_a_training_that_goes_on_is_named(tmp_path, capsys):
    RunLog(tmp_path, 10, 20)
    assert capsys.readouterr().err == ""
    (tmp_path / "config.json").write_text("{}")
    RunLog(tmp_path, 10, 10)
    assert capsys.readouterr().err == ""
    RunLog(tmp_path, 10, 20)
    assert f"{tmp_path} stays the model of the training's former end until step 20" in capsys.readouterr().err


def test_a_number_that_is_not_finite_is_null_in_the_file(tmp_path, capsys):
    RunLog(tmp_path, 0, 10).write(1, {"loss": math.nan, "lr": 0.5, "mfu": None})
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail) == {
        "step": 1, "kind": "train", "loss": None, "lr": 0.5, "mfu": None,
    }  # fmt: skip
    assert "loss nan" in capsys.readouterr().err


def test_a_changed_setting_is_refused_by_name_and_a_longer_run_is_not(tmp_path):
    record_run(tmp_path, Recipe(), {"rows": 3})
    record_run(tmp_path, Recipe(max_steps=20), {"rows": 3})
    with pytest.raises(InputError, match=r"recipe\.lr = 0\.1, now it is 0\.2"):
        record_run(tmp_path, replace(Recipe(), lr=0.2), {"rows": 3})
    with pytest.raises(InputError, match=r"inputs\.rows = 3, now it is 4"):
        record_run(tmp_path, Recipe(), {"rows": 4})
    written = json.loads((tmp_path / "run.json").read_text())
    assert written["recipe"]["max_steps"] == 20
    assert "python" in written["versions"]
