"""The raters' page, which works from a file and without a network, and a configuration for webMUSHRA."""

from __future__ import annotations

from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

from audiogen_cli.evaluation.listening.ratings import PAGE_COLUMNS, REFERENCE
from audiogen_cli.evaluation.templates import MIME, data_uri, render_page
from audiogen_cli.files import write_text

MAX_EMBEDDED = 48 << 20  # bytes of audio inside the page; more goes beside it, as browsers are slow with such pages
TASKS = {
    "ovl": {
        "title": "Quality",
        "question": "How good is the quality of each sound?",
        "hint": "Judge the sound alone: is it clear and natural, or noisy, muffled and distorted?"
        " What it is a sound of does not matter here.",
        "text": False,
    },
    "rel": {
        "title": "Match to the text",
        "question": "How well does each sound match the text?",
        "hint": "Judge the content alone: does it hold what the text says, and nothing else?"
        " The quality of the sound does not matter here.",
        "text": True,
    },
}


def write_page(path: Path, plan: dict[str, Any], stimuli: Path) -> Path:
    """Write the page for raters. stimuli: the folder of blind WAV files, embedded if they are not too many.

    Blind names are all that the page knows: neither systems nor clip ids are in it.
    """
    names = sorted({blind for item in plan["items"] for key in item["pages"].values() for blind in key})
    embedded = sum((stimuli / f"{name}.wav").stat().st_size for name in names) <= MAX_EMBEDDED
    sounds = {name: _address(stimuli / f"{name}.wav", embedded) for name in names}
    data = {
        "test": plan["test"],
        "columns": PAGE_COLUMNS,
        "tasks": {question: TASKS[question] for question in plan["questions"]},
        "questions": plan["questions"],
        "items": [
            {
                "item": item["item"],
                "text": item["text"],
                # By name: the plan's own order would tell where the reference is.
                "pages": {question: sorted(key) for question, key in item["pages"].items()},
            }
            for item in plan["items"]
        ],
        "sounds": sounds,
    }
    seconds = sum(item["duration"] * len(key) for item in plan["items"] for key in item["pages"].values())
    n_pages = sum(len(item["pages"]) for item in plan["items"])
    page = render_page("listening/page.html", data=data, minutes=max(1, round(1.5 * seconds / 60)), n_pages=n_pages)
    write_text(path, page)
    return path


def write_webmushra(path: Path, plan: dict[str, Any]) -> None:
    """Write a configuration of webMUSHRA with the same pages, anchors as files of our own.

    webMUSHRA always shows the reference openly, beside the hidden one; its own anchors are left off, for they die on
    rates other than a browser's usual ones.
    """
    from ruamel.yaml import YAML

    config = {
        "testname": "Listening test",
        "testId": f"audiogen_{plan['test']}",
        "bufferSize": 2048,
        "stopOnErrors": True,
        "showButtonPreviousPage": True,
        "remoteService": "service/write.php",
        "pages": [
            {
                "type": "generic",
                "id": "welcome",
                "name": "Welcome",
                "content": "Please use headphones in a quiet room and listen to every sound to its end.",
            },
            *[["random", *_mushra_pages(plan, question)] for question in plan["questions"]],
            {
                "type": "finish",
                "name": "Thank you",
                "content": "Please send your ratings.",
                "showResults": False,
                "writeResults": True,
                "questionnaire": [{"type": "text", "label": "Your name or code", "name": "rater"}],
            },
        ],
    }
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    text = StringIO()
    text.write("# For webMUSHRA: copy this file to its configs/, and stimuli/ into its own folder.\n")
    yaml.dump(config, text)
    write_text(path, text.getvalue())


def _address(path: Path, embedded: bool) -> str:
    return data_uri(path.read_bytes(), MIME[path.suffix]) if embedded else f"{path.parent.name}/{path.name}"


def _mushra_pages(plan: dict[str, Any], question: str) -> list[dict[str, Any]]:
    task = TASKS[question]
    pages = []
    for item in plan["items"]:
        key = item["pages"][question]
        files = {system: f"stimuli/{blind}.wav" for blind, system in key.items()}
        shown = f"<p>“{escape(item['text'])}”</p>" if task["text"] else ""
        pages.append(
            {
                "type": "mushra",
                "id": f"{question}-{item['item']}",
                "name": task["title"],
                "content": f"<p>{escape(str(task['question']))}</p>{shown}<p>{escape(str(task['hint']))}</p>",
                "showWaveform": False,
                "enableLooping": False,
                "strict": False,  # it refuses what lasts longer than 12 s
                "reference": files[REFERENCE],
                "createAnchor35": False,
                "createAnchor70": False,
                "randomize": True,
                "showConditionNames": False,
                "stimuli": {blind: f"stimuli/{blind}.wav" for blind, system in key.items() if system != REFERENCE},
            }
        )
    return pages
