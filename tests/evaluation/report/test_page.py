"""Reports: every task's sections, sweeps, sounds in the page and out of it, and texts that would like to be code."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from helpers.browser import Browser, find_chromium
from helpers.fakes import write_clips
from helpers.zoo import chirp

from audiogen_cli.commands.eval import eval_
from audiogen_cli.data.audio import write_audio
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.audio_sources import Recording
from audiogen_cli.evaluation.report import audio as report_sounds
from audiogen_cli.evaluation.report import page as report_module
from audiogen_cli.evaluation.report.audio import Budget, encode
from audiogen_cli.evaluation.report.page import write_report

pytest.importorskip("matplotlib")

NAMES = [f"5-{index}-A-0" for index in range(12)]
EVIL = "</h3><script>alert(1)</script> \"'&$x$"


def results(**changed: Any) -> dict[str, Any]:
    """What eval writes, of the task generation, about the folders `reference` and `generated`."""
    given: dict[str, Any] = {
        "task": "generation",
        "split": None,
        "partial": False,
        "n": 12,
        "n_available": 12,
        "metrics": {"fad_yamnet": 12.25, "kl_yamnet": 3.5},
        "baselines": {"silence": {"fad_yamnet": 400.0, "kl_yamnet": None}},
        "published": {},
        "intervals": {"kl_yamnet": [3.0, 4.0]},
        "details": {"clips": {"id": NAMES, "kl_yamnet": [float(i) for i in range(12)]}},
        "warnings": ["few clips"],
        "skipped": [],
        "reference": "reference",
        "generated": "generated",
        "sampling": {"guidance": 3.0, "top_p": 0.25},
        "seed": 0,
        "versions": {"numpy": "1"},
    }
    return given | changed


def continuation() -> dict[str, Any]:
    cells = [
        {"prompt_seconds": seconds, "text": text, "scored": scored, "fad_yamnet": 9.0, "kl_yamnet_src": 3 - seconds,
         "kl_yamnet_rnd": None if text == "src" else 1 + seconds, "intervals": {"kl_yamnet_src": [0.5, 3.5]}}
        for scored in ("whole", "continuation") for seconds in (0.1, 0.2, 0.3) for text in ("src", "none", "rnd")
    ]  # fmt: skip
    details = {"cells": cells, "pairs": {NAMES[0]: NAMES[1], NAMES[1]: NAMES[0]}, "published": []}
    return results(task="continuation", details=details, metrics={}, intervals={})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results go; the recordings they name lie in the working folder."""
    monkeypatch.chdir(tmp_path)
    write_clips(tmp_path / "reference", {name: index for index, name in enumerate(NAMES)}, duration=0.5)
    write_clips(tmp_path / "generated", {name: 50 + index for index, name in enumerate(NAMES)}, duration=0.5)
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def report(folder: Path, given: dict[str, Any]) -> str:
    (folder / "results.json").write_text(json.dumps(given))
    return write_report(folder).read_text("utf-8")


