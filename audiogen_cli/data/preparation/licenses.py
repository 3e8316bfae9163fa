"""Licenses of clips as publishers write them, brought to one name each: what `audiogen prep --license` chooses by."""

from __future__ import annotations

import re
from collections.abc import Iterable

from audiogen_cli.errors import InputError

LICENSES = (
    *("cc0", "public-domain", "cc-by", "cc-by-sa", "cc-by-nd", "cc-by-nc", "cc-by-nc-sa", "cc-by-nc-nd"),
    *("sampling+", "remarc"),
)
_ADDRESS = re.compile(r"https?://(?:www\.)?creativecommons\.org/(licenses|publicdomain)/([a-z+-]+).*", re.DOTALL)
_SPELLINGS = {
    r"[\s_/-]+": " ",
    "creative commons": "cc",
    "attribution": "by",
    "non ?commercial": "nc",
    "share ?alike": "sa",
    r"no ?deriv\w*": "nd",
    "zero": "0",
    r"\bv?\d\.\d\b|\b(?:unported|international|generic|universal|licen[cs]e|the)\b": "",
    "^ *cc (?=.)": "",
}


def license_key(text: str) -> str:
    """Return the name in `LICENSES` that a license means in any of its spellings, or an empty string.

    `CC BY 4.0`, `Attribution`, `http://creativecommons.org/licenses/by/3.0/` → `cc-by`. A text about several
    things (`audio: its uploaders'; labels CC BY 4.0`) means none.
    """
    folded = text.casefold().strip().partition(":")[0] if text.startswith("RemArc:") else text.casefold().strip()
    if match := _ADDRESS.fullmatch(folded):
        kind, name = match.groups()
        folded = name if kind == "licenses" or name == "zero" else "public domain"
    for spelling, short in _SPELLINGS.items():
        folded = re.sub(spelling, short, folded)
    key = "-".join(folded.split())
    return next((name for name in (key, f"cc-{key}", f"cc{key}") if name in LICENSES), "")


def read_licenses(names: Iterable[str]) -> frozenset[str]:
    """Return what a user asked to keep. Raises InputError for a name that is no license we know."""
    keys = {name: license_key(name) for name in names}
    if unknown := [name for name, key in keys.items() if not key]:
        raise InputError(f"--license: '{unknown[0]}' is none of {', '.join(LICENSES)}")
    return frozenset(keys.values())
