"""Words in the names of sound files and folders, and categories of the Universal Category System (UCS)."""

from __future__ import annotations

import csv
import re
import unicodedata
from functools import lru_cache

from audiogen_cli.files import RESOURCES

UCS_FILE = RESOURCES / "ucs" / "ucs_8.2.1_en.csv"

_SEPARATORS = re.compile(r"[^\w']|_")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_COUNTED_WORD = re.compile(r"([^\W\d_]{2,})\d+")
_CODE = re.compile(r"[^\W\d_]+\d\w*")
# A UCS name begins with a CatID, perhaps with a user category, before `_` (or, in some shops, a comma).
_UCS = re.compile(r"([A-Za-z]+)(?:-[^_,]*)?(?:[_,](.*))?$", re.DOTALL)


def name_words(name: str) -> str:
    """Return the words of a name without suffix: `DogBark_01` → `Dog Bark`, `IceCrack2` → `Ice Crack`.

    Counters, take and model codes (`07`, `A3`, `SW010`, `MKH416`) and single letters go; a number with its unit (`9mm`)
    stays. A word in capitals with a number is a code: `DSB8` has no words.
    """
    words = []
    for part in _SEPARATORS.split(unicodedata.normalize("NFC", name)):  # names of macOS archives are decomposed
        for piece in _HUMP.split(part):
            counted = _COUNTED_WORD.fullmatch(piece)
            word = counted.group(1) if counted and not counted.group(1).isupper() else piece
            if len(word) > 1 and not word.isdigit() and not _CODE.fullmatch(word):
                words.append(word)
    return " ".join(words)


def ucs_parts(stem: str) -> tuple[str, str] | None:
    """Return category words and description of a UCS file name (without suffix); None if it is none.

    `GUNAuto_Uzi 9mm Rapid Fire_TN_DORY` → (`guns automatic`, `Uzi 9mm Rapid Fire`). Creator and source, the blocks
    after the description, go. The first block must be one of UCS's 752 CatIDs: many vendors write `Words_Words`, too.
    """
    match = _UCS.match(stem)
    if match is None or match.group(1) not in ucs_categories():
        return None
    blocks = [block for block in (match.group(2) or "").split("_") if block.strip()]
    return ucs_categories()[match.group(1)], name_words(blocks[0]) if blocks else ""


@lru_cache(maxsize=1)
def ucs_categories() -> dict[str, str]:
    """Map CatIDs to category and subcategory in lower case, without the subcategory `misc`."""
    with UCS_FILE.open(encoding="utf-8", newline="") as file:
        return {
            row["CatID"]: " ".join(
                row[level].casefold() for level in ("Category", "SubCategory") if row[level] != "MISC"
            )
            for row in csv.DictReader(file)
        }
