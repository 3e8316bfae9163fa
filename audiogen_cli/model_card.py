"""Model cards: the README.md of a folder that a training writes, with the header that the Hugging Face hub reads."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from audiogen_cli.files import read_json, read_text, write_text
from audiogen_cli.training.log import RUN_FILE, read_metrics, read_run

CARD_FILE = "README.md"
MARK = "<!-- Written by a training of audiogen, which replaces it as long as this line is here. -->"
COMMANDS = {
    "lm": 'audiogen generate "a dog barks" --model {name} -o dog.wav',
    "adapter": 'audiogen generate "a dog barks" --model {base} --adapter {name} -o dog.wav',
    "codec": "audiogen tokenize --codec {name}",
}
WHAT = {"lm": "A text-to-audio language model", "adapter": "An adapter (LoRA) for a text-to-audio model",
        "codec": "An audio codec"}  # fmt: skip


def write_card(folder: Path, run: Path) -> None:
    """Write the card of a model folder of a run; somebody else's card is kept.

    run: has `run.json` and `metrics.jsonl`, which it tells of; without them there is no card.
    """
    path = folder / CARD_FILE
    if not (run / RUN_FILE).is_file() or (path.is_file() and MARK not in read_text(path, "replace")):
        return
    document, record = read_json(folder / "config.json"), read_run(run)
    kind, base = document["kind"], record.inputs.get("base_model")
    lines = (folder / "LICENSE").read_text("utf-8").strip().splitlines() or ["not stated"]
    last = {line["kind"]: line for line in read_metrics(run)}
    measured = {**last.get("train", {}), **last.get("val", {})}
    header = {
        **license_header(lines[0]),
        "library_name": "audiogen",
        "pipeline_tag": "audio-to-audio" if kind == "codec" else "text-to-audio",
        "tags": ["audiogen", kind, "sound-effects", *(["lora", "peft"] if kind == "adapter" else [])],
        "datasets": record.inputs.get("datasets", []),
        "metrics": [name for name in measured if name.startswith(("loss", "si_snr", "visqol", "mel"))],
        **({"base_model": base.partition("@")[0]} if base and "/" in base else {}),
    }
    facts = {
        "data": ", ".join(record.inputs.get("datasets", [])) or "not recorded",
        "trained from": base or "random weights",
        "steps": max((line["step"] for line in last.values()), default="none logged"),
        **{f"{name} ({split})": f"{line[name]:.4g}" for split, line in last.items() for name in line
           if isinstance(line[name], float) and name in header["metrics"]},
        "license": lines[0],
        "made with": ", ".join(f"{name} {each}" for name, each in record.versions.items()),
    }  # fmt: skip
    command = COMMANDS[kind].format(name="OWNER/NAME", base=base)
    text = [
        "---",
        *(f"{name}: {json.dumps(value)}" for name, value in header.items()),
        "---",
        MARK,
        f"# {run.absolute().name}\n",
        f"{WHAT[kind]}, trained with audiogen {version('audiogen-cli')}.\n",
        "| | |\n| --- | --- |",
        *(f"| {name} | {_cell(value)} |" for name, value in facts.items()),
        f"\n```sh\npip install audiogen-cli\n{command}\n```\n",
        "Recipe and command of the training:\n",
        f"```json\n{json.dumps({'command': record.command, 'recipe': record.recipe}, indent=1)}\n```",
    ]
    write_text(path, "\n".join(text) + "\n")


def license_header(line: str) -> dict[str, str]:
    """Return the header's license entries for the first line of a license: one that the hub knows, else `other`."""
    text = line.lower() if ";" not in line else ""  # several licenses are none that the hub knows
    if found := re.match(r"cc[ -]by((?:-(?:nc|sa|nd))*)[ -](\d\.\d)", text):
        return {"license": f"cc-by{found[1]}-{found[2]}"}
    for start, known in (("cc0", "cc0-1.0"), ("mit", "mit"), ("apache", "apache-2.0")):
        if text.startswith(start):
            return {"license": known}
    return {"license": "other", "license_name": line[:80], "license_link": "LICENSE"}


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
