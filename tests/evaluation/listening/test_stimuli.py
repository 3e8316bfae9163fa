"""Preparing a listening test: blind names, matched levels, anchors, the key kept apart, the page and webMUSHRA."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from helpers.fakes import write_clips
from helpers.manifests import write_manifest
from helpers.zoo import chirp
from ruamel.yaml import YAML

from audiogen_cli.commands.eval import eval_
from audiogen_cli.data.audio import read_audio, write_audio
from audiogen_cli.data.loudness import loudness
from audiogen_cli.data.manifest import load_manifests
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.config import EvalConfig
from audiogen_cli.evaluation.listening import page as listening_page
from audiogen_cli.evaluation.listening.ratings import Plan
from audiogen_cli.evaluation.listening.stimuli import ListeningConfig, low_pass, match, prepare
from audiogen_cli.lock import release_folders

NAMES = [f"5-{index}-A-0" for index in range(12)]
Prepare = Callable[..., dict[str, Any]]


@pytest.fixture
def systems(tmp_path: Path) -> dict[str, Path]:
    seeds = {name: index for index, name in enumerate(NAMES)}
    return {
        name: write_clips(tmp_path / name, {key: seed + 50 * i for key, seed in seeds.items()}, duration=0.5)
        for i, name in enumerate(("okapi", "zebra"), 1)
    }


@pytest.fixture
def prepared(tmp_path: Path, clip_manifests: Path, systems: dict[str, Path]) -> Prepare:
    """Prepares a test of three items into tmp_path/test; its plan."""

    def run(
        out: str = "test", seed: int = 0, folders: dict[str, Path] | None = None, manifests: Path = clip_manifests
    ) -> dict[str, Any]:
        config = EvalConfig(out=tmp_path / out, split="esc50-test", manifests=manifests, seed=seed, limit=3)
        prepare(ListeningConfig(config, folders or systems), lambda done, total: None)
        plan: dict[str, Any] = json.loads((tmp_path / out / "plan.json").read_text())
        return plan

    return run


def page_data(path: Path) -> dict[str, Any]:
    """The JSON inside a page."""
    [text] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    data: dict[str, Any] = json.loads(text)
    return data


class TestStimuli:
    def test_a_systems_files_are_named_with_a_clips_own_suffix_or_without(
        self, prepared: Prepare, clip_manifests: Path, systems: dict[str, Path], tmp_path: Path
    ) -> None:
        clips = [replace(clip, id=f"{clip.id}.ogg") for clip in load_manifests(clip_manifests, ["esc50"], ["test"])]
        metadata = {"dataset": "esc50", "root": str(clip_manifests.parent / "raw"), "options": {}}
        write_manifest(tmp_path / "own" / "esc50.parquet", clips, metadata)
        for path in list(systems["zebra"].iterdir()):
            path.rename(path.with_suffix(".ogg.wav"))
        assert [item["id"][-4:] for item in prepared(manifests=tmp_path / "own")["items"]] == [".ogg"] * 3

    def test_pages_hold_the_conditions_and_an_anchor_each(self, prepared: Prepare) -> None:
        plan = prepared()
        assert len(plan["items"]) == 3
        for item in plan["items"]:
            ovl, rel = (set(item["pages"][question].values()) for question in ("ovl", "rel"))
            assert ovl == {"reference", "anchor35", "okapi", "zebra"}
            assert rel == {"reference", "anchor_wrong", "okapi", "zebra"}

    def test_files_of_a_page_are_alike(self, tmp_path: Path, prepared: Prepare) -> None:
        for item in prepared()["items"]:
            for key in item["pages"].values():
                files = {system: tmp_path / "test/listening/stimuli" / f"{blind}.wav" for blind, system in key.items()}
                headers = {(i.samplerate, i.channels, i.frames) for i in map(soundfile.info, map(str, files.values()))}
                assert headers == {(16_000, 1, 8_000)}
                for system, path in files.items():
                    if system != "anchor35":
                        assert loudness(read_audio(path), 16_000) == pytest.approx(item["loudness"], abs=0.1), system

    def test_names_tell_nothing(self, tmp_path: Path, prepared: Prepare) -> None:
        plan = prepared()
        shown = [path.relative_to(tmp_path / "test/listening") for path in (tmp_path / "test/listening").rglob("*.wav")]
        assert len(shown) == 3 * 5  # reference, two systems, two anchors: shared by the two pages of an item
        assert all(re.fullmatch(r"stimuli/[0-9a-f]{10}\.wav", str(path)) for path in shown)
        text = (tmp_path / "test/listening/index.html").read_text("utf-8")
        for secret in ("okapi", "zebra", "anchor", "esc50", *NAMES):
            assert secret not in text, secret
        assert not (tmp_path / "test/listening/plan.json").exists()
        assert Plan.load(tmp_path / "test/plan.json").test == plan["test"]

    def test_the_wrong_anchor_has_another_text(self, prepared: Prepare, clip_manifests: Path) -> None:
        texts = {clip.id: clip.texts[0] for clip in load_manifests(clip_manifests)}
        for item in prepared()["items"]:
            assert texts[item["wrong_clip"]] != texts[item["id"]]

    def test_clips_are_cut_to_the_shortest_of_their_page(self, tmp_path: Path, prepared: Prepare) -> None:
        short = write_clips(tmp_path / "short", dict.fromkeys(NAMES, 3), duration=0.4)
        assert {item["duration"] for item in prepared(folders={"short": short})["items"]} == {0.4}

    def test_same_seed_same_test_and_another_seed_another(self, tmp_path: Path, prepared: Prepare) -> None:
        first = prepared("one")
        assert prepared("two") == first
        assert prepared("three", seed=1)["test"] != first["test"]
        files = [sorted((tmp_path / out / "listening").rglob("*.*")) for out in ("one", "two")]
        assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]

    def test_another_test_does_not_take_the_place_of_one(self, prepared: Prepare) -> None:
        plan = prepared()
        assert prepared() == plan
        with pytest.raises(InputError, match=f"another listening test \\({plan['test']}\\)"):
            prepared(seed=1)

    def test_unusable_clips_are_left_out_with_a_reason(
        self, tmp_path: Path, clip_manifests: Path, systems: dict[str, Path]
    ) -> None:
        (systems["okapi"] / f"{NAMES[3]}.wav").write_bytes(b"")
        write_audio(systems["zebra"] / f"{NAMES[4]}.wav", chirp(0, 0.1))
        write_audio(systems["zebra"] / f"{NAMES[5]}.wav", np.zeros(8_000))
        config = EvalConfig(out=tmp_path / "test", split="esc50-test", manifests=clip_manifests)
        found = prepare(ListeningConfig(config, systems), lambda done, total: None)
        assert found.n == 10
        reasons = {item.id: item.reason for item in found.skipped}
        assert "empty" in reasons[f"esc50/{NAMES[3]}"] and "0.10 s" in reasons[f"esc50/{NAMES[4]}"]
        assert found.warnings == [f"esc50/{NAMES[5]}: zebra is silent"]


class TestLevels:
    def test_low_pass_meets_bs1534(self) -> None:
        impulse = np.zeros(16_001)
        impulse[8_000] = 1
        response = 20 * np.log10(np.abs(np.fft.rfft(low_pass(impulse, 16_000))) + 1e-9)
        hertz = np.fft.rfftfreq(16_001, 1 / 16_000)
        assert np.abs(response[hertz <= 3500]).max() < 0.1
        assert response[hertz >= 4000].max() < -25
        assert response[hertz >= 4500].max() < -50

    def test_a_peaky_sound_lowers_its_page(self) -> None:
        click = np.zeros(16_000)
        click[::4_000] = 0.5
        matched, level = match({"click": click, "noise": np.random.default_rng(0).normal(0, 0.1, 16_000)})
        assert level < -23
        assert max(np.abs(wav).max() for wav in matched.values()) <= 10 ** (-1 / 20) + 1e-6
        assert [loudness(wav, 16_000) for wav in matched.values()] == pytest.approx([level] * 2, abs=0.05)

    def test_it_lowers_it_by_12_db_at_most(self) -> None:
        click = np.zeros(16_000)
        click[8_000] = 1
        matched, level = match({"click": click, "noise": np.random.default_rng(0).normal(0, 0.1, 16_000)})
        assert level == pytest.approx(-35)
        assert loudness(matched["noise"], 16_000) == pytest.approx(-35, abs=0.05)
        assert np.abs(matched["click"]).max() == pytest.approx(10 ** (-1 / 20))

    def test_silence_stays_silent(self) -> None:
        matched, level = match({"silence": np.zeros(8_000)})
        assert level == -23 and not matched["silence"].any()
        assert loudness(matched["silence"], 16_000) == -math.inf


class Checker(HTMLParser):
    """Opened and closed tags match, ids are unique, labels have their field."""

    VOID = frozenset(["meta", "link", "input", "br", "img", "hr"])

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.labels: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [str(given["id"])] if "id" in given else []
        self.labels += [str(given["for"])] if "for" in given else []
        self.addresses += [str(given[name]) for name in ("src", "href") if name in given]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


class TestPage:
    def test_well_formed_and_alone(self, tmp_path: Path, prepared: Prepare) -> None:
        prepared()
        text = (tmp_path / "test/listening/index.html").read_text("utf-8")
        checker = Checker(text)
        assert not checker.open
        assert len(set(checker.ids)) == len(checker.ids)
        assert set(checker.labels) <= set(checker.ids)
        assert all(address.startswith("data:") for address in checker.addresses)
        assert "http://" not in text and "https://" not in text

    def test_prompts_cannot_break_out(self, tmp_path: Path, clip_manifests: Path, prepared: Prepare) -> None:
        evil = '</script><img src=x onerror="alert(1)">\u2028 & "dogs"'
        clips = [replace(clip, captions=(evil,)) for clip in load_manifests(clip_manifests)]
        metadata = {"dataset": "esc50", "root": str(clip_manifests.parent / "raw"), "options": {}}
        write_manifest(tmp_path / "manifests" / "esc50.parquet", clips, metadata)
        prepared(manifests=tmp_path / "manifests")
        path = tmp_path / "test/listening/index.html"
        assert "<img" not in path.read_text("utf-8")
        assert {item["text"] for item in page_data(path)["items"]} == {evil}
        yaml = (tmp_path / "test/listening/webmushra.yaml").read_text("utf-8")
        assert "<img" not in yaml and "&lt;img" in yaml

    def test_sounds_lie_beside_a_page_that_would_be_too_large(
        self, tmp_path: Path, prepared: Prepare, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prepared("small")
        assert all(uri.startswith("data:audio/wav;base64,") for uri in self._sounds(tmp_path / "small"))
        monkeypatch.setattr(listening_page, "MAX_EMBEDDED", 1000)
        prepared("large")
        folder = tmp_path / "large" / "listening"
        assert all((folder / uri).is_file() for uri in self._sounds(tmp_path / "large"))
        assert (folder / "index.html").stat().st_size < 50_000

    @staticmethod
    def _sounds(out: Path) -> list[str]:
        return list(page_data(out / "listening" / "index.html")["sounds"].values())


def test_webmushra_configuration(tmp_path: Path, prepared: Prepare) -> None:
    plan = prepared()
    folder = tmp_path / "test" / "listening"
    config = YAML(typ="safe").load(folder / "webmushra.yaml")
    assert [page["type"] for page in (config["pages"][0], config["pages"][-1])] == ["generic", "finish"]
    for question, block in zip(("ovl", "rel"), config["pages"][1:-1], strict=True):
        assert block[0] == "random"
        assert [page["id"] for page in block[1:]] == [f"{question}-{item['item']}" for item in plan["items"]]
        for page, item in zip(block[1:], plan["items"], strict=True):
            key = item["pages"][question]
            assert set(page["stimuli"]) == {blind for blind, system in key.items() if system != "reference"}
            assert all((folder / path).is_file() for path in [page["reference"], *page["stimuli"].values()])
            assert page["createAnchor35"] is page["createAnchor70"] is False
            assert (item["text"] in page["content"]) is (question == "rel")


class TestCommand:
    @pytest.mark.usefixtures("generator")
    def test_a_model_is_a_system(
        self, tmp_path: Path, clip_manifests: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "test"
        code = eval_(split="esc50-test", manifests=clip_manifests, task="listening", limit=2, out=out, json_=True)
        found = json.loads(capsys.readouterr().out)
        assert code == 0 and found["n"] == 2 and found["page"] == str(out / "listening" / "index.html")
        assert json.loads((out / "plan.json").read_text())["systems"] == ["model"]

    @pytest.mark.parametrize(
        ("system", "message"),
        [
            (["okapi"], "write it as NAME=FOLDER"),
            (["reference=x"], "cannot be called 'reference'"),
            (["a=x", "a=y"], "given twice"),
            ([f"s{i}=x" for i in range(11)], "takes 1 to 10 systems"),
            (["a=/nowhere"], "no such folder"),
        ],
    )
    def test_what_is_no_system(self, tmp_path: Path, clip_manifests: Path, system: list[str], message: str) -> None:
        with pytest.raises(InputError, match=message):
            eval_(split="esc50-test", manifests=clip_manifests, task="listening", system=system, out=tmp_path / "test")
        release_folders()
        assert not (tmp_path / "test").exists()

    def test_there_is_no_report_before_ratings(self, tmp_path: Path, clip_manifests: Path) -> None:
        with pytest.raises(InputError, match="give it with --score"):
            eval_(task="listening", split="esc50-test", manifests=clip_manifests, out=tmp_path / "test", report=True)

    def test_texts_are_needed(self, tmp_path: Path, systems: dict[str, Path]) -> None:
        with pytest.raises(InputError, match="give --split"):
            eval_(task="listening", reference=systems["okapi"], generated=systems["zebra"], out=tmp_path / "test")