class Page(HTMLParser):
    """What a page holds; fails on tags that do not match and ids that are not unique."""

    VOID = frozenset(["meta", "link", "img", "br"])

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        ids = [attributes["id"] for _, attributes in self.tags if "id" in attributes]
        assert not self.open and len(ids) == len(set(ids))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def titles(text: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", text)


class TestGeneration:
    def test_sections_and_ends(self, folder: Path) -> None:
        text = report(folder, results())
        assert titles(text) == [
            "Results",
            "Clip by clip",
            "Best pairs by KL yamnet",
            "Worst pairs by KL yamnet",
            "What the numbers depend on",
        ]
        shown = re.findall(r'<p class="note">(5-\d+-A-0) · KL yamnet ([\d.]+)</p>', text)
        assert [name for name, _ in shown] == [*NAMES[:6], *reversed(NAMES[6:])]
        for expected in ("3.5 [3, 4]", "few clips", "sampling.guidance", "versions.numpy", "<td>400</td>"):
            assert expected in text

    def test_players_hold_the_sounds(self, folder: Path) -> None:
        page = Page(report(folder, results()))
        audio = page.all("audio")
        assert len(audio) == 2 * 12
        content = base64.b64decode(str(audio[0]["src"]).removeprefix("data:audio/flac;base64,"))
        wav, rate = soundfile.read(io.BytesIO(content))
        assert rate == 16_000 and np.abs(wav - chirp(0, 0.5)).max() < 1 / 32768
        assert all(str(tag["src"]).startswith("data:") for tag in page.all("img"))
        assert all(tag["alt"] for tag in page.all("img"))

    def test_texts_are_no_code(self, folder: Path, clip_manifests: Path) -> None:
        evil = [f"{EVIL}{index}" for index in range(12)]
        details = {"clips": {"id": evil, "kl_yamnet": [1.0] * 12}}
        skipped = [{"id": EVIL, "reason": EVIL}]
        given = results(details=details, warnings=[EVIL], skipped=skipped, sampling={EVIL: EVIL}, baselines={EVIL: {}})
        given["metrics"] = {**given["metrics"], EVIL: 1.0}
        text = report(folder, given)
        assert not Page(text).all("script") and "".join(Page(text).text).count(EVIL) > 15

    def test_a_large_page_says_what_it_leaves_out(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        one = len(encode(Recording(Path("reference") / f"{NAMES[0]}.wav").read()))
        monkeypatch.setattr(report_module, "Budget", lambda: Budget(left=int(4.5 * one)))
        text = report(folder, results())
        assert 3 <= len(Page(text).all("audio")) <= 5
        assert re.search(r"\d\d sounds were left out: the page holds 24 MB of audio at most", text)
        assert "left out to keep the page small: generated/" in text

    @pytest.mark.parametrize("reference", ["reference", "elsewhere"])
    def test_files_named_without_the_clips_own_suffix(self, folder: Path, reference: str) -> None:
        for path in list(Path("reference").iterdir()):
            path.rename(path.with_suffix(".ogg.wav"))
        details = {"clips": {"id": [f"{name}.ogg" for name in NAMES], "kl_yamnet": [1.0] * 12}}
        text = report(folder, results(details=details, reference=reference))
        assert len(Page(text).all("audio")) == (2 if reference == "reference" else 1) * 12

    def test_recordings_that_are_gone(self, folder: Path) -> None:
        text = report(folder, results(reference="elsewhere", generated="nowhere"))
        assert "elsewhere: no such folder" in text and not Page(text).all("audio")

    def test_an_unreadable_sound_costs_its_player(self, folder: Path) -> None:
        Path("generated", f"{NAMES[0]}.wav").write_bytes(b"RIFF")
        text = report(folder, results())
        assert "not readable" in text and "1 sounds could not be read again" in text
        assert len(Page(text).all("audio")) == 2 * 12 - 1

    def test_without_kl_there_are_examples(self, folder: Path) -> None:
        text = report(folder, results(details={"clips": {"id": NAMES}}))
        assert "Examples" in titles(text) and len(Page(text).all("audio")) == 2 * 12

    def test_same_results_same_page(self, folder: Path) -> None:
        assert report(folder, results()) == report(folder, results())

    def test_class_hits(self, folder: Path) -> None:
        hits = {
            row: {"dog": {"n": 4, "top1": 0.25, "top5": top5}} for row, top5 in (("generated", 0.5), ("reference", 1))
        }
        details = {**results()["details"], "class_hits": hits}
        text = report(folder, results(details=details))
        assert '<th scope="row">dog</th><td>25%</td><td>50%</td><td>25%</td><td>100%</td>' in text


class TestOtherTasks:
    def test_continuation(self, folder: Path) -> None:
        for text in ("src", "none", "rnd"):
            write_clips(folder / "continuation" / f"0.2s-{text}", {NAMES[0]: 7, NAMES[1]: 8}, duration=0.5)
        text = report(folder, continuation())
        assert titles(text)[:3] == [
            "Results (Table 4)", "KL against prompt length (Figure 2)", "Continuations (Figure 4)"
        ]  # fmt: skip
        page = Page(text)
        assert len(page.all("audio")) == 2 * 4
        alts = [str(image["alt"]) for image in page.all("img")]
        assert len(alts) == 4 and sum("dashed at 0.2 s" in alt for alt in alts) == 2
        assert "0.2 s" in text and "2.8 [0.5, 3.5]" in text

    def test_silence_has_no_spectrogram(self, folder: Path) -> None:
        for name in NAMES:
            write_audio(Path("reference") / f"{name}.wav", np.zeros(8_000))
        assert "Mel spectrograms" not in report(folder, continuation())

    def test_codec(self, folder: Path) -> None:
        usage = {"entropy_bits": [3.0, 2.5], "perplexity": [8.0, 5.7], "used": [1.0, 0.5], "kbps": 1.0}
        given = results(task="codec", metrics={"si_snr": 5.1}, intervals={}, details={"code_usage": usage})
        text = report(folder, given)
        assert "Code usage" in titles(text) and "SI SNR" in text and '<th scope="row">stream 2</th><td>2.5</td>' in text

    def test_listening(self, folder: Path, tmp_path: Path) -> None:
        rows = [
            f"{rater},{item},{system},{score}"
            for rater, reference in (("ann", 95), ("bob", 90), ("<i>eve</i>", 50))
            for item in "xy"
            for system, score in (("reference", reference), ("a", 60), ("b", 40))
        ]
        (tmp_path / "r.csv").write_text("\n".join(["rater,item,system,score", *rows]))
        assert eval_(score=[tmp_path / "r.csv"], out=folder, report=True) == 0
        text = (folder / "report.html").read_text("utf-8")
        assert "2 of 3 raters count" in text and "a - b" in text and "&lt;i&gt;eve&lt;/i&gt;" in text
        assert not Page(text).all("i")


class TestSweep:
    def sweep(self, folder: Path, **changes: dict[str, Any]) -> str:
        for name, changed in changes.items():
            (folder / name).mkdir()
            (folder / name / "results.json").write_text(json.dumps(results(**changed)))
        return write_report(folder).read_text("utf-8")

    def test_curves_over_guidance(self, folder: Path) -> None:
        text = self.sweep(
            folder,
            **{
                f"g{g}-p{p}": {"sampling": {"guidance": g, "top_p": p / 100}, "metrics": {"fad_yamnet": 10.0 + g}}
                for g in (1, 2, 3)
                for p in (25, 50)
            },
        )
        assert "<h1>6 runs in run</h1>" in text and "Curves" in titles(text)
        [image] = Page(text).all("img")
        assert image["alt"] == "Curves of fad_yamnet against guidance"
        head = re.findall(r'<th scope="col">(.*?)</th>', text)
        assert head[:5] == ["run", "guidance", "top p", "clips", "FAD yamnet"]
        assert '<th scope="row">g2-p50</th><td>2</td><td>0.5</td><td>12</td><td>12</td>' in text

    def test_bars_over_names(self, folder: Path) -> None:
        text = self.sweep(folder, base={"model": "base"}, large={"model": "large", "n": 11})
        assert "Bars of each metric by run" in text and "different numbers of clips" in text
        assert text.count("few clips") == 1 and "few clips (all runs)" in text

    def test_folders_in_folders(self, folder: Path) -> None:
        (folder / "a").mkdir()
        self.sweep(folder / "a", x={}, y={"seed": 1})
        assert "<h1>2 runs in run</h1>" in write_report(folder).read_text("utf-8")

    @pytest.mark.parametrize(
        ("content", "message"),
        [(None, "no results.json here"), ("{}", "not the results"), ("[1]", "not the results"), ("{", "not readable")],
    )
    def test_what_is_no_result(self, folder: Path, content: str | None, message: str) -> None:
        if content is not None:
            (folder / "results.json").write_text(content)
        with pytest.raises(InputError, match=message):
            write_report(folder)
        assert not (folder / "report.html").exists()

    def test_one_line_without_matplotlib(self, folder: Path) -> None:
        (folder / "results.json").write_text(json.dumps(results()))
        code = (
            "import sys; sys.modules['matplotlib'] = None; from audiogen_cli.app import main;"
            f" sys.argv = ['audiogen', 'eval', '--report', '--out', {str(folder)!r}]; main()"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "audiogen-cli[report]" in done.stderr
        assert not (folder / "report.html").exists()


def test_in_a_browser(folder: Path, tmp_path: Path) -> None:
    """Every picture and sound of the page decodes, and nothing is asked of the network."""
    report(folder, results())
    with Browser(find_chromium(), tmp_path / "browser") as browser:
        browser.open((folder / "report.html").as_uri())
        browser.wait("[...document.querySelectorAll('audio')].every((sound) => sound.duration > 0.4)")
        assert browser.run("[...document.images].every((image) => image.naturalWidth > 10)")
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        browser.media(380, 800, "dark", mobile=True)
        assert browser.run("document.documentElement.scrollWidth") <= 380
        assert not browser.errors


def test_the_limit_is_what_the_page_says() -> None:
    assert report_sounds.MAX_AUDIO == Budget().left == 24 << 20


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": None},
        {"metrics": {"kl_yamnet": "3"}},
        {"n": None},
        {"intervals": {"kl_yamnet": [1.0]}},
        {"details": {"clips": {"id": ["a"], "kl_yamnet": []}}},
        {"details": {"class_hits": {"generated": {"dog": {"top1": 1.0}}}}},
        {"details": []},
        {"skipped": [["x", "y"]]},
        {"task": "singing"},
        {"metrics": {f"m{number}": 1.0 for number in range(1000)}},
    ],
)
def test_damaged_results_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / "results.json").write_text(json.dumps(results(**change)))
    with pytest.raises(InputError, match=r"results\.json: not the results of audiogen eval: "):
        write_report(tmp_path)
