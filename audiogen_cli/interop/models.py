"""The models that can be used: the package's, the public one, and those in the folders here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from audiogen_cli.errors import InputError
from audiogen_cli.hub import PUBLIC_MODEL
from audiogen_cli.model_folder import (
    EMBEDDED_MODEL,
    EMBEDDED_NAME,
    find_model,
    license_line,
    read_document,
    read_license,
    weight_facts,
)

PLACES = ("models", "runs")  # folders in which people keep theirs
MAX_OWN = 50
# Measured on two cores: the embedded model, see its model card. Of the public one, which nobody has run here, only the
# size of its files is known, what so many numbers and T5-large's encoder take, and the speed of a model of its shape.
EMBEDDED = {"memory": "0.8 GB", "speed": "2.4 times real time on two cores, 12 candidates"}
PUBLIC = {
    "model": PUBLIC_MODEL,
    "parameters": "1.8B, and T5-large",
    "size": "3.9 GB, and T5-large",
    "memory": "about 4 GB in int8 on a CPU, 5 GB in bfloat16 (computed)",
    "speed": "0.11 times real time in int8, 0.16 in int4 on two cores (random weights)",
    "license": "CC BY-NC 4.0",
}


def list_models(folder: Path) -> list[dict[str, str]]:
    """Describe the embedded model, the public one, and up to MAX_OWN language models in PLACES of a folder.

    Each: model (what `--model` takes), parameters, size, memory, speed, license.
    """
    own = []
    for path in sorted(path for place in PLACES for path in (folder / place).glob("*") if path.is_dir()):
        try:
            found = find_model(path)
            if read_document(found).kind == "lm":
                own.append({**_describe(found), "model": str(path.relative_to(folder))})
        except InputError:
            continue  # another kind of folder
    return [{**_describe(EMBEDDED_MODEL), "model": EMBEDDED_NAME, **EMBEDDED}, PUBLIC, *own[:MAX_OWN]]


def _describe(folder: Path) -> dict[str, Any]:
    files = [path for path in (folder / "model.safetensors", folder / "codec" / "model.safetensors") if path.is_file()]
    facts = [weight_facts(path) for path in files]
    parameters = sum(each["parameters"] for each in facts)
    return {
        "model": str(folder),
        "parameters": f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.1f}M",
        "size": f"{sum(each['megabytes'] for each in facts):,.0f} MB",
        "memory": f"{(4 * parameters) / 1e6:,.0f} MB of weights",
        "speed": "audiogen bench lm --model",
        "license": license_line(read_license(folder)).partition(":")[0],
    }
