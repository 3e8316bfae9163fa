"""Scoring of listening tests: hand-computed values, every rule, and files of every kind."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from audiogen_cli.commands.eval import eval_
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.listening.rater_filters import ReferenceRule, filter_ratings
from audiogen_cli.evaluation.listening.ratings import Plan, Rating, read_ratings
from audiogen_cli.evaluation.listening.scores import summarize
from audiogen_cli.evaluation.listening.statistics import agreements, crowdmos, paired_difference, plain_half_width

NAN = float("nan")
MEAN = ReferenceRule()
PLAN = Plan("t", "esc50-test", 0, {"i1": 2.0}, {("ovl", "i1"): {"aa": "reference", "bb": "model", "cc": "anchor35"}})


def ratings(table: dict[str, Sequence[Sequence[float]]], systems: Sequence[str], question: str = "ovl") -> pd.DataFrame:
    """Ratings from rater → a row per item with a score per system."""
    found = [
        Rating(rater, question, f"i{i}", system, score)
        for rater, rows in table.items()
        for i, row in enumerate(rows)
        for system, score in zip(systems, row, strict=True)
    ]
    return pd.DataFrame(found)


def matrix(scores: Sequence[Sequence[float]]) -> pd.DataFrame:
    """Ratings of one system from a row per rater with a score per item; NaN is none."""
    found = [(rater, item, score) for rater, row in enumerate(scores) for item, score in enumerate(row)]
    return pd.DataFrame(found, columns=["rater", "item", "score"]).dropna()


def raters(found: pd.DataFrame) -> set[str]:
    return set(found.rater)


class TestIntervals:
    def test_golden_example_of_crowdmos(self) -> None:
        spread = crowdmos(matrix([[80, 62, 90, 71], [74, 55, NAN, 69], [88, 70, 93, 60]]))
        assert spread.mean == pytest.approx(73.818182)
        assert spread.item == pytest.approx(121.5257, abs=1e-4)
        assert spread.rater == pytest.approx(28.4076, abs=1e-4)
        assert spread.noise == 0
        assert spread.variance == pytest.approx(40.76039, abs=1e-5)
        assert spread.half_width == pytest.approx(27.46980, abs=1e-4)

    def test_plain_interval_of_the_golden_example(self) -> None:
        scores = pd.Series([80, 62, 90, 71, 74, 55, 69, 88, 70, 93, 60], dtype=float)
        assert plain_half_width(scores) == pytest.approx(8.49682, abs=1e-5)
        assert plain_half_width(scores[:1]) is None

    def test_two_by_two_by_hand(self) -> None:
        # a 100, b 25, c 125: item 100, rater 25, noise 0; variance (100 + 25) * 8/16; t(1) = 12.7062.
        spread = crowdmos(matrix([[40.0, 60], [50, 70]]))
        assert (spread.item, spread.rater, spread.noise, spread.variance) == (100, 25, 0, 62.5)
        assert spread.half_width == pytest.approx(12.706205 * 62.5**0.5, rel=1e-6)

    def test_a_rating_per_rater_leaves_rater_and_noise_one(self) -> None:
        # Items of two raters each: within items 25, in all 125.
        spread = crowdmos(matrix([[40, NAN], [50, NAN], [NAN, 60], [NAN, 70]]))
        assert (spread.item, spread.rater, spread.noise) == (100, 0, 25)

    def test_a_rating_per_item_leaves_item_and_noise_one(self) -> None:
        spread = crowdmos(matrix([[40, 50, NAN, NAN], [NAN, NAN, 60, 70]]))
        assert (spread.item, spread.rater, spread.noise) == (0, 100, 25)

    def test_single_ratings_are_all_noise(self) -> None:
        spread = crowdmos(matrix([[40, NAN], [NAN, 60]]))
        assert (spread.noise, spread.variance) == (100, 50)

    def test_one_rater_has_no_crowdmos_interval(self) -> None:
        assert crowdmos(matrix([[40.0, 60.0]])).half_width is None

    def test_paired_difference(self) -> None:
        first = pd.DataFrame([[50, 60, 70], [55, NAN, 75]])
        mean, (low, high) = paired_difference(first, first - 5, seed=0) or (0, (0, 0))
        assert mean == pytest.approx(5) and low == pytest.approx(5) and high == pytest.approx(5)
        assert paired_difference(first, pd.DataFrame(np.full((2, 3), NAN)), seed=0) is None
        mean, (low, high) = paired_difference(
            pd.DataFrame([[0.0, 10], [0, 10]]), pd.DataFrame(np.zeros((2, 2))), 0
        ) or (0, (0, 0))
        assert (mean, low, high) == (5, 0, 10)


SYSTEMS = ("reference", "anchor35", "model")
GOOD = [[95, 20, 60], [90, 25, 65], [92, 22, 55]]


class TestRules:
    @pytest.mark.parametrize(("reference", "stays"), [(84, False), (85, True), (86, True)])
    def test_the_paper_drops_raters_whose_reference_is_below_85(self, reference: float, stays: bool) -> None:
        found = filter_ratings(ratings({"a": GOOD, "b": GOOD, "c": [[reference, 20, 60]] * 3}, SYSTEMS), MEAN, None)
        assert ("c" in raters(found.kept)) is stays
        if not stays:
            [gone] = found.dropped
            assert (gone.rater, gone.ratings, gone.value) == ("c", 9, "mean 84")
            assert gone.rule == "reference below 85 (mean)"

    def test_one_low_reference_under_each_rule(self) -> None:
        once = [[100, 20, 60], [80, 25, 65], [100, 22, 55]]
        given = ratings({"a": GOOD, "b": once}, SYSTEMS)
        left = {
            rule: len(filter_ratings(given, ReferenceRule.parse(rule), None).kept)
            for rule in ("mean", "any", "share:0.5", "share:0.15", "page", "bs1534")
        }
        assert left == {"mean": 18, "any": 9, "share:0.5": 18, "share:0.15": 9, "page": 15, "bs1534": 9}

    @pytest.mark.parametrize(("name", "least"), [("mean", 85), ("page", 85), ("share:0.1", 85), ("bs1534", 90)])
    def test_results_name_the_score_that_a_rule_asks_for(self, name: str, least: int) -> None:
        rule = ReferenceRule.parse(name)
        given = ratings({"a": GOOD, "b": GOOD, "c": [[84, 20, 60]] * 3, "d": [[88, 20, 60]] * 3}, SYSTEMS)
        assert summarize(given, [], rule, None, seed=0)["rules"]["reference"] == f"hidden reference >= {least}, {name}"
        found = filter_ratings(given, rule, None)
        assert raters(found.kept) == {"a", "b", "d"} - ({"d"} if least > 88 else set())
        assert {gone.rule for gone in found.dropped} == {f"reference below {least} ({name})"}

    def test_bs1534_looks_at_the_mid_anchor(self) -> None:
        systems = ("reference", "anchor70", "model")
        given = ratings({"a": [[95, 50, 60]] * 3, "b": [[95, 91, 60]] * 3}, systems)
        assert raters(filter_ratings(given, ReferenceRule.parse("bs1534"), None).kept) == {"a"}

    @pytest.mark.parametrize("text", ["", "often", "share", "share:2", "mean:3", "share:x"])
    def test_other_rules_are_refused(self, text: str) -> None:
        with pytest.raises(InputError, match="choose mean, any"):
            ReferenceRule.parse(text)

    def test_a_random_clicker_goes(self) -> None:
        clicker = [[86, 100, 85], [90, 80, 92], [85, 99, 95]]  # knows the reference, no more
        found = filter_ratings(ratings({"a": GOOD, "b": GOOD, "c": clicker}, SYSTEMS), MEAN, None)
        assert [(gone.rater, gone.rule) for gone in found.dropped] == [("c", "random clicker (r < 0.25)")]

    def test_one_score_for_everything_goes(self) -> None:
        found = filter_ratings(ratings({"a": GOOD, "b": GOOD, "c": [[100, 100, 100]] * 3}, SYSTEMS), MEAN, None)
        assert [(gone.rater, gone.value) for gone in found.dropped] == [("c", "every rating is 100")]
        assert len(found.flags) == 3  # and its sliders look untouched

    @pytest.mark.parametrize(("n_pages", "stays"), [(9, True), (10, False)])
    def test_an_outlier_goes_from_ten_pages_on(self, n_pages: int, stays: bool) -> None:
        odd = [[100, 30, 0]]  # against (95, 20, 60): r = 0.654
        table = {name: [[95, 20, 60]] * n_pages for name in "ab"} | {"c": odd * n_pages}
        given = ratings(table, SYSTEMS)
        r = agreements(given)["c"]
        assert r == pytest.approx(np.corrcoef([100, 30, 0], [95, 20, 60])[0, 1]) and 0.25 < r < 0.7
        found = filter_ratings(given, MEAN, None)
        assert ("c" in raters(found.kept)) is stays
        assert any("too few to drop" in flag for flag in found.flags) is stays

    def test_agreement_is_with_the_others_alone(self) -> None:
        found = agreements(ratings({"a": [[1, 2, 3]], "b": [[2, 4, 9]], "c": [[3, 1, 2]]}, SYSTEMS))
        assert found["a"] == pytest.approx(np.corrcoef([1, 2, 3], [2.5, 2.5, 5.5])[0, 1])

    def test_agreement_of_two_systems_is_by_sound(self) -> None:
        found = agreements(ratings({"a": [[1, 2], [3, 5]], "b": [[2, 2], [9, 4]]}, ("reference", "model")))
        assert found["a"] == pytest.approx(np.corrcoef([1, 2, 3, 5], [2, 2, 9, 4])[0, 1])

    def test_a_single_rater_is_judged_by_nobody(self) -> None:
        assert agreements(ratings({"a": GOOD}, SYSTEMS)) == {"a": None}
        assert raters(filter_ratings(ratings({"a": GOOD}, SYSTEMS), MEAN, None).kept) == {"a"}

    @pytest.mark.parametrize(
        ("marks", "value"),
        [
            ([True, True, False], "1 of 3 sounds not played to the end"),
            ([True, True], "2 of 3 sounds rated"),
            ([True, True, True], None),
        ],
    )
    def test_a_page_not_heard_to_the_end_goes(self, marks: list[bool], value: str | None) -> None:
        systems = ("reference", "model", "anchor35")
        given = [Rating("a", "ovl", "i1", systems[i], 90, 1.0, mark) for i, mark in enumerate(marks)]
        assert [gone.value for gone in filter_ratings(pd.DataFrame(given), MEAN, PLAN).dropped] == (
            [value] if value else []
        )

    @pytest.mark.parametrize(("seconds", "stays"), [(5.0, False), (6.0, True)])
    def test_time_stands_in_for_a_log(self, seconds: float, stays: bool) -> None:
        given = [Rating("a", "ovl", "i1", system, 90, seconds) for system in ("reference", "model", "anchor35")]
        found = filter_ratings(pd.DataFrame(given), MEAN, PLAN)
        assert (len(found.kept) > 0) is stays
        assert [gone.value for gone in found.dropped] == ([] if stays else ["5 s on a page of 3 x 2 s"])


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def written(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return path

    return written


WEBMUSHRA = "session_uuid,trial_id,rating_stimulus,rating_score,rating_time,rating_comment\n"


class TestFiles:
    def test_plain_list(self, write: Callable[[str, str], Path]) -> None:
        path = write("r.csv", "rater;item;system;score;complete\nann;x;model;55,5;1\nbob;x;model;60;no\n")
        found, skipped, _ = read_ratings([path], None)
        assert found == [
            Rating("ann", "score", "x", "model", 55.5, None, True),
            Rating("bob", "score", "x", "model", 60, None, False),
        ]
        assert not skipped

    def test_our_page_through_its_plan(self, write: Callable[[str, str], Path]) -> None:
        header = "test,rater,item,question,stimulus,score,seconds,complete,moved,position\n"
        rows = "t,ann,i1,ovl,bb,40,7.5,1,1,1\nt,ann,i1,ovl,zz,40,7.5,1,1,2\nu,ann,i1,ovl,aa,40,7.5,1,1,3\n"
        path = write("r.csv", header + rows)
        found, skipped, _ = read_ratings([path], PLAN)
        assert found == [Rating("ann", "ovl", "i1", "model", 40, 7.5, True, True)]
        assert [item.id for item in skipped] == [f"{path}, line 3", f"{path}, line 4"]
        assert "no stimulus 'zz'" in skipped[0].reason and "another test (u" in skipped[1].reason
        with pytest.raises(InputError, match="blind names"):
            read_ratings([path], None)

    def test_webmushra_without_questionnaire(self, write: Callable[[str, str], Path]) -> None:
        path = write("r.csv", WEBMUSHRA + "u1,ovl-i1,bb,40,6500,\nu1,ovl-i1,reference,90,6500,\n")
        assert read_ratings([path], PLAN)[0] == [
            Rating("u1", "ovl", "i1", "model", 40, 6.5),
            Rating("u1", "ovl", "i1", "reference", 90, 6.5),
        ]

    def test_webmushra_with_questionnaire_and_shifted_rows(self, write: Callable[[str, str], Path]) -> None:
        text = f"session_test_id,rater,{WEBMUSHRA}t,ann,u1,ovl-i1,bb,40,6500,\nt,u2,ovl-i1,bb,40,6500,\n"
        found, skipped, _ = read_ratings([write("r.csv", text)], PLAN)
        assert [(rating.rater, rating.name) for rating in found] == [("u1", "ann")]
        assert [item.reason for item in skipped] == ["another number of columns than the header"]

    def test_the_later_of_two_ratings_counts(self, write: Callable[[str, str], Path]) -> None:
        first = write("1.csv", "rater,item,system,score\nann,x,model,10\n")
        second = write("2.csv", "rater,item,system,score\nann,x,model,70\nann,y,model,20\n")
        found, _, warnings = read_ratings([first, second], None)
        assert [rating.score for rating in found] == [70, 20]
        assert warnings == [
            "'ann' rated the same sounds differently in two files; the later one counts: are these two people?"
        ]

    def test_a_session_of_webmushra_is_a_rater_and_equal_answers_are_said(
        self, write: Callable[[str, str], Path]
    ) -> None:
        text = f"session_test_id,email,age,{WEBMUSHRA}"
        text += "".join(f"t,,30,u{n},ovl-i1,{name},40,6500,\n" for n in range(6) for name in ("bb", "reference"))
        found, skipped, warnings = read_ratings([write("r.csv", text)], PLAN)
        assert len(found) == 12 and len({rating.rater for rating in found}) == 6 and not skipped
        assert warnings == ["6 sessions answered '30'; each counts as a rater"]

    @pytest.mark.parametrize(
        "content",
        [
            "rater\titem\tsystem\tscore\nann\tx\tmodel\t10\n".encode("utf-16"),
            b"sep=;\r\nRater;Item;System;Score\r\nann;x;model;10\r\n",
        ],
        ids=["utf-16", "sep"],
    )
    def test_tables_as_spreadsheets_save_them(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "r.csv").write_bytes(content)
        assert read_ratings([tmp_path / "r.csv"], None)[0] == [Rating("ann", "score", "x", "model", 10)]

    def test_names_are_one_printable_line(self, write: Callable[[str, str], Path]) -> None:
        path = write("r.csv", 'rater,item,system,score\n"an\x1b[31mn\n",x,model,10\n')
        assert [rating.rater for rating in read_ratings([path], None)[0]] == ["an [31mn"]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "header must hold rater,item,system,score"),
            ("a,b\n1,2\n", "header must hold"),
            ("rater,item,system,score\n", "no ratings in"),
            ("rater,item,system,score\nann,x,model,101\n", "no number from 0 to 100"),
            ("rater,item,system,score\nann,x,model,nan\n", "no number from 0 to 100"),
            ("rater,item,system,score\n,x,model,1\n", "no rater, item or system"),
        ],
    )
    def test_what_is_no_rating_file(self, write: Callable[[str, str], Path], text: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            read_ratings([write("r.csv", text)], None)


class TestSummary:
    def test_by_hand(self) -> None:
        table = {"a": [[90, 20, 40], [92, 22, 60]], "b": [[94, 24, 50], [96, 26, 70]], "c": [[80, 20, 10]] * 2}
        found = summarize(ratings(table, SYSTEMS), [], MEAN, None, seed=0)
        ovl = found["details"]["ovl"]
        model = ovl["systems"]["model"]
        assert list(ovl["systems"]) == ["reference", "anchor35", "model"]
        assert model["mean"] == found["metrics"]["ovl/model"] == 55  # 40, 60, 50, 70
        assert model["ci95"] == pytest.approx(3.182446 * (500 / 3) ** 0.5 / 2, rel=1e-6)  # t(3), SD 12.91
        assert model["crowdmos_ci95"] == pytest.approx(12.706205 * 62.5**0.5, rel=1e-6)
        assert (model["mean_before"], model["ratings_before"]) == (pytest.approx(40), 6)
        assert ovl["raters"] == {"before": 3, "after": 2}
        assert ovl["dropped"][0]["rater"] == "c"
        assert found["warnings"] == ["ovl: 2 of 2 items have fewer than 5 raters left"]
        assert found["intervals"]["ovl/model"] == (55 - model["ci95"], 55 + model["ci95"])

    def test_a_question_is_judged_by_itself(self) -> None:
        given = pd.concat(
            [ratings({"a": GOOD, "b": [[80, 20, 60]] * 3}, SYSTEMS), ratings({"b": GOOD}, SYSTEMS, "rel")]
        )
        found = summarize(given, [], MEAN, None, seed=0)
        assert found["details"]["ovl"]["raters"]["after"] == found["details"]["rel"]["raters"]["after"] == 1
        assert list(found["details"]) == ["ovl", "rel"]

    def test_nothing_left(self) -> None:
        found = summarize(ratings({"a": [[10, 20, 60]] * 3}, SYSTEMS), [], MEAN, None, seed=0)
        assert found["details"]["ovl"]["systems"]["model"]["mean"] is None
        assert found["warnings"] == ["ovl: no rating is left"]
        assert json.dumps(found, allow_nan=False)


class TestCommand:
    def test_json_of_several_files(
        self, write: Callable[[str, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        rows = "x,ovl,reference,95\nRATER,x,ovl,model,60\nRATER,y,ovl,reference,90\nRATER,y,ovl,model,50\n"
        for rater in ("ann", "bob"):
            text = f"rater,item,question,system,score\nRATER,{rows}".replace("RATER", rater)
            write(f"{rater}.csv", text)
        assert eval_(score=[tmp_path / "ann.csv", tmp_path / "bob.csv"], out=tmp_path / "out", json_=True) == 0
        found = json.loads(capsys.readouterr().out)
        assert found == json.loads((tmp_path / "out" / "results.json").read_text())
        assert found["task"] == "listening" and found["metrics"] == {"ovl/reference": 92.5, "ovl/model": 55}

    def test_table_and_reasons(
        self, write: Callable[[str, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "in").mkdir()
        lines = [
            f"{r.rater},{r.item},{r.system},{r.score}" for r in ratings({"a": GOOD, "b": GOOD}, SYSTEMS).itertuples()
        ]
        write("in/r.csv", "\n".join(["rater,item,system,score", *lines, "c,i0,reference,50", "c,i0,model,x"]) + "\n")
        assert eval_(score=[tmp_path / "in"]) == 1  # one row is no rating
        out, err = capsys.readouterr()
        assert "ratings, 2 of 3 raters" in out and re.search(
            r"^model +60 +4\.69 ", out, re.MULTILINE
        )  # 60, 65, 55 twice: t(5) = 2.5706, SD 4.4721
        assert "dropped c (1 ratings): reference below 85" in err
        assert "line 21: score 'x' is no number" in err

    def test_results_of_another_task_stay(self, write: Callable[[str, str], Path], tmp_path: Path) -> None:
        path = write("results.json", '{"task": "generation"}')
        with pytest.raises(InputError, match="task generation; choose another --out"):
            eval_(score=[write("r.csv", "rater,item,system,score\na,x,model,5\n")], out=tmp_path)
        assert path.read_text() == '{"task": "generation"}'

    def test_one_line_for_a_missing_file(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "audiogen_cli", "eval", "--score", str(tmp_path / "none.csv")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1 and "No such file" in done.stderr


def test_a_plan_that_is_none(tmp_path: Path) -> None:
    bad: list[Any] = ["", "[]", "{}", '{"test": "t", "split": "a", "seed": 0, "items": [1]}']
    for text in bad:
        (tmp_path / "plan.json").write_text(text)
        with pytest.raises(InputError, match=r"not the plan|not readable as JSON"):
            Plan.load(tmp_path / "plan.json")
