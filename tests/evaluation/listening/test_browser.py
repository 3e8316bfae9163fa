"""The listening page in a real browser, rated from start to end; skips where no Chromium is installed.

Two raters: one with the keyboard alone, one with a break in the middle. Their CSV files score to values by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import Browser, find_chromium
from helpers.fakes import write_clips

from audiogen_cli.commands.eval import eval_
from audiogen_cli.evaluation.listening import page as listening_page
from audiogen_cli.evaluation.listening.ratings import PAGE_COLUMNS, Plan

N_ITEMS = 2
SHOWN = "!document.getElementById('page').hidden"
# system → scores of ann and bob per item. All within a few keys of an end of the scale.
SCORES = {
    "reference": {"ann": [98, 100], "bob": [97, 99]},
    "anchor35": {"ann": [1, 2], "bob": [3, 4]},
    "anchor_wrong": {"ann": [1, 1], "bob": [2, 2]},
    "model": {"ann": [4, 6], "bob": [5, 7]},
}


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(find_chromium(), tmp_path / "browser") as found:
        yield found


@pytest.fixture
def test_folder(tmp_path: Path, clip_manifests: Path) -> Path:
    """A prepared test with one system."""
    clips = write_clips(tmp_path / "clips", {f"5-{i}-A-0": i + 50 for i in range(12)}, duration=0.3)
    options = {"manifests": clip_manifests, "split": "esc50-test", "limit": N_ITEMS, "system": [f"model={clips}"]}
    assert eval_(task="listening", out=tmp_path / "test", **options) == 0  # type: ignore[arg-type]
    return tmp_path / "test"


class Rater:
    """Fills in the page, knowing the key."""

    def __init__(self, browser: Browser, folder: Path, name: str) -> None:
        self.browser, self.name = browser, name
        self.plan = Plan.load(folder / "plan.json")
        self.items = [item["item"] for item in json.loads((folder / "plan.json").read_text())["items"]]
        browser.open((folder / "listening" / "index.html").as_uri())

    def cards(self) -> list[tuple[str, int]]:
        """The conditions of the page that is shown, with the scores that they are to get."""
        names = self.browser.run("[...document.querySelectorAll('.sound')].map((card) => card.dataset.name)")
        [(question, item)] = [page for page, key in self.plan.pages.items() if set(key) == set(names)]
        key = self.plan.pages[question, item]
        return [(key[name], SCORES[key[name]][self.name][self.items.index(item)]) for name in names]

    def wait_heard(self, count: int) -> None:
        self.browser.wait(f"document.querySelectorAll('.heard.yes').length >= {count}")

    def finish(self) -> str:
        """Download the ratings; the CSV as text, which the page also shows."""
        browser = self.browser
        assert "All 4 pages are rated" in browser.run("document.getElementById('summary').textContent")
        shown: str = browser.run("document.getElementById('csv').value")
        browser.run("document.getElementById('download').click()")
        path = browser.folder / "downloads" / f"ratings-{self.plan.test}-{self.name}.csv"
        for _ in range(2_000):
            if path.is_file() and path.stat().st_size >= len(shown):
                break
            browser.run("new Promise((done) => setTimeout(done, 50))")
        assert path.read_text("utf-8").replace("\r\n", "\n") == shown.replace("\r\n", "\n")
        assert not browser.errors
        return shown


def rate_by_keyboard(browser: Browser, folder: Path) -> None:
    """ann touches no mouse: Tab, Enter, space, digits and arrows."""
    rater = Rater(browser, folder, "ann")

    def tab_to(selector: str) -> None:
        for _ in range(40):
            if browser.run(f"document.activeElement.matches({json.dumps(selector)})"):
                return
            browser.key("Tab")
        raise AssertionError(f"Tab does not reach {selector}")

    tab_to("#rater")
    for letter in "ann":
        browser.key(letter)
    tab_to("#headphones")
    browser.key(" ")
    tab_to("#start button")
    browser.key("Enter")
    browser.wait(SHOWN)
    for number in range(4):
        assert browser.run("document.getElementById('where').textContent") == f"Page {number + 1} of 4"
        for index, (_, score) in enumerate(rater.cards()):
            browser.key(str(index + 1), code=f"Digit{index + 1}")
            rater.wait_heard(index + 1)
            tab_to(f".sound:nth-child({index + 1}) input")
            browser.key("Home" if score < 50 else "End")
            for _ in range(score - 1 if score < 50 else 100 - score):
                browser.key("ArrowRight" if score < 50 else "ArrowLeft")
        tab_to("#next")
        browser.key("Enter")
    browser.wait("!document.getElementById('done').hidden")
    rater.finish()


def rate_with_a_break(browser: Browser, folder: Path) -> None:
    """bob skips ahead in vain, then closes the page after two pages and comes back."""
    rater = Rater(browser, folder, "bob")

    def start() -> None:
        browser.run("document.getElementById('rater').value = 'bob'")
        browser.run("document.getElementById('headphones').checked = true")
        browser.run("document.querySelector('#start button').click()")
        browser.wait(SHOWN)

    def rate() -> None:
        for index, (_, score) in enumerate(rater.cards()):
            card = f"document.querySelectorAll('.sound')[{index}]"
            browser.run(f"{card}.querySelector('.play').click()")
            rater.wait_heard(index + 1)
            browser.run(
                f"(() => {{ const s = {card}.querySelector('input'); s.value = {score};"
                " s.dispatchEvent(new Event('input')); })()"
            )
        browser.run("document.getElementById('next').click()")

    start()
    browser.run("document.getElementById('next').click()")
    missing = browser.run("document.getElementById('missing').textContent")
    assert missing.startswith("Not yet: sound 1 not heard to its end and not rated; sound 2 not heard")
    rate()
    rate()
    before = browser.run("document.querySelector('.sound').dataset.name")
    browser.call("Page.reload")
    browser.wait("document.readyState === 'complete' && document.getElementById('page').hidden")
    start()
    assert browser.run("document.getElementById('where').textContent") == "Page 3 of 4"
    assert browser.run("document.querySelector('.sound').dataset.name") == before  # the same order again
    rate()
    rate()
    browser.wait("!document.getElementById('done').hidden")
    rater.finish()


def test_rated_from_start_to_end(browser: Browser, test_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rate_by_keyboard(browser, test_folder)
    rate_with_a_break(browser, test_folder)

    downloads = browser.folder / "downloads"
    lines = (downloads / next(downloads.iterdir()).name).read_text("utf-8").splitlines()
    assert lines[0] == ",".join(PAGE_COLUMNS) and len(lines) == 1 + 4 * 3
    capsys.readouterr()
    assert eval_(score=[downloads], out=test_folder, json_=True) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    for question, anchor, low in (("ovl", "anchor35", 2.5), ("rel", "anchor_wrong", 1.5)):
        systems = found["details"][question]["systems"]
        assert {name: row["mean"] for name, row in systems.items()} == {"reference": 98.5, anchor: low, "model": 5.5}
        assert {row["ratings"] for row in systems.values()} == {4}
        # 4, 6, 5, 7: SD 1.29099, t(3) 3.18245. Raters' means 5 and 6, items' 4.5 and 6.5: item 1, rater 0.25, noise 0.
        assert systems["model"]["ci95"] == pytest.approx(3.182446 * 1.290994 / 2, rel=1e-5)
        assert systems["model"]["crowdmos_ci95"] == pytest.approx(12.706205 * 0.625**0.5, rel=1e-5)
        assert not found["details"][question]["dropped"]
    assert found["plan"]["items"] == N_ITEMS


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sounds lie beside the page, as those of a large test do."""
    monkeypatch.setattr(listening_page, "MAX_EMBEDDED", 0)


def test_orders_differ_and_sounds_may_lie_beside(beside: None, browser: Browser, test_folder: Path) -> None:
    orders = set()
    for name in ("ann", "bob", "cleo", "dan"):
        browser.open((test_folder / "listening" / "index.html").as_uri())
        browser.run(f"document.getElementById('rater').value = '{name}'")
        browser.run("document.getElementById('headphones').checked = true")
        browser.run("document.querySelector('#start button').click()")
        browser.wait(SHOWN)
        orders.add(tuple(browser.run("[...document.querySelectorAll('.sound')].map((card) => card.dataset.name)")))
    assert len(orders) > 1
    browser.run("document.querySelector('.play').click()")
    browser.wait("document.querySelectorAll('.heard.yes').length === 1")
    assert not browser.errors
