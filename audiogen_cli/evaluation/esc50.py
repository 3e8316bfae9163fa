"""ESC-50's categories and their names in AudioSet, for the class-following test.

The mapping follows the AudioSet ontology: a category's own name, its synonyms and its kinds count ('Bark' for dog); its
broad parents ('Animal', 'Vehicle') do not, since half of all clips would hit them. can_opening, drinking_sipping,
mouse_click and washing_machine have no class in AudioSet: the sounds that they consist of stand in for them, and even
real clips seldom hit.
"""

from __future__ import annotations

import json

from audiogen_cli.files import RESOURCES

AUDIOSET_NAMES: dict[str, frozenset[str]] = {
    category: frozenset(names)
    for category, names in json.loads((RESOURCES / "esc50_audioset.json").read_text("utf-8")).items()
}
